/** Roles of generation. This room knows no tensor, no image and no text: only token ids and rows of numbers. */

/**
 * A growing set of token sequences ("rows") over a fixed image each. It starts with one empty row per image.
 * The model's own is `startSession`; tests use a scripted one.
 */
export interface DecoderSession {
  /**
   * Appends `ids[r]` (at least one token) to row r, for every row; rows may differ in length.
   * Resolves to the logits of the next token, one `Float32Array` of the vocabulary's length per row; the caller may write into them.
   */
  step(ids: readonly (readonly number[])[]): Promise<Float32Array[]>;
  /** Row r becomes a copy of the old row `rows[r]`: keeps, drops or forks sequences. */
  reorder(rows: readonly number[]): void;
  /** How many rows there are now. */
  readonly rows: number;
  /** How many tokens a row may hold in all (`max_position_embeddings`). */
  readonly maxLength: number;
  dispose(): void;
}

/**
 * Opens a fresh session. Whoever calls it disposes of what it returns: `generate`, `streamTokens`, `scoreSequences` and
 * `rankNames` take a source, so that they can promise to leave nothing behind. May be called more than once.
 */
export type SessionSource = () => DecoderSession | Promise<DecoderSession>;

/** Changes scores (logits, or log-probabilities in beam search) in place. `ids`: the row so far, prompt included. */
export type LogitsProcessor = (scores: Float32Array, ids: readonly number[]) => void;

/** What generation has to know of a vocabulary: its size and the ids with a meaning of their own. */
export interface VocabularyFacts {
  readonly size: number;
  /** Starts a row when no prompt is given ([CLS], 101 in BERT's vocabulary). */
  readonly bosId: number;
  /** Ends a row ([SEP], 102). */
  readonly eosId: number;
}

/** Why a row ended: its end token, the length limit, or a consumer that said stop. */
export type Finish = 'eos' | 'length' | 'stopped';

/** One generated row. */
export interface GeneratedSequence {
  /** Prompt and new tokens, the end token included if there is one; never padded. */
  readonly ids: readonly number[];
  readonly newIds: readonly number[];
  /** log-softmax of the RAW logits (before any processor) at each new token, natural logarithm; as long as `newIds`. */
  readonly tokenLogProbs: readonly number[];
  /** Sum of `tokenLogProbs`. */
  readonly logProb: number;
  /** What the strategy ranks by: `logProb` for greedy and sampling, else the score as Hugging Face or the original define it. */
  readonly score: number;
  readonly finish: Finish;
}

/** One token of a growing row, as greedy search and sampling report it. */
export interface TokenEvent {
  /** Which image. */
  readonly row: number;
  /** Which of its `numReturnSequences`. */
  readonly sample: number;
  /** Place among the row's new tokens, from 0. */
  readonly index: number;
  readonly id: number;
  /** log-softmax of the raw logits at `id`. */
  readonly logProb: number;
  /** Set on the row's last token. */
  readonly finish?: Finish;
}
