import type { GenerateOptions, StreamOptions } from '../generation/options.js';
import type { Finish } from '../generation/session.js';
import type { Trace } from '../model/trace.js';

/** One generated token. */
export interface Token {
  readonly id: number;
  /** Its word piece: `sign`, `##ed`, `[SEP]`. */
  readonly piece: string;
  /** Natural logarithm of its probability under the model, before any processor. */
  readonly logProb: number;
}

/** A generated text. */
export interface Caption {
  /** Words, without special tokens, without the prompt. */
  readonly text: string;
  /** What the search ranks by: the sum of log-probabilities for greedy and sampling, else normalised by length as the search defines it. */
  readonly score: number;
  /** Sum of the tokens' log-probabilities. */
  readonly logProb: number;
  /** Geometric mean of the tokens' probabilities, 0 to 1: comparable between texts of different length. */
  readonly confidence: number;
  /** The new tokens, the end token included if there is one. */
  readonly tokens: readonly Token[];
  readonly finish: Finish;
  /** The next best, best first, where `numReturnSequences` asks for more than one. */
  readonly alternatives: readonly Caption[];
}

/** The answer to a question: `text` is the answer alone. */
export interface Answer extends Caption {
  readonly question: string;
}

/** What every call that looks at images accepts. */
export interface LookOptions {
  /** How many rows (images, questions) are decoded together. Results do not depend on it. Default 8. */
  readonly batchSize?: number;
  /** Hears every named intermediate of the model (docs/architecture.md lists the names). */
  readonly trace?: Trace;
  readonly signal?: AbortSignal;
}

/** Options of `answer`. */
export type AnswerOptions = GenerateOptions &
  LookOptions & {
    /** Hears the tokens of one row as they come (greedy and sample); transformers.js's streamers fit. */
    readonly streamer?: TokenStreamer;
  };

/** Options of `caption`. */
export type CaptionOptions = AnswerOptions & {
  /** Text that the caption goes on from; it is not part of the result. */
  readonly prompt?: string;
};

/** Options of `explain`. */
export type ExplainOptions = CaptionOptions & {
  /** Explain this text instead of a caption of the model's own. */
  readonly text?: string;
};

/** Options of `stream`. */
export type CaptionStreamOptions = Partial<StreamOptions> &
  Pick<LookOptions, 'trace' | 'signal'> & {
    readonly prompt?: string;
    /** Ask instead of caption; not together with `prompt`. */
    readonly question?: string;
  };

/** What transformers.js calls a streamer: the prompt's ids first, then each token, then the end. */
export interface TokenStreamer {
  put(ids: bigint[][]): void;
  end(): void;
}

/** A text that was scored. */
export interface TextScore {
  readonly text: string;
  /** Natural log-likelihood of the whole text, the end token included. */
  readonly logProb: number;
  /** Geometric mean of the tokens' probabilities, 0 to 1. */
  readonly confidence: number;
  readonly tokens: readonly Token[];
}

/** A class name and how likely it is. */
export interface ClassScore {
  readonly label: string;
  /** Share among the given names: softmax of their log-likelihoods; they sum to 1 over all names. */
  readonly probability: number;
  /** Natural log-likelihood of the name, the end token included. */
  readonly logProb: number;
}

/** Options of `classify`. */
export interface ClassifyOptions extends LookOptions {
  /** How many names to return. Default 5. */
  readonly topK?: number;
  /**
   * `exact` (default) scores every name, sharing what they have in common. `greedy` walks to one name as the original does, and returns
   * that one alone, with a probability of 1: nothing else was scored.
   */
  readonly method?: 'exact' | 'greedy';
  /** Text before the name. Default none. */
  readonly prompt?: string;
}

/** Options of `embed`. */
export interface EmbedOptions {
  /** `vision`: after the vision tower; `projected`: as the decoder receives it. Default `vision`. */
  readonly stage?: 'vision' | 'projected';
  /** `class`: the class token's vector; `mean`: the mean over all tokens; `none`: all of them. Default `mean`. */
  readonly pool?: 'class' | 'mean' | 'none';
  readonly signal?: AbortSignal;
}

/** Features of an image: float32 [D], or [I, D] with pool `none`. */
export interface Embedding {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}
