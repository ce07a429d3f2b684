/** Roles of generation. This room knows no tensor, no picture and no text: only token ids and rows of numbers. */

/**
 * A growing set of token sequences ("rows") over a fixed picture each. It starts with one empty row per picture.
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

/** Changes scores (logits, or log-probabilities in beam search) in place. `ids`: the row so far, prompt included. */
export type LogitsProcessor = (scores: Float32Array, ids: readonly number[]) => void;
