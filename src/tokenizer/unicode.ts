import { CATEGORY_RUNS, COMBINING_RUNS } from './unicode-data.js';

/**
 * C: control, format, private, surrogate or unassigned; M: non-spacing mark; P: punctuation; Z: separator; L: all
 * others.
 */
export type Kind = 'C' | 'M' | 'P' | 'Z' | 'L';

interface Runs<T> {
  /** First code point of each run, ascending. */
  readonly starts: Int32Array;
  readonly values: readonly T[];
}

function decode<T>(coded: string, pattern: RegExp, read: (code: string) => T): Runs<T> {
  const starts: number[] = [];
  const values: T[] = [];
  let next = 0;
  for (const [, code, length] of coded.matchAll(pattern)) {
    starts.push(next);
    values.push(read(code!));
    next += length === '' ? 1 : Number.parseInt(length!, 36);
  }
  return { starts: Int32Array.from(starts), values };
}

const kinds = decode(CATEGORY_RUNS, /([CMPZL])([0-9a-z]*)/g, (code) => code as Kind);
const combining = decode(COMBINING_RUNS, /(Z|N[0-9a-z]{2})([0-9a-z]*)/g, (code) =>
  code === 'Z' ? 0 : Number.parseInt(code.slice(1), 36),
);

function lookUp<T>({ starts, values }: Runs<T>, codePoint: number): T {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= codePoint) low = middle;
    else high = middle - 1;
  }
  return values[low]!;
}

/** Kind of a code point (0 to 0x10FFFF) in Unicode 14.0.0, whatever the engine knows; lone surrogates are 'C'. */
export const kindOf = (codePoint: number): Kind => lookUp(kinds, codePoint);

/** Canonical combining class of a code point in Unicode 14.0.0; 0 for starters. */
export const combiningClassOf = (codePoint: number): number => lookUp(combining, codePoint);
