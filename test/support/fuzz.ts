/** What the fuzzers share: cases that a printed seed repeats, and changes of bytes, of lists of parts and of JSON values. */

import { FULL } from './full.js';

/** Cases of each kind. */
export const FUZZ_CASES = FULL ? 10_000 : 300;
/** `IMAGE2TEXT_SEED` repeats a run, or makes another one. */
export const FUZZ_SEED = Number(process.env['IMAGE2TEXT_SEED'] ?? 20261128);

export type Random = () => number;

/** A small deterministic generator (mulberry32), for mutations. */
export function seeded(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const below = (random: Random, count: number): number => Math.floor(random() * count);
export const pick = <T>(random: Random, list: readonly T[]): T => list[below(random, list.length)]!;

/** Some bytes with one to three changed, mostly to values at the edge of what fits. */
export function changeBytes(random: Random, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const mutant = new Uint8Array(bytes);
  for (let i = 1 + below(random, 3); i > 0 && mutant.length > 0; i--) {
    mutant[below(random, mutant.length)] = pick(random, [0, 1, 2, 4, 127, 128, 255, below(random, 256)]);
  }
  return mutant;
}

/** A list with one or two parts changed, repeated, left out or put elsewhere. */
export function changeParts<T>(random: Random, parts: readonly T[], change: (part: T) => T): T[] {
  const list = [...parts];
  for (let i = 1 + below(random, 2); i > 0 && list.length > 0; i--) {
    const at = below(random, list.length);
    const kind = below(random, 6);
    if (kind === 0) list.splice(at, 1);
    else if (kind === 1) list.splice(below(random, list.length + 1), 0, list[at]!);
    else if (kind === 2) list.splice(below(random, list.length), 0, ...list.splice(at, 1));
    else list[at] = change(list[at]!);
  }
  return list;
}

/** Numbers at the edges of what fields hold. */
export const EDGES: readonly number[] = [
  ...[0, 1, 2, 3, 4, 8, 12, 15, 16, 24, 32, 40, 0x7f, 0xff, 0x7fff, 0xffff, 0x10000],
  ...[0x7fffffff, 0xfffffffe, 0xffffffff],
];

const ODD_VALUES: readonly unknown[] = [
  ...[null, true, false, 0, 1, -1, 0.5, 2 ** 31, 2 ** 53, 1e308, -0],
  ...['', 'a', '0', '[UNK]', '##', '__proto__', 'constructor', '\u0000', '\ud800', '\u202e', 'x'.repeat(300)],
  ...[[], {}, [[[]]], [0, 1], { polluted: 1 }, { __proto__: null }],
];

/** A JSON value with one place of it, at any depth, changed, left out, repeated or exchanged for another part of it. */
export function changeJson(random: Random, value: unknown): unknown {
  if (value === null || typeof value !== 'object' || random() < 0.1) return pick(random, ODD_VALUES);
  if (Array.isArray(value)) {
    if (value.length === 0) return [pick(random, ODD_VALUES)];
    return changeParts(random, value, (item) => changeJson(random, item));
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return { a: pick(random, ODD_VALUES) };
  const at = below(random, entries.length);
  const [name, old] = entries[at]!;
  const kind = below(random, 10);
  if (kind === 0) entries.splice(at, 1);
  else if (kind === 1) entries[at] = [pick(random, ['__proto__', '', name.slice(1), `${name} `, 'toString']), old];
  else if (kind === 2) entries[at] = [name, pick(random, entries)[1]];
  else if (kind === 3) entries.push([`${name}2`, old]);
  else entries[at] = [name, changeJson(random, old)];
  return Object.fromEntries(entries);
}

/** JSON text of a value, sometimes with characters of it changed. */
export function changeJsonText(random: Random, value: unknown): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(JSON.stringify(changeJson(random, value)));
  if (random() < 0.8) return bytes;
  return random() < 0.5 ? changeBytes(random, bytes) : bytes.slice(0, below(random, bytes.length));
}
