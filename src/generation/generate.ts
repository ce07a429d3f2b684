import { BackendError, OptionError } from '../errors.js';
import { fail } from '../options.js';
import { autoregressiveSearch, beamSearch, originalBeamSearch, runBeams } from './beam-search.js';
import {
  applyAll,
  argMax,
  logNormalizer,
  type RowRules,
  refuseLogit,
  rowRules,
  workingCopy,
} from './logits-processors.js';
import {
  type CheckedOptions,
  checkGenerateOptions,
  checkRows,
  type GenerateOptions,
  type Strategy,
  type StreamOptions,
  type TokenListener,
} from './options.js';
import {
  checkPrompts,
  checkVocabulary,
  type Finish,
  type GeneratedSequence,
  lengthLimit,
  type NextLogits,
  type SearchScope,
  type SessionSource,
  searchScope,
  stepSession,
  type TokenEvent,
  type TopQuery,
  type TopTokens,
  type VocabularyFacts,
  withSession,
} from './session.js';

/** Uniform numbers in [0, 1), each a multiple of 2^-53. */
export type Random = () => number;

/**
 * A seeded generator: xoshiro128** (Blackman and Vigna, 2018; period 2^128 - 1), its four words filled by SplitMix32 from the seed and the
 * stream number; a double takes the high 27 and 26 bits of two outputs. The same on every platform, since only 32-bit integer arithmetic is
 * used. It is for sampling words, not for secrets.
 *
 * seed: a safe integer >= 0. stream: an independent sequence of the same seed.
 */
export function seededRandom(seed: number, stream = 0): Random {
  const words = splitMix32(
    (seed >>> 0) ^ Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b) ^ Math.imul(stream, 0xc2b2ae35),
  );
  let [a, b, c, d] = [words(), words(), words(), words() | 1]; // all four zero would be a fixed point
  const next = (): number => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotate(d, 11);
    return result;
  };
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) * 2 ** -53;
}

const rotate = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits));

/** SplitMix32: well mixed 32-bit words from any start, neighboring ones included. */
function splitMix32(start: number): () => number {
  let state = start | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return z ^ (z >>> 15);
  };
}

/** One growing row. */
interface Row extends RowRules {
  readonly image: number;
  readonly sample: number;
  readonly promptLength: number;
  readonly limit: number;
  /** Draws the samples; undefined for greedy. */
  readonly random: Random | undefined;
  readonly ids: number[];
  readonly logProbs: number[];
  finish: Finish | undefined;
}

/** Greedy search without rules on tokens looks at the likeliest word alone. */
const LIKELIEST: TopQuery = { count: 1, by: 'logit', asked: [] };

/**
 * Greedy search and sampling as in Hugging Face 4.40, for any number of images at once: every token is yielded as it comes, row by row;
 * the generator returns the sequences, `[image][sample]`. Passing `false` to `next` ends the row of the last event as `stopped`. A row that
 * has ended leaves the session, so that it costs nothing more. The session is borrowed: the caller disposes of it.
 *
 * Every row owns its random numbers, drawn from the seed and the sample's number alone, so that a row does not depend on its batch.
 *
 * @throws BackendError `logits-not-finite`; OptionError `all-forbidden` when the rules leave no token; the signal's reason.
 */
async function* singleSearch(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  options: CheckedOptions<'greedy' | 'sample'>,
): AsyncGenerator<TokenEvent, GeneratedSequence[][], unknown> {
  checkRows(options, prompts.length);
  const samples = options.strategy === 'sample' ? options.numReturnSequences : 1;
  const rows = prompts.flatMap((prompt, image) =>
    Array.from({ length: samples }, (_, sample) => startRow(scope, prompt, image, sample, options)),
  );
  const wanted = rows.every((row) => row.random === undefined && row.processors.length === 0) ? LIKELIEST : undefined;
  let logits = await stepSession(scope, prompts, wanted); // the prompt is read once for all samples of an image
  if (samples > 1) {
    scope.session.reorder(rows.map((row) => row.image));
    logits = rows.map((row) => logits[row.image]!);
  }
  const copy = workingCopy();
  let live = rows;
  while (true) {
    for (const [r, row] of live.entries()) {
      await scope.rowDone();
      const event = advance(row, logits[r]!, scope.vocabulary.eosIds, copy);
      if ((yield event) === false) row.finish ??= 'stopped';
    }
    const kept = live.flatMap((row, r) => (row.finish === undefined ? [r] : []));
    if (kept.length === 0) break;
    if (kept.length < live.length) {
      scope.session.reorder(kept);
      live = kept.map((r) => live[r]!);
    }
    const last = live.map((row) => row.ids.slice(-1));
    logits = await stepSession(scope, last, wanted);
  }
  return prompts.map((_, image) => rows.slice(image * samples, (image + 1) * samples).map(finished));
}

function startRow(
  scope: SearchScope,
  prompt: readonly number[],
  image: number,
  sample: number,
  options: CheckedOptions<'greedy' | 'sample'>,
): Row {
  return {
    image,
    sample,
    promptLength: prompt.length,
    limit: lengthLimit(prompt, image, options, scope.session),
    ...rowRules(options, scope.vocabulary, prompt.length),
    random: options.strategy === 'sample' ? seededRandom(options.seed, sample) : undefined,
    ids: [...prompt],
    logProbs: [],
    finish: undefined,
  };
}

