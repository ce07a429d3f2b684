/**
 * The rules that make tokens less likely or forbid them, as Hugging Face transformers 4.40 has them (`generation/logits_process.py`).
 * Each returns a function that changes one row of scores in place; a forbidden token gets -Infinity.
 */
import type { LogitsProcessor } from './types.js';

const FORBIDDEN = Number.NEGATIVE_INFINITY;

/** What the processors of a row are made from; a value that changes nothing leaves its processor out. */
export interface ProcessorSettings {
  readonly repetitionPenalty: number;
  readonly noRepeatNgramSize: number;
  readonly badWords: readonly (readonly number[])[];
  readonly minLength: number;
  readonly minNewTokens: number;
}

/** The processors of one row in Hugging Face's order: repetition, n-grams, bad words, min length, min new tokens. */
export function processorsFor(settings: ProcessorSettings, eosId: number, promptLength: number): LogitsProcessor[] {
  const list: LogitsProcessor[] = [];
  if (settings.repetitionPenalty !== 1) list.push(repetitionPenalty(settings.repetitionPenalty));
  if (settings.noRepeatNgramSize > 0) list.push(noRepeatNgram(settings.noRepeatNgramSize));
  if (settings.badWords.length > 0) list.push(badWords(settings.badWords, eosId));
  if (settings.minLength > 0) list.push(minLength(settings.minLength, eosId));
  if (settings.minNewTokens > 0) list.push(minLength(promptLength + settings.minNewTokens, eosId));
  return list;
}

/** Runs `processors` in order. */
export function applyAll(processors: readonly LogitsProcessor[], scores: Float32Array, ids: readonly number[]): void {
  for (const process of processors) process(scores, ids);
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
 * Forbids the last token of every sequence whose other tokens the row ends with. As in Hugging Face: a sequence that is just the end token
 * is no bad word, and a sequence longer than the row so far is not looked at.
 */
export function badWords(sequences: readonly (readonly number[])[], eosId: number): LogitsProcessor {
  const list = sequences.filter((sequence) => sequence.length > 1 || sequence[0] !== eosId);
  return (scores, ids) => {
    for (const sequence of list) {
      const last = sequence.length - 1;
      if (last > 0 && sequence.length > ids.length) continue;
      let matches = 0;
      while (matches < last && sequence[matches] === ids[ids.length - last + matches]) matches++;
      if (matches === last) scores[sequence[last]!] = FORBIDDEN;
    }
  };
}

/** Forbids the end token while the row, prompt included, has fewer than `length` tokens. */
export function minLength(length: number, eosId: number): LogitsProcessor {
  return (scores, ids) => {
    if (ids.length < length) scores[eosId] = FORBIDDEN;
  };
}
