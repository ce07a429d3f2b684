import type { generationOptions } from '../generation/options.js';
import type { CallOptions } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { VideoInput, VideoSource, VisualInput } from '../image2text/inputs.js';
import type { LoadOptions } from '../image2text/load.js';
import type { methodOptions, TokenStreamer } from '../image2text/method-options.js';
import type { OnLoadEvent } from '../load-events.js';
import type { OptionsFor } from '../options.js';
import type { EitherCase } from './options.js';
import type { PipelineTokenizer, StoppingCriteria, StoppingCriteriaInput, StoppingCriteriaList } from './streaming.js';

/** Where a task is about videos, a path or file may be given as it is. */
export type Video = VideoInput | VideoSource;

type Generation = OptionsFor<typeof generationOptions, 'beam'> &
  OptionsFor<typeof generationOptions, 'greedy'> &
  OptionsFor<typeof generationOptions, 'original'> &
  OptionsFor<typeof generationOptions, 'sample'>;

/** How a text is generated: Hugging Face's options by its names, and ours. */
export interface GenerationArguments extends Omit<Generation, 'signal' | 'stoppingCriteria'>, CallOptions {
  /** Sample instead of taking the likeliest word. Default: what generation_config.json says, else false. */
  readonly doSample?: boolean;
  /** Token ids that must not follow one another. */
  readonly badWordsIds?: Generation['badWords'];
  readonly logitsProcessor?: Generation['logitsProcessors'];
  /** Receives the tokens of one text as they come; greedy and sampling. A list is streamed one after the other. */
  readonly streamer?: TokenStreamer & { abort?(reason: unknown): void };
  /** Ends a text early, keeping what is there. `signal` ends the call with an error instead. */
  readonly stoppingCriteria?: StoppingCriteria | StoppingCriteriaInput | StoppingCriteriaList;
}

export type AnswerArguments = EitherCase<GenerationArguments>;

/** `prompt`: text to go on from; as in Python's pipeline it is part of the result. */
export type TextArguments = EitherCase<GenerationArguments & { readonly prompt?: string }>;

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

export type ZeroShotArguments = EitherCase<
  Pick<CallOptions, 'trace' | 'signal'> & {
    /** The text whose likelihood is compared, with `{}` for the label. Default `This is a photo of {}`, as transformers.js. */
    readonly hypothesisTemplate?: string;
  }
>;

export type FeatureArguments = EitherCase<
  Omit<OptionsFor<typeof methodOptions, 'embed'>, 'pool'> & {
    /** `true`: one vector for each image, that of the class token. Default false: those of all tokens. Or as `embed` takes it. */
    readonly pool?: boolean | 'class' | 'mean' | 'none';
  }
>;

/** A part of a message. An image without an address is the next of the images given beside the chat. */
export type ChatContent =
  | { readonly type: 'text'; readonly text: string }
  | {
      readonly type: 'image';
      readonly image?: VisualInput;
      readonly url?: string | URL;
      readonly path?: string;
      /** The bytes of an image file. */
      readonly base64?: string;
    }
  | {
      readonly type: 'video';
      readonly video?: Video;
      readonly url?: string | URL;
      readonly path?: string;
      readonly base64?: string;
    }
  | { readonly type: 'image_url'; readonly image_url: { readonly url: string } };

/** A message of a chat, as transformers 5 has it. */
export interface ChatMessage {
  readonly role: 'user' | 'assistant' | 'system';
  readonly content: string | readonly ChatContent[];
}

/** A text, or a chat, and the images that it is about. */
export type TextAndImages =
  | { readonly image: VisualInput; readonly text: string | readonly ChatMessage[] }
  | {
      readonly images: VisualInput | readonly VisualInput[];
      readonly text: string | readonly string[] | readonly ChatMessage[];
    };

export type ChatOptions = EitherCase<
  GenerationArguments & {
    /** `generated_text` is the whole chat or text, and not what is new alone. Default true. */
    readonly returnFullText?: boolean;
    /** The new text belongs to the last message. Default: where that is one of the assistant. */
    readonly continueFinalMessage?: boolean;
  }
>;

/** `generated_text`: the chat with the answer, or the text with what follows it; without `return_full_text` what is new. */
export interface ChatRecord {
  input_text: readonly ChatMessage[] | string;
  generated_text: ChatMessage[] | string;
}

export interface GeneratedText {
  generated_text: string;
}

