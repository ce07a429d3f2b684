import { BackendError } from '../errors.js';
import type { CheckedOptions, Strategy } from './options.js';
import type { LogitsProcessor, StoppingCriterion, VocabularyFacts } from './session.js';

/**
 * log(sum(exp(logits))), accumulated in double: `logits[id] - logNormalizer(logits)` is the log-probability of `id`.
 *
 * @throws BackendError `logits-not-finite` for NaN or an infinity anywhere: forbidden tokens get -Infinity only after this check.
 */
export function logNormalizer(logits: Float32Array, path: string): number {
  let max = Number.NEGATIVE_INFINITY;
  let zero = 0;
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!;
    zero += x * 0; // stays 0, unless x is NaN or infinite: one check without a branch per entry
    if (x > max) max = x;
  }
  if (zero !== 0) {
    const id = logits.findIndex((x) => !Number.isFinite(x));
    refuseLogit(logits[id]!, id, path);
  }
  return logSumExp(logits, max);
}

/** log(sum(exp(scores))) of scores that may hold -Infinity; -Infinity when all of them do. `max`: their largest. */
export function logSumExp(scores: Float32Array, max: number): number {
  if (max === Number.NEGATIVE_INFINITY) return max;
  let sum = 0;
  for (let id = 0; id < scores.length; id++) sum += Math.exp(scores[id]! - max);
  return max + Math.log(sum);
}

/** A working copy of a row, reused from row to row: a new array of a vocabulary's length each time costs as much as the exponentials. */
export function workingCopy(): (source: Float32Array) => Float32Array {
  let copy = new Float32Array();
  return (source) => {
    if (copy.length !== source.length) copy = new Float32Array(source.length);
    copy.set(source);
    return copy;
  };
}

/** Index of the largest score, the first of equals; -1 when there is none above -Infinity. */
export function argMax(scores: Float32Array): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < scores.length; id++) {
    const x = scores[id]!;
    if (x > max) {
      max = x;
      best = id;
    }
  }
  return best;
}

/** @throws BackendError `logits-not-finite`, with the number and its token. */
export function refuseLogit(logit: number, id: number, path: string): never {
  throw new BackendError({
    path,
    code: 'logits-not-finite',
    detail: `the model gave ${logit} for token ${id}: its weights, its input or the backend are broken`,
  });
}

/**
 * The rules that make tokens less likely or forbid them, as Hugging Face transformers has them (`generation/logits_process.py`), and what ends
 * a row. Each rule is a function that changes one row of scores in place; a forbidden token gets -Infinity.
 */

const FORBIDDEN = Number.NEGATIVE_INFINITY;

/** What a row obeys. */
export interface RowRules {
  readonly processors: readonly LogitsProcessor[];
  readonly stops: StopsRow;
}

/** The rules of one row. Values that change nothing leave their processor out. */
export function rowRules(
  options: CheckedOptions<Strategy>,
  vocabulary: VocabularyFacts,
  promptLength: number,
): RowRules {
  return {
    processors: processorsFor(options, vocabulary.eosIds, promptLength),
    stops: stopsRow(options, vocabulary, promptLength),
  };
}

/** Processors in Hugging Face's order: biases, repetition, n-grams, bad words, lengths, the caller's own; for sampling temperature, top-k, top-p, min-p. */
function processorsFor(
  options: CheckedOptions<Strategy>,
  eosIds: readonly number[],
  promptLength: number,
): LogitsProcessor[] {
  const list: LogitsProcessor[] = [];
  if (options.sequenceBias !== undefined && options.sequenceBias.length > 0)
    list.push(sequenceBias(options.sequenceBias));
  if (options.repetitionPenalty !== 1) list.push(repetitionPenalty(options.repetitionPenalty));
  if (options.noRepeatNgramSize > 0) list.push(noRepeatNgram(options.noRepeatNgramSize));
  if (options.badWords !== undefined && options.badWords.length > 0) list.push(badWords(options.badWords, eosIds));
  if (options.minLength > 0) list.push(minLength(options.minLength, eosIds));
  if (options.minNewTokens > 0) list.push(minLength(promptLength + options.minNewTokens, eosIds));
  list.push(...(options.logitsProcessors ?? []));
  if (options.strategy !== 'sample') return list;
  if (options.temperature !== 1) list.push(temperature(options.temperature));
  if (options.topK > 0) list.push(topK(options.topK));
  if (options.topP < 1) list.push(topP(options.topP));
  if (options.minP > 0) list.push(minP(options.minP));
  return list;
}

/** Runs `processors` in order. */
export function applyAll(processors: readonly LogitsProcessor[], scores: Float32Array, ids: readonly number[]): void {
  for (const process of processors) process(scores, ids);
}

