// The matrix product of float32 rows and weights in panels of any format but int8. Each number of the result is a chain of multiply-adds
// over K_BLOCK steps of k, the first of them from the bias on, each other from zero and then added: in this order whatever the number of
// rows, so that a row gives the same bits alone and among others.

import { Format, K_BLOCK, LinearParam } from './abi';
import { storeLanes } from './math';
import { widenPanel16 } from './pack';
import { heartbeat, paramInt } from './thread';
import { streamBf16, streamF16, streamF32, tileBf16, tileF16, tileF32 } from './tiles';

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

/**
 * How far apart the panels are that few rows read side by side: one of each quarter of p0 to p1, so that each quarter comes from memory from front to
 * back, or, where one at a time is faster (`ReadingOrder` in product.ts), all of them.
 */
@inline export function panelsApart(p0: i32, p1: i32): i32 {
  return paramInt(LinearParam.panelsAtOnce) == 1 ? p1 - p0 : (p1 - p0 + 3) >> 2;
}

/** How many of panels p, p + apart, ... are before p1: four at most. */
@inline export function panelsFrom(p: i32, p1: i32, apart: i32): i32 {
  return min(4, (p1 - p + apart - 1) / apart);
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

// ---- many rows

/** One tile against a panel in its format, see tiles.mjs. */
@inline export function tile(
  format: i32, rows: i32, a: usize, b: usize, c: usize, ldc: usize, k: i32, base: usize, step: usize,
): void {
  if (format == Format.f32) tileF32(rows, a, b, c, ldc, k, base, step);
  else if (format == Format.bf16) tileBf16(rows, a, b, c, ldc, k, base, step);
  else tileF16(rows, a, b, c, ldc, k, base, step);
}

/** A tile's sum over one block of k, before it is added to C. */
@inline export function addTile(sums: usize, c: usize, ldc: usize, rows: i32): void {
  for (let i = 0; i < rows; i++, sums += 32, c += ldc) {
    v128.store(c, f32x4.add(v128.load(c), v128.load(sums)));
    v128.store(c, f32x4.add(v128.load(c, 16), v128.load(sums, 16)), 16);
  }
}

/**
 * C[m, 8] (+)= tiles · one panel (rows k0 to k0 + kb of both). Blocks of k are summed from zero and then added: the error of a
 * sum grows with its length, so short ones keep it small. `sums` has room for one tile.
 */
function multiplyPanel(
  format: i32, tiles: usize, m: i32, height: i32, k: i32, k0: i32, kb: i32, b: usize, c: usize, ldc: usize, bias: usize,
  sums: usize,
): void {
  for (let i = 0; i < m; i += height, c += ldc * height) {
    const rows = min(height, m - i), a = tiles + (<usize>(i * k + k0 * rows) << 2);
    if (k0 == 0) tile(format, rows, a, b, c, ldc, kb, bias, 0);
    else {
      tile(format, rows, a, b, sums, 32, kb, ZEROS, 0);
      addTile(sums, c, ldc, rows);
    }
  }
}

/** Panel p and the block of k from k0 on; parameters as `multiply`. */
function multiplyBlock(
  tiles: usize, m: i32, height: i32, k: i32, w: usize, format: i32, few: bool, n: i32, p: i32, k0: i32, c: usize, ldc: usize,
  bias: usize, spare: usize,
): void {
  const kb = min(K_BLOCK, k - k0), columns = min(8, n - (p << 3)), wide = spare + (<usize>m << 5), sums = wide + K_BLOCK * 32;
  const step: usize = format == Format.f32 ? 32 : 16, panel = w + <usize>(p * k + k0) * step;
  const at = c + (<usize>p << 5), bp = biasOf(bias, p), widening = format != Format.f32 && !few;
  if (widening) widenPanel16(format, panel, wide, kb);
  const b = widening ? wide : panel, kind = widening ? Format.f32 : format;
  if (columns == 8) return multiplyPanel(kind, tiles, m, height, k, k0, kb, b, at, ldc, bp, sums);
  multiplyPanel(kind, tiles, m, height, k, k0, kb, b, spare, 32, bp, sums);
  if (k0 + kb == k) copyColumns(spare, at, ldc, m, columns);
}

/** Panels p, p + apart, ... before p1, at most four of them, and the block of k from k0 on; parameters as `multiply`. */
@inline function multiplyFour(
  tiles: usize, m: i32, height: i32, k: i32, w: usize, format: i32, few: bool, n: i32, p: i32, p1: i32, apart: i32, k0: i32, c: usize,
  ldc: usize, bias: usize, spare: usize,
): void {
  heartbeat();
  const step: usize = format == Format.f32 ? 32 : 16, panel = <usize>k * step, count = panelsFrom(p, p1, apart);
  if (count > 1) touch(w + <usize>p * panel + <usize>k0 * step, <usize>apart * panel, count, <usize>min(K_BLOCK, k - k0) * step, spare + (<usize>m << 5));
  for (let i = 0; i < count; i++) multiplyBlock(tiles, m, height, k, w, format, few, n, p + i * apart, k0, c, ldc, bias, spare);
}

/**
 * C[m, n] = A · B + bias for panels p0 to p1, float32 A in tiles of `height` rows. `spare` holds m * 32 bytes for a last panel
 * that C has no room for, K_BLOCK * 32 for a widened panel, and a tile of sums. `few` rows read each panel from front to back, as
 * it comes from memory, and decode it in registers (f16 then needs rows raised by its factor); many take all panels for one block
 * of k, so that this block of A stays in the cache, and widen the panels first.
 */
export function multiply(
  tiles: usize, m: i32, height: i32, k: i32, w: usize, format: i32, few: bool, n: i32, p0: i32, p1: i32, c: usize, ldc: usize,
  bias: usize, spare: usize,
): void {
  if (few) {
    // One panel after the other, which the processor foresees, or four side by side: what is faster depends on the machine, and changes no sum.
    const apart = panelsApart(p0, p1);
    for (let p = p0; p < p0 + apart; p++) {
      for (let k0 = 0; k0 < k; k0 += K_BLOCK) multiplyFour(tiles, m, height, k, w, format, few, n, p, p1, apart, k0, c, ldc, bias, spare);
    }
  } else {
    for (let k0 = 0; k0 < k; k0 += K_BLOCK) {
      for (let p = p0; p < p1; p += 4) multiplyFour(tiles, m, height, k, w, format, few, n, p, p1, 1, k0, c, ldc, bias, spare);
    }
  }
}

// ---- a single row

/**
 * C[1, n] = a · B + bias for panels p0 to p1, which come from memory: every byte is read once, so what counts is how many are on their way.
 * Four panels are read at once, one of each quarter, which is faster than one, and share what is read of a. The sums are those of `multiply`.
 */
export function streamRow(
  a: usize, k: i32, w: usize, format: i32, n: i32, p0: i32, p1: i32, c: usize, bias: usize, spare: usize,
): void {
  const step: usize = format == Format.f32 ? 32 : 16, panel = <usize>k * step, totals = spare + 32, sums = totals + 128;
  const apart = panelsApart(p0, p1);
  for (let p = p0; p < p0 + apart; p++) {
    const count = panelsFrom(p, p1, apart), b = w + <usize>p * panel;
    for (let i = 0; i < count; i++) addTwo(biasOf(bias, p + i * apart), ZEROS, totals + (<usize>i << 5));
    for (let k0 = 0; k0 < k; k0 += K_BLOCK) {
      const kb = min(K_BLOCK, k - k0), block = k0 ? sums : totals;
      if (k0) memory.fill(sums, 0, 128);
      streamFour(format, a + (<usize>k0 << 2), b + <usize>k0 * step, <usize>apart * panel, count, block, kb);
      if (k0) for (let i: usize = 0; i < 128; i += 32) addTwo(totals + i, sums + i, totals + i);
    }
    for (let i = 0; i < count; i++) storePanel(totals + (<usize>i << 5), c + (<usize>(p + i * apart) << 5), n - (p + i * apart << 3));
  }
}

/** `k` steps of `count` panels, `panel` bytes apart, on top of `sums`; where there are fewer than four, the last one is read again. */
@inline function streamFour(format: i32, a: usize, b: usize, panel: usize, count: i32, sums: usize, k: i32): void {
  const c = b + panelAt(1, count) * panel, d = b + panelAt(2, count) * panel, e = b + panelAt(3, count) * panel, even = k & ~1;
  if (format == Format.f32) streamF32(a, b, c, d, e, sums, even);
  else if (format == Format.bf16) streamBf16(a, b, c, d, e, sums, even);
  else streamF16(a, b, c, d, e, sums, even);
  if (even == k) return;
  const step: usize = format == Format.f32 ? 32 : 16, last = a + (<usize>even << 2), offset = <usize>even * step;
  for (let i = 0; i < count; i++) {
    const sum = sums + (<usize>i << 5);
    tile(format, 1, last, b + <usize>i * panel + offset, sum, 32, 1, sum, 0);
  }
}

/** A finished panel into C, of which the last has room for `columns` only. */
@inline function storePanel(sums: usize, c: usize, columns: i32): void {
  if (columns < 8) copyColumns(sums, c, 0, 1, columns);
  else memory.copy(c, sums, 32);
}