export interface DocumentAnswer {
  answer: string;
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

/** Numbers in transformers.js's shape: `dims` [images, D], or [images, tokens, D]. */
export interface FeatureTensor {
  readonly dims: readonly number[];
  readonly type: 'float32';
  readonly data: Float32Array;
  readonly size: number;
  /** As nested lists. */
  tolist(): unknown[];
}

/** A question with what it is about. */
export type QuestionInput =
  | { readonly image: VisualInput; readonly question: string }
  | { readonly video: Video; readonly question: string };

interface PipelineBase<Task extends string> {
  readonly task: Task;
  readonly model: Image2Text;
  /** The model's, with what transformers.js's streamers call. */
  readonly tokenizer: PipelineTokenizer;
  /** Refuses further calls, and frees the model if this pipeline loaded it; a model that was given stays the caller's. */
  dispose(): Promise<void>;
}

/** Says what is in images. A list gives a list of lists. */
export interface ImageToTextPipeline extends PipelineBase<'image-to-text'> {
  (image: VisualInput, options?: TextArguments): Promise<GeneratedText[]>;
  (images: readonly VisualInput[], options?: TextArguments): Promise<GeneratedText[][]>;
}

/** Says what happens in videos; `frames([...])` makes one of images. A list is a list of videos, and gives a list of lists. */
export interface VideoToTextPipeline extends PipelineBase<'video-to-text'> {
  (video: Video, options?: TextArguments): Promise<GeneratedText[]>;
  (videos: readonly Video[], options?: TextArguments): Promise<GeneratedText[][]>;
}

/** Answers questions: one about one image, several about one, one about several, or a list of pairs. Any list gives a list of lists. */
interface QuestionPipeline<Task extends string, Answer> extends PipelineBase<Task> {
  (image: VisualInput, question: string, options?: AnswerArguments): Promise<Answer[]>;
  (image: VisualInput, questions: readonly string[], options?: AnswerArguments): Promise<Answer[][]>;
  (images: readonly VisualInput[], question: string, options?: AnswerArguments): Promise<Answer[][]>;
  (input: QuestionInput, options?: AnswerArguments): Promise<Answer[]>;
  (inputs: readonly QuestionInput[], options?: AnswerArguments): Promise<Answer[][]>;
}
export type VisualQuestionAnsweringPipeline = QuestionPipeline<'visual-question-answering', ScoredAnswer>;
export type DocumentQuestionAnsweringPipeline = QuestionPipeline<'document-question-answering', DocumentAnswer>;

/** Chooses among given names, best first. A list gives a list of lists. */
export interface ImageClassificationPipeline extends PipelineBase<'image-classification'> {
  (image: VisualInput, options?: LabelArguments): Promise<ScoredLabel[]>;
  (images: readonly VisualInput[], options?: LabelArguments): Promise<ScoredLabel[][]>;
}
export interface VideoClassificationPipeline extends PipelineBase<'video-classification'> {
  (video: Video, options?: LabelArguments): Promise<ScoredLabel[]>;
  (videos: readonly Video[], options?: LabelArguments): Promise<ScoredLabel[][]>;
}

/** Ranks all given names, best first. A list gives a list of lists. */
export interface ZeroShotImageClassificationPipeline extends PipelineBase<'zero-shot-image-classification'> {
  (image: VisualInput, candidateLabels: readonly string[], options?: ZeroShotArguments): Promise<ScoredLabel[]>;
  (
    images: readonly VisualInput[],
    candidateLabels: readonly string[],
    options?: ZeroShotArguments,
  ): Promise<ScoredLabel[][]>;
}

/** What the vision tower makes of images, of one or several, as one tensor. */
export interface ImageFeatureExtractionPipeline extends PipelineBase<'image-feature-extraction'> {
  (images: VisualInput | readonly VisualInput[], options?: FeatureArguments): Promise<FeatureTensor>;
}

/** Answers, or goes on from, a text about an image: in transformers 5's forms. */
export interface ImageTextToTextPipeline extends PipelineBase<'image-text-to-text'> {
  (chat: readonly ChatMessage[], options?: ChatOptions): Promise<ChatRecord[]>;
  (chats: readonly (readonly ChatMessage[])[], options?: ChatOptions): Promise<ChatRecord[][]>;
  (input: TextAndImages, options?: ChatOptions): Promise<ChatRecord[]>;
  (inputs: readonly TextAndImages[], options?: ChatOptions): Promise<ChatRecord[][]>;
  (
    images: VisualInput | readonly VisualInput[],
    text: string | readonly string[] | readonly ChatMessage[],
    options?: ChatOptions,
  ): Promise<ChatRecord[]>;
}

/** Pipelines by the names of their tasks. */
export interface Pipelines {
  'image-to-text': ImageToTextPipeline;
  'image-text-to-text': ImageTextToTextPipeline;
  'video-to-text': VideoToTextPipeline;
  'visual-question-answering': VisualQuestionAnsweringPipeline;
  /** Python's short name. */
  vqa: VisualQuestionAnsweringPipeline;
  'document-question-answering': DocumentQuestionAnsweringPipeline;
  'image-classification': ImageClassificationPipeline;
  'video-classification': VideoClassificationPipeline;
  'zero-shot-image-classification': ZeroShotImageClassificationPipeline;
  'image-feature-extraction': ImageFeatureExtractionPipeline;
}

export type PipelineTask = keyof Pipelines;

/** What the loader of an entry point is asked for. */
export interface ModelLoadOptions extends LoadOptions {
  readonly device?: string | undefined;
  readonly revision?: string | undefined;
  readonly cacheDir?: string | undefined;
  readonly localFilesOnly?: boolean | undefined;
  readonly token?: string | undefined;
  readonly endpoint?: string | undefined;
}

/** transformers.js's names of number formats that there is a weight format for. */
export type Dtype = 'auto' | 'fp32' | 'fp16' | 'bf16' | 'q8' | 'int8' | 'uint8';

/** How `pipeline` loads its model: transformers.js's names, and those of `loadImage2Text`. */
export type PipelineOptions = EitherCase<
  Omit<ModelLoadOptions, 'device'> & {
    /** Receives how far loading is; the last event is `ready`. Another name of `onProgress`. */
    readonly progressCallback?: OnLoadEvent;
    /** How the weights are kept. By module: all the same. */
    readonly dtype?: Dtype | Readonly<Record<string, Dtype>>;
    /** Where to compute. By module: all the same. */
    readonly device?: string | Readonly<Record<string, string>>;
    /** Of image- and video-classification: the names for all calls that bring none. */
    readonly candidateLabels?: readonly string[];
    readonly config?: null;
    readonly modelFileName?: null;
    readonly sessionOptions?: Readonly<Record<string, never>>;
    readonly subfolder?: 'onnx' | '';
    readonly useExternalDataFormat?: false | null;
  }
>;

/** Makes pipelines over models that an entry point loads. Without a model it is a published one that fits the task. */
export type CreatePipeline<M> = <T extends PipelineTask>(
  task: T,
  model?: M | Image2Text | null,
  options?: PipelineOptions,
) => Promise<Pipelines[T]>;