/**
 * Adds each sequence's bias to its last token where the row ends with its other tokens. As in Hugging Face, all biases are summed before they are
 * added (so in float32 their order does not matter), and a sequence longer than the row so far is not looked at.
 */
export function sequenceBias(biases: readonly (readonly [ids: readonly number[], bias: number])[]): LogitsProcessor {
  return (scores, ids) => {
    const sums = new Map<number, number>();
    for (const [sequence, bias] of biases) {
      const last = sequence.length - 1;
      if (endsWith(ids, sequence)) sums.set(sequence[last]!, (sums.get(sequence[last]!) ?? 0) + bias);
    }
    for (const [id, bias] of sums) scores[id] = scores[id]! + bias;
  };
}

/** Does the row end with all but the last token of `sequence`? Never, where the sequence is longer than the row. */
function endsWith(ids: readonly number[], sequence: readonly number[]): boolean {
  const last = sequence.length - 1;
  if (last > 0 && sequence.length > ids.length) return false;
  let matches = 0;
  while (matches < last && sequence[matches] === ids[ids.length - last + matches]) matches++;
  return matches === last;
}

/** Every token so far, prompt included, once: a score below 0 is multiplied by `penalty`, else divided (CTRL, Keskar 2019). */
export function repetitionPenalty(penalty: number): LogitsProcessor {
  return (scores, ids) => {
    for (const id of new Set(ids)) scores[id] = scores[id]! < 0 ? scores[id]! * penalty : scores[id]! / penalty;
  };
}

/** Forbids every token that would complete an n-gram of `size` tokens that the row, prompt included, already has. */
export function noRepeatNgram(size: number): LogitsProcessor {
  return (scores, ids) => {
    const tail = ids.length - (size - 1); // the last size - 1 tokens start here
    for (let start = 0; start + size <= ids.length; start++) {
      let matches = 0;
      while (matches < size - 1 && ids[start + matches] === ids[tail + matches]) matches++;
      if (matches === size - 1) scores[ids[start + size - 1]!] = FORBIDDEN;
    }
  };
}

/**
 * Forbids the last token of every sequence whose other tokens the row ends with. As in Hugging Face: a sequence that is just an end token
 * is no bad word, and a sequence longer than the row so far is not looked at.
 */
export function badWords(sequences: readonly (readonly number[])[], eosIds: readonly number[]): LogitsProcessor {
  const list = sequences.filter((sequence) => sequence.length > 1 || !eosIds.includes(sequence[0]!));
  return (scores, ids) => {
    for (const sequence of list) {
      if (endsWith(ids, sequence)) scores[sequence[sequence.length - 1]!] = FORBIDDEN;
    }
  };
}

/** Forbids the end tokens while the row, prompt included, has fewer than `length` tokens. */
export function minLength(length: number, eosIds: readonly number[]): LogitsProcessor {
  return (scores, ids) => {
    if (ids.length < length) for (const id of eosIds) scores[id] = FORBIDDEN;
  };
}

// What shapes the distribution for sampling.

/** Divides every score: below 1 sharper, above 1 flatter. */
export function temperature(value: number): LogitsProcessor {
  return (scores) => {
    for (let id = 0; id < scores.length; id++) scores[id] = scores[id]! / value;
  };
}

/** Keeps every score that is at least the k-th largest (ties at the edge all stay), and `minTokensToKeep` at least. */
export function topK(k: number, minTokensToKeep = 1): LogitsProcessor {
  let heap = new Float32Array(0);
  return (scores) => {
    const keep = Math.min(Math.max(k, minTokensToKeep), scores.length);
    if (heap.length !== keep) heap = new Float32Array(keep);
    const edge = kthLargest(scores, heap);
    for (let id = 0; id < scores.length; id++) if (scores[id]! < edge) scores[id] = FORBIDDEN;
  };
}

/**
 * Nucleus sampling (Holtzman 2019): keeps the most likely tokens until their probability reaches `p`; the one that crosses stays, and
 * `minTokensToKeep` at least. Among equal scores the lower id counts as more likely.
 */
