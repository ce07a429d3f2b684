// The matrix product on packed operands, with bias and activation.

import { map } from './elementwise';
import { maxLanes, storeLanes } from './math';
import { param, paramInt } from './memory-map';
import {
  BF16, F16, F32, INT8, packTiles, packTilesTransposed, TILE_ROWS, widenPanel16, widenPanel8,
} from './pack';
import {
  streamBf16, streamF16, streamF32, streamInt8, tileBf16, tileF16, tileF32, tileInt8,
} from './tiles';

/** Steps of k that are summed in registers before they are added to C: panel and tile stay in the first-level cache. */
const K_BLOCK: i32 = 768;

/** Up to this many rows the weights are read once and decoded in registers; above, panels are widened to float32 first. */
const STREAM_ROWS: i32 = 8;

/** Bytes of 8 weights, one step of k. */
@inline function stepBytes(format: i32): usize {
  return format == F32 ? 32 : format == INT8 ? 8 : 16;
}

/** Job: parameters a, lda, target, m, k, transposed, rows in a chunk (a multiple of TILE_ROWS). Packs A into tiles. */
export function packTilesJob(chunk: i32): void {
  const from = chunk * paramInt(6), to = min(from + paramInt(6), paramInt(3));
  if (paramInt(5)) packTilesTransposed(param(0), param(1), param(2), from, to, paramInt(4));
  else packTiles(param(0), param(1), param(2), from, to, paramInt(4));
}

@inline function tile(format: i32, rows: i32, a: usize, b: usize, c: usize, ldc: usize, k: i32, add: bool, bias: usize): void {
  if (format == F32) tileF32(rows, a, b, c, ldc, k, add, bias);
  else if (format == BF16) tileBf16(rows, a, b, c, ldc, k, add, bias);
  else tileF16(rows, a, b, c, ldc, k, add, bias);
}

/** C[m, 8] (+)= tiles · one panel (rows k0 to k0 + kb of both). */
function multiplyPanel(format: i32, tiles: usize, m: i32, k: i32, k0: i32, kb: i32, b: usize, c: usize, ldc: usize, bias: usize): void {
  const add = k0 > 0;
  let i = 0;
  for (; i + TILE_ROWS <= m; i += TILE_ROWS, c += ldc * TILE_ROWS) {
    const a = tiles + (<usize>(i * k + k0 * TILE_ROWS) << 2);
    if (format == F32) tileF32(TILE_ROWS, a, b, c, ldc, kb, add, bias);
    else tile(format, TILE_ROWS, a, b, c, ldc, kb, add, bias);
  }
  const rest = m - i;
  if (rest) tile(format, rest, tiles + (<usize>(i * k + k0 * rest) << 2), b, c, ldc, kb, add, bias);
}

/**
 * C[m, n] = A · B + bias for panels p0 to p1, float32 A in tiles. `spare` holds m * 32 bytes for a last panel that C has no room
 * for, and K_BLOCK * 32 for a widened panel. int8 weights are always widened here.
 */
export function multiply(
  tiles: usize, m: i32, k: i32, w: usize, format: i32, scales: usize, n: i32, p0: i32, p1: i32, c: usize, ldc: usize, bias: usize,
  spare: usize,
): void {
  const bytes = stepBytes(format);
  const height = format == INT8 ? (k + 1) & ~1 : k;
  const widen = format == INT8 || (format != F32 && m > STREAM_ROWS);
  const wide = spare + (<usize>m << 5);
  for (let k0 = 0; k0 < k; k0 += K_BLOCK) {
    const kb = min(K_BLOCK, k - k0);
    for (let p = p0; p < p1; p++) {
      let b = w + (<usize>p * height + k0) * bytes;
      const columns = min(8, n - (p << 3));
      if (widen) {
        if (format == INT8) widenPanel8(b, scales + (<usize>p << 5), wide, kb);
        else widenPanel16(format, b, wide, kb);
        b = wide;
      }
      const kind = widen ? F32 : format, bp = bias ? bias + (<usize>p << 5) : 0;
      if (columns == 8) multiplyPanel(kind, tiles, m, k, k0, kb, b, c + (<usize>p << 5), ldc, bp);
      else {
        multiplyPanel(kind, tiles, m, k, k0, kb, b, spare, 32, bp);
        if (k0 + kb == k) copyColumns(spare, c + (<usize>p << 5), ldc, m, columns);
      }
    }
  }
}

/** The first `columns` (1 to 7) of [m, 8] into C. */
function copyColumns(s: usize, c: usize, ldc: usize, m: i32, columns: i32): void {
  for (let i = 0; i < m; i++, s += 32, c += ldc) {
    if (columns >= 4) v128.store(c, v128.load(s));
    if (columns & 3) storeLanes(c + (<usize>(columns & 4) << 2), v128.load(s + (<usize>(columns & 4) << 2)), columns & 3);
  }
}

/** C[1, n] = a · B + bias for panels p0 to p1, weights decoded on the way. */
function streamRow(a: usize, k: i32, w: usize, format: i32, n: i32, p0: i32, p1: i32, c: usize, bias: usize, spare: usize): void {
  const bytes = stepBytes(format);
  for (let p = p0; p < p1; p++) {
    const b = w + <usize>p * <usize>k * bytes, columns = min(8, n - (p << 3));
    const to = columns == 8 ? c + (<usize>p << 5) : spare, bp = bias ? bias + (<usize>p << 5) : 0;
    if (format == F32) streamF32(a, b, to, k, bp);
    else if (format == BF16) streamBf16(a, b, to, k, bp);
    else streamF16(a, b, to, k, bp);
    if (columns < 8) copyColumns(spare, c + (<usize>p << 5), 0, 1, columns);
  }
}

