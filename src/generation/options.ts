/**
 * What a caller may ask of generation. Each strategy has its own options, so that a contradiction (beams with a temperature) does not
 * compile; `checkOptions` says the same at run time. Names are Hugging Face's in camel case, and mean what they mean there.
 */
import type { TokenEvent } from './types.js';

/** How long a row may get; at most one of the two. Whatever is asked, a row never outgrows the session's `maxLength`. */
export type LengthOptions =
  /** `maxLength` counts the prompt. Default 20 (greedy, sample, beam: Hugging Face's) or 1024 (the original's `max_steps`). */
  | { readonly maxLength?: number; readonly maxNewTokens?: never }
  | { readonly maxLength?: never; readonly maxNewTokens?: number };

/** Rules on tokens, for every strategy. */
export interface TokenRules {
  /** Above 1: tokens of the row so far, prompt included, get less likely. Default 1. */
  readonly repetitionPenalty?: number;
  /** No n-gram of this size twice, prompt included; 0 (default): off. */
  readonly noRepeatNgramSize?: number;
  /** Token sequences that must not appear. Default none. */
  readonly badWords?: readonly (readonly number[])[];
  /** No end token before the row, prompt included, has this many tokens. Default 0. */
  readonly minLength?: number;
  /** No end token before this many new tokens. Default 0. */
  readonly minNewTokens?: number;
  /** Checked before and after every step; generation then throws `signal.reason`. */
  readonly signal?: AbortSignal;
}

/** Receives each token as it comes, and is awaited; returning `false` ends that row with finish `stopped`. */
export type TokenListener = (event: TokenEvent) => unknown;

/** The most likely token at every step. */
export interface GreedyOptions {
  readonly strategy: 'greedy';
  readonly onToken?: TokenListener;
}

/** A random token at every step, by its probability. */
export interface SampleOptions {
  readonly strategy: 'sample';
  /** Default 1. */
  readonly temperature?: number;
  /** Only the k most likely tokens; 0: all. Default 50, as in Hugging Face. */
  readonly topK?: number;
  /** Only the most likely tokens that together reach this probability. Default 1: all. */
  readonly topP?: number;
  /** The same seed, image and options give the same tokens, alone or in any batch. Default 0. */
  readonly seed?: number;
  /** How many samples of each image. Default 1. */
  readonly numReturnSequences?: number;
  readonly onToken?: TokenListener;
}

/** Beam search as in Hugging Face transformers 4.40. */
export interface BeamOptions {
  readonly strategy: 'beam';
  /** Default 4. */
  readonly numBeams?: number;
  /** How many of the best to return, at most `numBeams`. Default 1. */
  readonly numReturnSequences?: number;
  /** score = sum of log-probabilities / new tokens ^ lengthPenalty. Default 1. */
  readonly lengthPenalty?: number;
  /** When `numBeams` sentences have ended: stop at once, when no better one is likely, or when none is possible. Default false. */
  readonly earlyStopping?: boolean | 'never';
}

/** The original project's beam search, the one behind the published scores. */
export interface OriginalOptions {
  readonly strategy?: 'original';
  /** Default 4. */
  readonly numBeams?: number;
  /** `perNode` x `numBeams` candidates are looked at in each step. Default 2, the least. */
  readonly perNode?: number;
  /** score = sum / ((5 + tokens) / 6) ^ lengthPenalty. Default 0.6. */
  readonly lengthPenalty?: number;
  /** How many ended sentences are kept and returned (`num_keep_best`). Default 1. */
  readonly numReturnSequences?: number;
}

/** The original project's other decoder, switched off there: plain beams (greedy with 1) that never repeat the token just produced. */
export interface AutoregressiveOptions {
  readonly strategy: 'original-autoregressive';
  /** Default 1. */
  readonly numBeams?: number;
  /** How many continuations of each beam are looked at. Default 2. */
  readonly perNode?: number;
}

/** The default, `{}`, is the original's beam search with its own settings. */
export type GenerateOptions = LengthOptions &
  TokenRules &
  (GreedyOptions | SampleOptions | BeamOptions | OriginalOptions | AutoregressiveOptions);

/** Options of the strategies that produce token by token. */
export type StreamOptions = LengthOptions &
  TokenRules &
  (Omit<GreedyOptions, 'onToken'> | Omit<SampleOptions, 'onToken'>);