export function topP(p: number, minTokensToKeep = 1): LogitsProcessor {
  let heap = new Uint32Array(0);
  return (scores) => {
    if (heap.length !== scores.length) heap = new Uint32Array(scores.length);
    const { max, total } = softmaxTotal(scores);
    // All tokens below this edge together hold less than 1 - p, so the nucleus is above it: few tokens are left to order.
    const edge = minTokensToKeep > 1 ? FORBIDDEN : max + Math.log(((1 - p) * total) / scores.length) - 1e-3;
    let size = 0;
    for (let id = 0; id < scores.length; id++) {
      if (scores[id]! > edge) heap[size++] = id;
      else scores[id] = FORBIDDEN;
    }
    for (let at = (size >> 1) - 1; at >= 0; at--) sinkMostLikely(heap, at, size, scores);
    let kept = 0;
    let mass = 0; // probability of the more likely tokens: only a part of the heap is ever sorted
    while (size > 0 && (kept < minTokensToKeep || mass < p * total)) {
      mass += Math.exp(scores[heap[0]!]! - max);
      kept++;
      heap[0] = heap[--size]!;
      sinkMostLikely(heap, 0, size, scores);
    }
    for (let at = 0; at < size; at++) scores[heap[at]!] = FORBIDDEN;
  };
}

/**
 * Keeps the tokens whose probability is at least `p` times that of the likeliest (min-p sampling, arXiv 2407.01082), and `minTokensToKeep` at
 * least: as many as tie with the last of them.
 */
export function minP(p: number, minTokensToKeep = 1): LogitsProcessor {
  let heap = new Float32Array(0);
  return (scores) => {
    const { max } = softmaxTotal(scores);
    const keep = Math.min(minTokensToKeep, scores.length);
    if (heap.length !== keep) heap = new Float32Array(keep);
    const edge = Math.min(max + Math.log(p), kthLargest(scores, heap)); // the ratio of two probabilities is that of their exponentials
    for (let id = 0; id < scores.length; id++) if (scores[id]! < edge) scores[id] = FORBIDDEN;
  };
}

function softmaxTotal(scores: Float32Array): { readonly max: number; readonly total: number } {
  let max = FORBIDDEN;
  for (let id = 0; id < scores.length; id++) if (scores[id]! > max) max = scores[id]!;
  let total = 0;
  for (let id = 0; id < scores.length; id++) if (scores[id]! !== FORBIDDEN) total += Math.exp(scores[id]! - max);
  return { max, total };
}

/** The heap.length-th largest score, by a heap of the largest seen so far with the smallest of them on top. */
function kthLargest(scores: Float32Array, heap: Float32Array): number {
  heap.set(scores.subarray(0, heap.length));
  for (let at = (heap.length >> 1) - 1; at >= 0; at--) sinkSmallest(heap, at);
  for (let id = heap.length; id < scores.length; id++) {
    if (scores[id]! > heap[0]!) {
      heap[0] = scores[id]!;
      sinkSmallest(heap, 0);
    }
  }
  return heap[0]!;
}

function sinkSmallest(heap: Float32Array, from: number): void {
  const value = heap[from]!;
  let at = from;
  for (let child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= value) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = value;
}

function sinkMostLikely(heap: Uint32Array, from: number, size: number, scores: Float32Array): void {
  if (from >= size) return;
  const id = heap[from]!;
  let at = from;
  for (let child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && likelier(heap[child + 1]!, heap[child]!, scores)) child++;
    if (!likelier(heap[child]!, id, scores)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = id;
}

/** Is token `a` more likely than `b`? */
const likelier = (a: number, b: number, scores: Float32Array): boolean =>
  scores[a]! > scores[b]! || (scores[a]! === scores[b]! && a < b);

// What ends a row besides its end tokens and its length (`generation/stopping_criteria.py`).

/** Is the row over with the last of `ids`? */
export type StopsRow = (ids: readonly number[]) => boolean;

/** All criteria of one row in one. */
export function stopsRow(
  { stopStrings: strings = [], stoppingCriteria = [] }: CheckedOptions<Strategy>,
  { textOf }: VocabularyFacts,
  promptLength: number,
): StopsRow {
  const criteria = [...stoppingCriteria];
  if (strings.length > 0 && textOf !== undefined) criteria.push(stopStrings(strings, textOf));
  return (ids) => criteria.some((isOver) => isOver(ids, promptLength));
}

/**
 * Over where one of `strings` ends within the text of the last token: `stop` with `st` + `op`, with `un` + `stop` and with `st` + `opped`, not
 * with a token that follows them. The prompt counts as text before the new tokens. Texts are those of the tokens one after the other, without the
 * clean-up that decoding does: a full stop is ` .` behind a word.
 */
export function stopStrings(strings: readonly string[], textOf: (id: number) => string): StoppingCriterion {
  const longest = strings.reduce((most, string) => Math.max(most, string.length), 0);
  return (ids) => {
    const last = textOf(ids[ids.length - 1]!);
    let before = '';
    for (let at = ids.length - 2; at >= 0 && before.length < longest - 1; at--) before = textOf(ids[at]!) + before;
    return strings.some((string) => {
      const reach = Math.min(before.length, string.length - 1); // further back it would end before the last token
      return (before.slice(before.length - reach) + last).includes(string);
    });
  };
}
