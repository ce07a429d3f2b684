/** The session that generation works with, its steps and results. Nothing here knows a tensor, an image or a text: only ids and scores. */
import { BackendError, OptionError } from '../errors.js';
import { nextTask } from '../event-loop.js';
import { asObject, fail, showValue } from '../options.js';

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
  /** The same for a search that looks at the likeliest words only; whole rows where the session has no other way to find them. */
  step(ids: readonly (readonly number[])[], wanted: TopQuery | undefined): Promise<readonly NextLogits[]>;
  /** Row r becomes a copy of the old row `rows[r]`: keeps, drops or forks sequences. */
  reorder(rows: readonly number[]): void;
  /** How many rows there are now. */
  readonly rows: number;
  /** How many tokens a row may hold in all (`max_position_embeddings`). */
  readonly maxLength: number;
  dispose(): void;
}

/** What a search without rules on tokens has to know of a row of logits. */
export interface TopQuery {
  /** How many of the likeliest words. */
  readonly count: number;
  /** By logits, or by log-probabilities rounded to float32, which can be equal where logits are not. */
  readonly by: 'logit' | 'logProb';
  /** Words whose logits are wanted, likely or not. */
  readonly asked: readonly number[];
}

/** The answer to a `TopQuery` for one row, with the bits that the whole row would give. */
export interface TopTokens {
  /** Likeliest first, of equals the lower id. */
  readonly ids: Int32Array;
  /** Raw logits of `ids`, then of the words that were asked for. */
  readonly logits: Float32Array;
  /** `logNormalizer` of the whole row; NaN where a logit is not finite, of which the first is then the only word that counts. */
  readonly normalizer: number;
}

/** Logits of the next token: a whole row, or what was asked of it. */
export type NextLogits = Float32Array | TopTokens;

/**
 * Opens a fresh session. Whoever calls it disposes of what it returns: `generate`, `streamTokens`, `scoreSequences` and
 * `rankNames` take a source, so that they can promise to leave nothing behind. May be called more than once.
 */
export type SessionSource = () => DecoderSession | Promise<DecoderSession>;

/** Bounds of a row's length; the smaller one rules. */
export interface LengthLimits {
  /** Prompt included. */
  readonly maxLength: number;
  readonly maxNewTokens: number;
}

/** Changes scores (logits, or log-probabilities in beam search) in place; -Infinity forbids a token. `ids`: the row so far, prompt included. */
export type LogitsProcessor = (scores: Float32Array, ids: readonly number[]) => void;

/** Is a row over with the last of `ids` (prompt included, whose length is `promptLength`)? Asked of every row, and of every candidate of a beam search. */
export type StoppingCriterion = (ids: readonly number[], promptLength: number) => boolean;

/** What generation has to know of a vocabulary: its size and the ids with a meaning of their own. */
export interface VocabularyFacts {
  readonly size: number;
  /** Starts a row when no prompt is given ([CLS], 101 in BERT's vocabulary). */
  readonly bosId: number;
  /** The tokens that end a row, at least one ([SEP], 102). Texts that are scored are closed with the first. */
  readonly eosIds: readonly number[];
  /** What a token adds to a text, as it follows others: ` sign`, `ed`. `stopStrings` needs it. */
  readonly textOf?: (id: number) => string;
}

/** Why a row ended: an end token, the length limit, or a consumer that said stop. */
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

/** What every search works with: an open session, the vocabulary, and when to stop. */
export interface SearchScope {
  readonly session: DecoderSession;
  readonly vocabulary: VocabularyFacts;
  readonly signal: AbortSignal | undefined;
  /** Awaited after each row of scores that a search has worked through: lets the event loop have its turn, and throws the signal's reason. */
  readonly rowDone: () => Promise<void>;
}

/** Rows of scores that a search works through between two turns of the event loop: about 10 ms with BERT's vocabulary. */
const ROWS_PER_TURN = 32;

export function searchScope(
  session: DecoderSession,
  vocabulary: VocabularyFacts,
  signal: AbortSignal | undefined,
): SearchScope {
  let rows = 0;
  const rowDone = async (): Promise<void> => {
    if (++rows % ROWS_PER_TURN === 0) await nextTask();
    signal?.throwIfAborted();
  };
  return { session, vocabulary, signal, rowDone };
}

/** Opens a session, runs `body`, and disposes of the session however that ends. */
export async function withSession<T>(open: SessionSource, body: (session: DecoderSession) => Promise<T>): Promise<T> {
  const session = await open();
  try {
    return await body(session);
  } finally {
    session.dispose();
  }
}

/**
 * One step of the session, between two checks of the signal. `wanted`: what the search has to know of each row, the whole of it by default.
 *
 * @throws the signal's reason; BackendError `logits-shape` when the session's answer does not fit the rows or the vocabulary.
 */
