import type { Explanation } from '../explain/index.js';
import type { GeneratedSequence } from '../generation/types.js';
import type { ImageConfig } from '../image/image-config.js';
import type { Git } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { Picture } from './pictures.js';
import type { SeenPicture } from './seen.js';
import type {
  Answer,
  AnswerOptions,
  Caption,
  CaptionOptions,
  CaptionStreamOptions,
  ClassifyOptions,
  ClassScore,
  Embedding,
  EmbedOptions,
  ExplainOptions,
  LookOptions,
  TextScore,
} from './types.js';
import type { Video } from './videos.js';

/** Options of `generate`: ids instead of text. */
export type GenerateSequencesOptions = Omit<CaptionOptions, 'prompt'> & {
  /** Ids that each row starts with, [CLS] included; one list for all pictures, or one for each. Default: [CLS] alone. */
  readonly inputIds?: readonly number[] | readonly (readonly number[])[];
};

/**
 * A loaded model. Every method may be called any number of times, also at once; `dispose` frees it. A list of pictures, videos or
 * questions gives a list of results. Everything throws ImageError, OptionError, BackendError, DisposedError or the signal's reason, and
 * leaves no tensor behind then.
 */
export interface Image2Text {
  readonly git: Git;
  readonly config: GitConfig;
  readonly tokenizer: Tokenizer;
  readonly imageConfig: ImageConfig;
  /** Says what is in a picture. Without options it decodes as the original project does: 4 beams, length penalty 0.6. */
  caption(picture: Picture, options?: CaptionOptions): Promise<Caption>;
  caption(pictures: readonly Picture[], options?: CaptionOptions): Promise<Caption[]>;
  /** Answers questions about one picture, which is encoded once for all of them. Questions are cut as the original cuts them, to 38 tokens. */
  answer(picture: Picture, question: string, options?: AnswerOptions): Promise<Answer>;
  answer(picture: Picture, questions: readonly string[], options?: AnswerOptions): Promise<Answer[]>;
  /** Says what happens in a video: `frames([...])`, an animated GIF, and in Node a folder of frames or what ffmpeg reads. */
  captionVideo(video: Video, options?: CaptionOptions): Promise<Caption>;
  captionVideo(videos: readonly Video[], options?: CaptionOptions): Promise<Caption[]>;
  /** Answers questions about one video. */
  answerVideo(video: Video, question: string, options?: AnswerOptions): Promise<Answer>;
  answerVideo(video: Video, questions: readonly string[], options?: AnswerOptions): Promise<Answer[]>;
  /** Encodes a picture and keeps that, for calls one after the other about the same picture. */
  look(picture: Picture, options?: Pick<LookOptions, 'signal' | 'trace'>): Promise<SeenPicture>;
  /** Which of the given names fits the picture, best first. */
  classify(picture: Picture, labels: readonly string[], options?: ClassifyOptions): Promise<ClassScore[]>;
  /** How likely the model finds each text as a caption of the picture, in the order given: for re-ranking and retrieval. */
  score(
    picture: Picture,
    texts: readonly string[],
    options?: LookOptions & { readonly prompt?: string },
  ): Promise<TextScore[]>;
  /** What the vision tower makes of a picture. */
  embed(picture: Picture, options?: EmbedOptions): Promise<Embedding>;
  /**
   * Where in the picture the decoder looked for every word of its caption (or of `text`): `overlayPng` draws it, `renderPage` makes a page of it.
   */
  explain(picture: Picture, options?: ExplainOptions): Promise<Explanation>;
  explainVideo(video: Video, options?: ExplainOptions): Promise<Explanation>;
  /** A caption or answer as it is written, greedy or sampled: `for await (const piece of model.stream(picture))`. */
  stream(picture: Picture, options?: CaptionStreamOptions): AsyncGenerator<string, void, void>;
  /** The sequences themselves: token ids, log-probabilities and scores, `[picture][rank]`. */
  generate(pictures: Picture | readonly Picture[], options?: GenerateSequencesOptions): Promise<GeneratedSequence[][]>;
  /** Frees the weights as soon as calls in flight have stopped, which they do at their next step with a DisposedError. */
  dispose(): void;
}
