import type { GenerateOptions, TokenListener } from '../generation/options.js';
import type { CallOptions } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { VideoInput, VideoSource, VisualInput } from '../image2text/inputs.js';
import type { LoadOptions } from '../image2text/load.js';
import type { TokenStreamer } from '../image2text/method-options.js';
import type { OnLoadEvent } from '../load-events.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { EitherCase } from './option-names.js';

/** Where a task is about videos, a path or file may be given as it is. */
export type Video = VideoInput | VideoSource;

/** What transformers.js calls an `InterruptableStoppingCriteria`: looked at after every token. */
export interface Interruptable {
  readonly interrupted: boolean;
}

/** How a text is written: Hugging Face's names and meanings. */
export interface WritingArguments extends CallOptions {
  readonly maxNewTokens?: number;
  /** Prompt or question included. */
  readonly maxLength?: number;
  readonly minNewTokens?: number;
  readonly minLength?: number;
  /** Sample instead of taking the likeliest word. Default false. */
  readonly doSample?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  /** Of sampling: the same seed gives the same text. Default 0. */
  readonly seed?: number;
  /** More than 1: Hugging Face's beam search. Default 1. */
  readonly numBeams?: number;
  readonly lengthPenalty?: number;
  readonly earlyStopping?: boolean | 'never';
  readonly numReturnSequences?: number;
  readonly repetitionPenalty?: number;
  readonly noRepeatNgramSize?: number;
  /** Token ids that must not follow one another. */
  readonly badWordsIds?: readonly (readonly number[])[];
  /** A search of this library by its own name (`original` is the one behind the published scores); then its options are this library's too. */
  readonly strategy?: GenerateOptions['strategy'];
  /** Of the original's searches. */
  readonly perNode?: number;
  /** Hears the tokens of one text as they come; greedy and sampling. */
  readonly streamer?: TokenStreamer & { abort?(reason: unknown): void };
  readonly onToken?: TokenListener;
  /** Ends the text early, keeping what is there; greedy and sampling. `signal` ends the call with an error instead. */
  readonly stoppingCriteria?: Interruptable;
}

export type AnswerArguments = EitherCase<WritingArguments>;

/** `prompt`: text to go on from; as in Python's pipeline it is part of the result. */
export type TextArguments = EitherCase<WritingArguments & { readonly prompt?: string }>;

export type LabelArguments = EitherCase<
  Pick<CallOptions, 'trace' | 'signal'> & {
    /** How many names to return; 0 or null for all. Default 5. */
    readonly topK?: number;
    /** The names to choose from; GIT has none of its own. May be given to `pipeline` instead. */
    readonly candidateLabels?: readonly string[];
    readonly prompt?: string;
    readonly method?: 'exact' | 'greedy';
  }
>;

export interface GeneratedText {
  generated_text: string;
}

/** `score`: geometric mean of the probabilities of the answer's tokens, 0 to 1. */
export interface ScoredAnswer {
  answer: string;
  score: number;
}

/** `score`: probability among the given names, 0 to 1. */
export interface ScoredLabel {
  label: string;
  score: number;
}

/** A question with what it is about. */
export type QuestionInput =
  | { readonly image: VisualInput; readonly question: string }
  | { readonly video: Video; readonly question: string };

interface PipelineBase {
  readonly model: Image2Text;
  readonly tokenizer: Tokenizer;
  /** Refuses further calls, and frees the model if this pipeline loaded it; a model that was given stays the caller's. */
  dispose(): Promise<void>;
}

/** Says what is in images. A list gives a list of lists. */
export interface ImageToTextPipeline extends PipelineBase {
  readonly task: 'image-to-text';
  (image: VisualInput, options?: TextArguments): Promise<GeneratedText[]>;
  (images: readonly VisualInput[], options?: TextArguments): Promise<GeneratedText[][]>;
}

/** Says what happens in videos; `frames([...])` makes one of images. A list is a list of videos, and gives a list of lists. */
export interface VideoToTextPipeline extends PipelineBase {
  readonly task: 'video-to-text';
  (video: Video, options?: TextArguments): Promise<GeneratedText[]>;
  (videos: readonly Video[], options?: TextArguments): Promise<GeneratedText[][]>;
}

/** Answers questions: one about one image, several about one, one about several, or a list of pairs. Any list gives a list of lists. */
export interface VisualQuestionAnsweringPipeline extends PipelineBase {
  readonly task: 'visual-question-answering';
  (image: VisualInput, question: string, options?: AnswerArguments): Promise<ScoredAnswer[]>;
  (image: VisualInput, questions: readonly string[], options?: AnswerArguments): Promise<ScoredAnswer[][]>;
  (images: readonly VisualInput[], question: string, options?: AnswerArguments): Promise<ScoredAnswer[][]>;
  (input: QuestionInput, options?: AnswerArguments): Promise<ScoredAnswer[]>;
  (inputs: readonly QuestionInput[], options?: AnswerArguments): Promise<ScoredAnswer[][]>;
}

/** Chooses among given names, best first. A list gives a list of lists. */
export interface ImageClassificationPipeline extends PipelineBase {
  readonly task: 'image-classification';
  (image: VisualInput, options?: LabelArguments): Promise<ScoredLabel[]>;
  (images: readonly VisualInput[], options?: LabelArguments): Promise<ScoredLabel[][]>;
}

/** Pipelines by the names of their tasks. */
export interface Pipelines {
  'image-to-text': ImageToTextPipeline;
  'visual-question-answering': VisualQuestionAnsweringPipeline;
  /** Python's short name. */
  vqa: VisualQuestionAnsweringPipeline;
  'video-to-text': VideoToTextPipeline;
  'image-classification': ImageClassificationPipeline;
}

export type PipelineTask = keyof Pipelines;

/** What a door's loader is asked for, beside what every loader takes. */
export interface ModelLoadOptions extends LoadOptions {
  readonly device?: string | undefined;
  readonly revision?: string | undefined;
  readonly cacheDir?: string | undefined;
  readonly localFilesOnly?: boolean | undefined;
}

/** How `pipeline` loads its model: transformers.js's names, and those of `loadImage2Text`. */
export type PipelineOptions = EitherCase<
  ModelLoadOptions & {
    /** Hears how far loading is; the last event is `ready`. Another name of `onProgress`. */
    readonly progressCallback?: OnLoadEvent;
    /** Only float32 is computed: `fp32` and `auto` are understood. */
    readonly dtype?: 'fp32' | 'auto';
    /** Of image-classification: the names for all calls that bring none. */
    readonly candidateLabels?: readonly string[];
  }
>;

/** Makes pipelines over models that a door loads. */
export type CreatePipeline<M> = <T extends PipelineTask>(
  task: T,
  model: M | Image2Text,
  options?: PipelineOptions,
) => Promise<Pipelines[T]>;
