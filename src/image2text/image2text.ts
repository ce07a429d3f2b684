import type { Explanation } from '../explain/index.js';
import type { GeneratedSequence } from '../generation/session.js';
import type { ImageConfig } from '../image/image-config.js';
import type { Git } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { ImageInput } from './images.js';
import type { EncodedImage } from './seen.js';
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
  /** Ids that each row starts with, [CLS] included; one list for all images, or one for each. Default: [CLS] alone. */
  readonly inputIds?: readonly number[] | readonly (readonly number[])[];
};

/**
 * A loaded model. Every method may be called any number of times, also at once; `dispose` frees it. A list of images, videos or
 * questions gives a list of results. Everything throws ImageError, OptionError, BackendError, DisposedError or the signal's reason, and
 * leaves no tensor behind then.
 */
export interface Image2Text {
  readonly git: Git;
  readonly config: GitConfig;
  readonly tokenizer: Tokenizer;
  readonly imageConfig: ImageConfig;
  /** Says what is in an image. Without options it decodes as the original project does: 4 beams, length penalty 0.6. */
  caption(image: ImageInput, options?: CaptionOptions): Promise<Caption>;
  caption(images: readonly ImageInput[], options?: CaptionOptions): Promise<Caption[]>;
  /** Answers questions about one image, which is encoded once for all of them. Questions are cut as the original cuts them, to 38 tokens. */
  answer(image: ImageInput, question: string, options?: AnswerOptions): Promise<Answer>;
  answer(image: ImageInput, questions: readonly string[], options?: AnswerOptions): Promise<Answer[]>;
  /** Says what happens in a video: `frames([...])`, an animated GIF, and in Node a folder of frames or what ffmpeg reads. */
  captionVideo(video: Video, options?: CaptionOptions): Promise<Caption>;
  captionVideo(videos: readonly Video[], options?: CaptionOptions): Promise<Caption[]>;
  /** Answers questions about one video. */
  answerVideo(video: Video, question: string, options?: AnswerOptions): Promise<Answer>;
  answerVideo(video: Video, questions: readonly string[], options?: AnswerOptions): Promise<Answer[]>;
  /** Encodes an image and keeps that, for calls one after the other about the same image. */
  look(image: ImageInput, options?: Pick<LookOptions, 'signal' | 'trace'>): Promise<EncodedImage>;
  /** Which of the given names fits the image, best first. */
  classify(image: ImageInput, labels: readonly string[], options?: ClassifyOptions): Promise<ClassScore[]>;
  /** How likely the model finds each text as a caption of the image, in the order given: for re-ranking and retrieval. */
  score(
    image: ImageInput,
    texts: readonly string[],
    options?: LookOptions & { readonly prompt?: string },
  ): Promise<TextScore[]>;
  /** What the vision tower makes of an image. */
  embed(image: ImageInput, options?: EmbedOptions): Promise<Embedding>;
  /**
   * Where in the image the decoder looked for every word of its caption (or of `text`): `overlayPng` draws it, `renderPage` makes a page of it.
   */
  explain(image: ImageInput, options?: ExplainOptions): Promise<Explanation>;
  explainVideo(video: Video, options?: ExplainOptions): Promise<Explanation>;
  /** A caption or answer as it is written, greedy or sampled: `for await (const piece of model.stream(image))`. */
  stream(image: ImageInput, options?: CaptionStreamOptions): AsyncGenerator<string, void, void>;
  /** The sequences themselves: token ids, log-probabilities and scores, `[image][rank]`. */
  generate(
    images: ImageInput | readonly ImageInput[],
    options?: GenerateSequencesOptions,
  ): Promise<GeneratedSequence[][]>;
  /** Frees the weights as soon as calls in flight have stopped, which they do at their next step with a DisposedError. */
  dispose(): void;
}
