// Where the sums of a product go: biases, and columns of a last panel that C has no room for.

import { storeLanes } from './math';

/** 32 bytes of zeros: the bias where there is none, and what a sum starts from. */
export const ZEROS: usize = memory.data<f32>([0, 0, 0, 0, 0, 0, 0, 0], 16);

/** The eight numbers that panel p adds. */
@inline export function biasOf(bias: usize, p: i32): usize {
  return bias ? bias + (<usize>p << 5) : ZEROS;
}

/** c[8] = a + b + bias, all eight numbers each and from memory, see tiles.mjs. */
@inline export function addThree(a: usize, b: usize, bias: usize, c: usize): void {
  for (let i: usize = 0; i < 32; i += 16) {
    v128.store(c + i, f32x4.add(f32x4.add(v128.load(a + i), v128.load(b + i)), v128.load(bias + i)));
  }
}

/** The first `columns` (1 to 7) of [m, 8] into C. */
export function copyColumns(s: usize, c: usize, ldc: usize, m: i32, columns: i32): void {
  for (let i = 0; i < m; i++, s += 32, c += ldc) {
    if (columns >= 4) v128.store(c, v128.load(s));
    if (columns & 3) storeLanes(c + (<usize>(columns & 4) << 2), v128.load(s + (<usize>(columns & 4) << 2)), columns & 3);
  }
}

/**
 * Brings `bytes` from `at` on into the cache, and leaves something at `sink`. A processor has as many cache lines on their way from
 * memory as there are loads among its next few hundred instructions: here one to a line, inside a product one to dozens.
 */
export function touch(at: usize, bytes: usize, sink: usize): void {
  let all: i32 = 0;
  for (const end = at + bytes; at < end; at += 64) all |= load<i32>(at);
  store<i32>(sink, all);
}
