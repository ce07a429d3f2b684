import type { GenerateOptions } from '../generation/options.js';
import type { Finish } from '../generation/types.js';
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

/** Options of every call that generates. */
export type CaptionOptions = GenerateOptions & {
  /** Text that the caption goes on from; it is not part of the result. */
  readonly prompt?: string;
  /** How many pictures are decoded together. Results do not depend on it. Default 8. */
  readonly batchSize?: number;
  /** Hears every named intermediate of the model (docs/architecture.md lists the names). */
  readonly trace?: Trace;
};