export async function stepSession(scope: SearchScope, ids: readonly (readonly number[])[]): Promise<Float32Array[]>;
export async function stepSession(
  scope: SearchScope,
  ids: readonly (readonly number[])[],
  wanted: TopQuery | undefined,
): Promise<readonly NextLogits[]>;
export async function stepSession(
  { session, signal, vocabulary }: SearchScope,
  ids: readonly (readonly number[])[],
  wanted?: TopQuery,
): Promise<readonly NextLogits[]> {
  signal?.throwIfAborted();
  const few = wanted !== undefined && wanted.count <= vocabulary.size ? wanted : undefined;
  const logits = await session.step(ids, few);
  signal?.throwIfAborted();
  const lengths = logits.map((row) => ('ids' in row ? vocabulary.size : row.length));
  const odd = lengths.findIndex((length) => length !== vocabulary.size);
  if (logits.length !== ids.length || odd >= 0) {
    const found = odd >= 0 ? `${lengths[odd]} logits in row ${odd}` : `${logits.length} rows`;
    const expected = `expected ${ids.length} rows of ${vocabulary.size}`;
    throw new BackendError({ code: 'logits-shape', detail: `${expected}, the session gave ${found}` });
  }
  return logits;
}

/**
 * The prompts, checked and copied: one for each row of the session, [bosId] when none are given.
 *
 * @throws OptionError naming the prompt.
 */
export function checkPrompts(prompts: unknown, scope: SearchScope): readonly (readonly number[])[] {
  const { session, vocabulary } = scope;
  if (prompts === undefined) return Array.from({ length: session.rows }, () => [vocabulary.bosId]);
  if (!Array.isArray(prompts) || prompts.length !== session.rows) {
    const found = Array.isArray(prompts) ? `${prompts.length}` : 'no list';
    throw new OptionError({
      path: 'prompts',
      code: 'row-count',
      detail: `expected a list of ${session.rows} prompts, one for each image, found ${found}`,
    });
  }
  return prompts.map((prompt: unknown, row) => checkIds(prompt, `prompts[${row}]`, vocabulary));
}

/**
 * How many tokens, prompt included, the row of this prompt may reach.
 *
 * @throws OptionError `prompt-too-long` when there is no room for a single new token.
 */
export function lengthLimit(
  prompt: readonly number[],
  row: number,
  options: LengthLimits,
  session: DecoderSession,
): number {
  const limit = Math.min(options.maxLength, prompt.length + options.maxNewTokens, session.maxLength);
  if (prompt.length < limit) return limit;
  const why = limit === session.maxLength ? 'positions the model has' : 'of maxLength';
  throw new OptionError({
    path: `prompts[${row}]`,
    code: 'prompt-too-long',
    detail: `its ${prompt.length} tokens leave no room for a new one within the ${limit} ${why}`,
  });
}

/** Rows as a matrix, as tensors and Hugging Face need it: each filled with `fill` up to the longest, or up to `width`. */
export function padRows(rows: readonly (readonly number[])[], fill: number, width = 0): number[][] {
  const widest = rows.reduce((most, row) => Math.max(most, row.length), width);
  return rows.map((row) => [...row, ...new Array<number>(widest - row.length).fill(fill)]);
}

/** A list of at least one token id of the vocabulary, copied. @throws OptionError naming what is wrong. */
export function checkIds(ids: unknown, path: string, vocabulary: VocabularyFacts): readonly number[] {
  if (!Array.isArray(ids)) return fail(path, 'wrong-type', `expected a list of token ids, found ${showValue(ids)}`);
  if (ids.length === 0) return fail(path, 'empty', 'expected at least one token id');
  const odd = ids.findIndex(
    (id: unknown) => !Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocabulary.size,
  );
  if (odd >= 0) {
    const detail = `${showValue(ids[odd])} is no id of a vocabulary of ${vocabulary.size} tokens`;
    fail(`${path}[${odd}]`, 'not-a-token', detail);
  }
  return [...(ids as number[])];
}

/** @throws OptionError naming the fact that is wrong. */
export function checkVocabulary(vocabulary: VocabularyFacts): void {
  const given = asObject(vocabulary, 'vocabulary');
  const check = (name: string, least: number, most: number): number => {
    const value = given[name];
    if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
    return fail(name, 'out-of-range', `expected a whole number from ${least} to ${most}, found ${showValue(value)}`);
  };
  const size = check('size', 2, Number.MAX_SAFE_INTEGER);
  check('bosId', 0, size - 1);
  checkIds(given['eosIds'], 'eosIds', vocabulary);
}
