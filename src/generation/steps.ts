import { BackendError, OptionError } from '../errors.js';
import type { CheckedRules } from './check-options.js';
import { checkIds } from './check-values.js';
import type { DecoderSession, SessionSource, VocabularyFacts } from './types.js';

/** What every search works with: an open session, the vocabulary, and when to stop. */
export interface SearchScope {
  readonly session: DecoderSession;
  readonly vocabulary: VocabularyFacts;
  readonly signal: AbortSignal | undefined;
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
 * One step of the session, between two looks at the signal.
 *
 * @throws the signal's reason; BackendError `logits-shape` when the session's answer does not fit the rows or the vocabulary.
 */
export async function stepSession(scope: SearchScope, ids: readonly (readonly number[])[]): Promise<Float32Array[]> {
  scope.signal?.throwIfAborted();
  const logits = await scope.session.step(ids);
  scope.signal?.throwIfAborted();
  const odd = logits.findIndex((row) => row.length !== scope.vocabulary.size);
  if (logits.length !== ids.length || odd >= 0) {
    const found = odd >= 0 ? `${logits[odd]!.length} logits in row ${odd}` : `${logits.length} rows`;
    const expected = `expected ${ids.length} rows of ${scope.vocabulary.size}`;
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
  rules: CheckedRules,
  session: DecoderSession,
): number {
  const limit = Math.min(rules.maxLength, prompt.length + rules.maxNewTokens, session.maxLength);
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
