// Where the sums of a product go: biases, and columns of a last panel that C has no room for.

import { storeLanes } from './math';

/** 32 bytes of zeros: the bias where there is none, and what a sum starts from. */
export const ZEROS: usize = memory.data<f32>([0, 0, 0, 0, 0, 0, 0, 0], 16);

/** The eight numbers that panel p adds. */
@inline export function biasOf(bias: usize, p: i32): usize {
  return bias ? bias + (<usize>p << 5) : ZEROS;
}

/** c[8] = a + b, from memory and into memory, see tiles.mjs. */
@inline export function addTwo(a: usize, b: usize, c: usize): void {
  v128.store(c, f32x4.add(v128.load(a), v128.load(b)));
  v128.store(c, f32x4.add(v128.load(a, 16), v128.load(b, 16)), 16);
}

/** Panel i of `count` that are read together, or the last one. */
@inline export function panelAt(i: i32, count: i32): usize {
  return <usize>min(i, count - 1);
}

/** The first `columns` (1 to 7) of [m, 8] into C. */
export function copyColumns(s: usize, c: usize, ldc: usize, m: i32, columns: i32): void {
  for (let i = 0; i < m; i++, s += 32, c += ldc) {
    if (columns >= 4) v128.store(c, v128.load(s));
    if (columns & 3) storeLanes(c + (<usize>(columns & 4) << 2), v128.load(s + (<usize>(columns & 4) << 2)), columns & 3);
  }
}

/**
 * Brings `bytes` of each of `count` (1 to 4) panels, `panel` bytes apart, from `at` on into the cache, and leaves something at
 * `sink`. A processor has as many cache lines on their way from memory as there are loads among its next few hundred
 * instructions: here one to a line, inside a product of several rows one to dozens.
 */
export function touch(at: usize, panel: usize, count: i32, bytes: usize, sink: usize): void {
  const second = panelAt(1, count) * panel, third = panelAt(2, count) * panel, fourth = panelAt(3, count) * panel;
  let all: i32 = 0;
  for (const end = at + bytes; at < end; at += 64) {
    all |= load<i32>(at) | load<i32>(at + second) | load<i32>(at + third) | load<i32>(at + fourth);
  }
  store<i32>(sink, all);
}
