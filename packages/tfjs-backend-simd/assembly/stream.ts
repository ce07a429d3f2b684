// A single row against weights that come from memory: every byte is read once, so what counts is how many are on their way.

import { tile } from './multiply';
import { BF16, F32 } from './pack';
import { addTwo, biasOf, copyColumns, panelAt } from './target';
import { streamBf16, streamF16, streamF32 } from './tiles';

/** Steps of k that are summed in registers before they are added to the rest. */
const K_BLOCK: i32 = 256;

/**
 * C[1, n] = a · B + bias for panels p0 to p1: four of them at a time, in blocks of k whose sums are added up. Four places that are
 * read at once come from memory faster than one, and share what is read of a.
 */
export function streamRow(
  a: usize, k: i32, w: usize, format: i32, n: i32, p0: i32, p1: i32, c: usize, bias: usize, spare: usize,
): void {
  const step: usize = format == F32 ? 32 : 16, panel = <usize>k * step, even = k & ~1, totals = spare + 32, sums = totals + 128;
  for (let p = p0; p < p1; p += 4) {
    const count = min(4, p1 - p), b = w + <usize>p * panel;
    memory.fill(totals, 0, 128);
    for (let k0 = 0; k0 < even; k0 += K_BLOCK) {
      memory.fill(sums, 0, 128);
      streamFour(format, a + (<usize>k0 << 2), b + <usize>k0 * step, panel, count, sums, min(K_BLOCK, even - k0));
      for (let i: usize = 0; i < 128; i += 32) addTwo(totals + i, sums + i, totals + i);
    }
    for (let i = 0; i < count; i++) {
      const total = totals + (<usize>i << 5), last = b + <usize>i * panel + <usize>even * step;
      if (even < k) tile(format, 1, a + (<usize>even << 2), last, total, 32, 1, total, 0);
      putPanel(total, c + (<usize>(p + i) << 5), n - (p + i << 3), biasOf(bias, p + i), spare);
    }
  }
}

/** A block of `count` panels, `panel` bytes apart; where there are fewer than four, the last one is read again. */
@inline function streamFour(format: i32, a: usize, b: usize, panel: usize, count: i32, sums: usize, k: i32): void {
  const c = b + panelAt(1, count) * panel, d = b + panelAt(2, count) * panel, e = b + panelAt(3, count) * panel;
  if (format == F32) streamF32(a, b, c, d, e, sums, k);
  else if (format == BF16) streamBf16(a, b, c, d, e, sums, k);
  else streamF16(a, b, c, d, e, sums, k);
}

/** A finished panel into C, of which the last has room for `columns` only. */
@inline function putPanel(sums: usize, c: usize, columns: i32, bias: usize, spare: usize): void {
  addTwo(sums, bias, columns >= 8 ? c : spare);
  if (columns < 8) copyColumns(spare, c, 0, 1, columns);
}
