// A single row against weights that come from memory: every byte is read once, so what counts is how many are on their way.

import { tile } from './multiply';
import { BF16 } from './pack';
import { addThree, biasOf, copyColumns, ZEROS } from './target';
import { streamBf16, streamF16, streamF32, tileF32 } from './tiles';

/** Steps of k of 16-bit weights that are summed in registers before they are added to the rest. */
const K_BLOCK: i32 = 256;

/** A finished panel into C, of which the last has room for `columns` only. */
@inline function putPanel(sums: usize, other: usize, c: usize, columns: i32, bias: usize, spare: usize): void {
  addThree(sums, other, bias, columns >= 8 ? c : spare);
  if (columns < 8) copyColumns(spare, c, 0, 1, columns);
}

/** C[1, n] = a · B + bias for panels p0 to p1 of float32 weights: four steps of k at a time, the rest one by one. */
export function streamRow32(a: usize, k: i32, w: usize, n: i32, p0: i32, p1: i32, c: usize, bias: usize, spare: usize): void {
  const even = k & ~3, sums = spare + 32;
  for (let p = p0; p < p1; p++) {
    const b = w + (<usize>p * <usize>k << 5);
    memory.fill(sums, 0, 128);
    streamF32(a, b, sums, even);
    for (let i = even; i < k; i++) tileF32(1, a + (<usize>i << 2), b + (<usize>i << 5), sums, 32, 1, sums, 0);
    addThree(sums, sums + 32, ZEROS, sums);
    addThree(sums + 64, sums + 96, ZEROS, sums + 32);
    putPanel(sums, sums + 32, c + (<usize>p << 5), n - (p << 3), biasOf(bias, p), spare);
  }
}

/** The same for 16-bit weights: two panels at a time, in blocks of k whose sums are added up. */
export function streamRow16(a: usize, k: i32, w: usize, format: i32, n: i32, p0: i32, p1: i32, c: usize, bias: usize, spare: usize): void {
  const panel = <usize>k << 4, even = k & ~1, totals = spare + 32, sums = totals + 64;
  for (let p = p0; p < p1; p += 2) {
    const b = w + <usize>p * panel, next = p + 1 < p1 ? panel : 0;
    memory.fill(totals, 0, 64);
    for (let k0 = 0; k0 < even; k0 += K_BLOCK) {
      const kb = min(K_BLOCK, even - k0), at = b + (<usize>k0 << 4), x = a + (<usize>k0 << 2);
      memory.fill(sums, 0, 64);
      if (format == BF16) streamBf16(x, at, next, sums, kb);
      else streamF16(x, at, next, sums, kb);
      addThree(totals, sums, ZEROS, totals);
      addThree(totals + 32, sums + 32, ZEROS, totals + 32);
    }
    if (even < k) {
      const at = b + (<usize>even << 4), x = a + (<usize>even << 2);
      tile(format, 1, x, at, totals, 32, 1, totals, 0);
      tile(format, 1, x, at + next, totals + 32, 32, 1, totals + 32, 0);
    }
    putPanel(totals, ZEROS, c + (<usize>p << 5), n - (p << 3), biasOf(bias, p), spare);
    if (next) putPanel(totals + 32, ZEROS, c + (<usize>(p + 1) << 5), n - (p + 1 << 3), biasOf(bias, p + 1), spare);
  }
}