/**
 * Job: parameters tiles, m, k, weights, format, scales, n, c, ldc, bias (or 0), activation (-1 or a number of `map`), scratch,
 * bytes of scratch per thread, panels in a chunk, rows in a block (a multiple of TILE_ROWS), chunks in a block.
 */
export function linearJob(chunk: i32, thread: i32): void {
  const m = paramInt(1), k = paramInt(2), format = paramInt(4), n = paramInt(6), ldc = param(8), bias = param(9);
  const perChunk = paramInt(13), block = chunk / paramInt(15);
  const row0 = block * paramInt(14), rows = min(paramInt(14), m - row0);
  const p0 = (chunk % paramInt(15)) * perChunk, p1 = min(p0 + perChunk, (n + 7) >> 3);
  const spare = param(11) + <usize>thread * param(12);
  const tiles = param(0) + (<usize>row0 * <usize>k << 2), c = param(7) + <usize>row0 * ldc;
  if (m == 1 && format != INT8) streamRow(tiles, k, param(3), format, n, p0, p1, c, bias, spare);
  else multiply(tiles, rows, k, param(3), format, param(5), n, p0, p1, c, ldc, bias, spare);
  activate(paramInt(10), c, ldc, rows, p0, p1, n);
}

@inline function activate(activation: i32, c: usize, ldc: usize, rows: i32, p0: i32, p1: i32, n: i32): void {
  if (activation < 0) return;
  const width = min(p1 << 3, n) - (p0 << 3);
  let at = c + (<usize>p0 << 5);
  for (let i = 0; i < rows; i++, at += ldc) map(activation, at, at, width);
}

/** Largest |x| of n numbers; NaN counts as infinite. */
export function largest(x: usize, n: i32): f32 {
  let m = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) m = f32x4.max(m, f32x4.abs(v128.load(x + (<usize>i << 2))));
  let r = maxLanes(m);
  for (; i < n; i++) r = max(r, abs(load<f32>(x + (<usize>i << 2))));
  return r == r ? r : Infinity;
}

/**
 * Rows of A [m, k] rounded to 16 bits and packed for `tileInt8`: tiles of TILE_ROWS rows, [pairs][rows][2] words, with one scale a
 * row at `scales`. `limit` is the largest word; it keeps the 32-bit sums from overflowing: limit * 127 * k < 2^31.
 */
export function packTilesInt16(a: usize, d: usize, scales: usize, m: i32, k: i32, limit: f32): void {
  const pairs = (k + 1) >> 1;
  for (let i = 0; i < m; i++) {
    const tile0 = i / TILE_ROWS * TILE_ROWS, rows = min(TILE_ROWS, m - tile0);
    const x = a + (<usize>i * <usize>k << 2), top = largest(x, k);
    const factor: f32 = top > 0 ? limit / top : 0;
    store<f32>(scales + (<usize>i << 2), top > 0 ? top / limit : 0);
    let t = d + (<usize>(tile0 * pairs + (i - tile0)) << 2);
    for (let j = 0; j < k; j += 2, t += <usize>rows << 2) {
      store<i16>(t, <i16>nearest(load<f32>(x + (<usize>j << 2)) * factor));
      store<i16>(t, j + 1 < k ? <i16>nearest(load<f32>(x + (<usize>j << 2), 4) * factor) : 0, 2);
    }
  }
}

/**
 * Job: parameters as in `linearJob`, with `tiles` in 16-bit words and `scales` those of the columns; 16 is the scales of the
 * rows. One block; at most STREAM_ROWS rows.
 */
export function linearInt8Job(chunk: i32, thread: i32): void {
  const m = paramInt(1), pairs = (paramInt(2) + 1) >> 1, n = paramInt(6), ldc = param(8), rowScales = param(16);
  const p0 = chunk * paramInt(13), p1 = min(p0 + paramInt(13), (n + 7) >> 3);
  const spare = param(11) + <usize>thread * param(12);
  for (let p = p0; p < p1; p++) {
    const b = param(3) + (<usize>p * pairs << 4), scales = param(5) + (<usize>p << 5), columns = min(8, n - (p << 3));
    const bias = param(9) ? param(9) + (<usize>p << 5) : 0;
    const c = columns == 8 ? param(7) + (<usize>p << 5) : spare, step: usize = columns == 8 ? ldc : 32;
    if (m == 1) streamInt8(param(0), b, c, pairs, rowScales, scales, bias);
    else {
      for (let i = 0; i < m; i += TILE_ROWS) {
        const rows = min(TILE_ROWS, m - i), a = param(0) + (<usize>i * pairs << 2);
        tileInt8(rows, a, b, c + <usize>i * step, step, pairs, rowScales + (<usize>i << 2), scales, bias);
      }
    }
    if (columns < 8) copyColumns(spare, param(7) + (<usize>p << 5), ldc, m, columns);
  }
  activate(paramInt(10), param(7), ldc, m, p0, p1, n);
}