/** Adds the next token to `row`. */
function advance(
  row: Row,
  logits: NextLogits,
  eosIds: readonly number[],
  copy: ReturnType<typeof workingCopy>,
): TokenEvent {
  const path = `image ${row.image}, token ${row.ids.length}`;
  const { id, logProb } = 'ids' in logits ? likeliest(logits, path) : choose(row, logits, path, copy);
  const index = row.logProbs.length;
  row.ids.push(id);
  row.logProbs.push(logProb);
  if (eosIds.includes(id)) row.finish = 'eos';
  else if (row.stops(row.ids)) row.finish = 'stopped';
  else if (row.ids.length >= row.limit) row.finish = 'length';
  const event = { row: row.image, sample: row.sample, index, id, logProb };
  return row.finish === undefined ? event : { ...event, finish: row.finish };
}

interface Choice {
  readonly id: number;
  readonly logProb: number;
}

function likeliest({ ids, logits, normalizer }: TopTokens, path: string): Choice {
  const [id, logit] = [ids[0]!, logits[0]!];
  if (Number.isNaN(normalizer)) refuseLogit(logit, id, path);
  return { id, logProb: logit - normalizer };
}

/** By the rules and the strategy of `row`, from its whole row of logits. */
function choose(row: Row, logits: Float32Array, path: string, copy: ReturnType<typeof workingCopy>): Choice {
  const normalizer = logNormalizer(logits, path);
  const scores = row.processors.length === 0 ? logits : copy(logits);
  applyAll(row.processors, scores, row.ids);
  const best = argMax(scores);
  if (best < 0)
    throw new OptionError({ path, code: 'all-forbidden', detail: 'the rules on tokens forbid every token' });
  const id = row.random === undefined ? best : draw(scores, scores[best]!, row.random(), path);
  return { id, logProb: logits[id]! - normalizer };
}

/** The token at which the cumulative probability of `softmax(scores)`, in order of ids, passes `u` in [0, 1). */
function draw(scores: Float32Array, max: number, u: number, path: string): number {
  let total = 0;
  for (let id = 0; id < scores.length; id++) total += Math.exp(scores[id]! - max);
  if (Number.isNaN(total))
    throw new BackendError({ path, code: 'logits-not-finite', detail: 'the processed scores overflow' });
  let left = u * total;
  let last = 0;
  for (let id = 0; id < scores.length; id++) {
    if (scores[id]! === Number.NEGATIVE_INFINITY) continue;
    const p = Math.exp(scores[id]! - max);
    if (left < p) return id;
    left -= p;
    last = id;
  }
  return last; // only by rounding: u * total can end up a hair above the sum
}

function finished(row: Row): GeneratedSequence {
  const logProb = row.logProbs.reduce((sum, x) => sum + x, 0);
  return {
    ids: row.ids,
    newIds: row.ids.slice(row.promptLength),
    tokenLogProbs: row.logProbs,
    logProb,
    score: logProb,
    finish: row.finish ?? 'stopped',
  };
}

/**
 * Generates for all images of a session by the strategy that the options name; `{}` is the original's beam search. Returns
 * `[image][rank or sample]`. Every row equals the one that its image alone would give.
 *
 * The session is opened after the options are checked and disposed of in every case: success, error, abort.
 *
 * prompts: token ids, one list for each image (lengths may differ), [bosId] alone by default.
 *
 * @throws OptionError naming the option or prompt, also `all-forbidden` when the rules leave no token; BackendError `logits-not-finite`; the
 *   signal's reason as soon as a step is over.
 */
export async function generate(
  open: SessionSource,
  vocabulary: VocabularyFacts,
  options: GenerateOptions = {},
  prompts?: readonly (readonly number[])[],
): Promise<GeneratedSequence[][]> {
  checkVocabulary(vocabulary);
  const checked = checkGenerateOptions(options, vocabulary);
  const { signal } = checked;
  signal?.throwIfAborted();
  return withSession(open, async (session) => {
    const scope = searchScope(session, vocabulary, signal);
    return search(scope, checkPrompts(prompts, scope), checked);
  });
}

/**
 * Greedy search or sampling, token by token: `for await (const token of streamTokens(…))`. The generator's return value is what `generate`
 * returns. Nothing is opened before the first token is asked for; leaving the loop early, an error or an abort disposes of the session.
 * `next(false)` ends the row of the last token.
 *
 * @throws as `generate`, from the first `next()` on.
 */
export async function* streamTokens(
  open: SessionSource,
  vocabulary: VocabularyFacts,
  options: StreamOptions,
  prompts?: readonly (readonly number[])[],
): AsyncGenerator<TokenEvent, GeneratedSequence[][], unknown> {
  checkVocabulary(vocabulary);
  const checked = checkGenerateOptions(options, vocabulary);
  if (checked.strategy !== 'greedy' && checked.strategy !== 'sample') {
    return fail('strategy', 'not-streamable', `only greedy and sample produce token by token, not ${checked.strategy}`);
  }
  checked.signal?.throwIfAborted();
  const session = await open();
  try {
    const scope = searchScope(session, vocabulary, checked.signal);
    return yield* singleSearch(scope, checkPrompts(prompts, scope), checked);
  } finally {
    session.dispose();
  }
}

function search(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  options: CheckedOptions<Strategy>,
): Promise<GeneratedSequence[][]> {
  switch (options.strategy) {
    case 'beam':
      return runBeams(scope, prompts, options, beamSearch);
    case 'original':
      return runBeams(scope, prompts, options, originalBeamSearch);
    case 'original-autoregressive':
      return runBeams(scope, prompts, options, autoregressiveSearch);
    default:
      return drain(singleSearch(scope, prompts, options), options.onToken);
  }
}

/** Runs a token generator to its end, with the listener's answers. */
async function drain(
  tokens: AsyncGenerator<TokenEvent, GeneratedSequence[][], unknown>,
  onToken: TokenListener | undefined,
): Promise<GeneratedSequence[][]> {
  let answer: unknown;
  while (true) {
    const { done, value } = await tokens.next(answer);
    if (done === true) return value;
    answer = await onToken?.(value);
  }
}
