// The matrix product on packed operands, with bias and activation.

import { map } from './elementwise';
import { maxLanes, storeLanes } from './math';
import { param, paramInt } from './memory-map';
import {
  BF16, F16, F32, INT8, packTiles, packTilesTransposed, TILE_ROWS, widenPanel16, widenPanel8,
} from './pack';
import { streamBf16, streamF16, streamF32, streamInt8, tileBf16, tileF16, tileF32, tileInt8 } from './tiles';

/** Steps of k that are summed in registers before they are added to C: panel and tile stay in the first-level cache. */
const K_BLOCK: i32 = 256;

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

/** 32 bytes of zeros: the bias where there is none. */
const ZEROS: usize = memory.data<f32>([0, 0, 0, 0, 0, 0, 0, 0], 16);

/** The eight numbers that panel p adds. */
@inline function biasOf(bias: usize, p: i32): usize {
  return bias ? bias + (<usize>p << 5) : ZEROS;
}

@inline function tile(format: i32, rows: i32, a: usize, b: usize, c: usize, ldc: usize, k: i32, base: usize, step: usize): void {
  if (format == F32) tileF32(rows, a, b, c, ldc, k, base, step);
  else if (format == BF16) tileBf16(rows, a, b, c, ldc, k, base, step);
  else tileF16(rows, a, b, c, ldc, k, base, step);
}

/** A tile's sum over one block of k, before it is added to C. */
@inline function addTile(sums: usize, c: usize, ldc: usize, rows: i32): void {
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
  format: i32, tiles: usize, m: i32, k: i32, k0: i32, kb: i32, b: usize, c: usize, ldc: usize, bias: usize, sums: usize,
): void {
  for (let i = 0; i < m; i += TILE_ROWS, c += ldc * TILE_ROWS) {
    const rows = min(TILE_ROWS, m - i), a = tiles + (<usize>(i * k + k0 * rows) << 2);
    if (k0 == 0) tile(format, rows, a, b, c, ldc, kb, bias, 0);
    else {
      tile(format, rows, a, b, sums, 32, kb, ZEROS, 0);
      addTile(sums, c, ldc, rows);
    }
  }
}

/** The panel's float32 form where it must be widened first, at `wide`; the panel itself otherwise. */
@inline function widen(format: i32, b: usize, scales: usize, wide: usize, kb: i32): usize {
  if (format == INT8) widenPanel8(b, scales, wide, kb);
  else widenPanel16(format, b, wide, kb);
  return wide;
}

/** Panel p and the block of k from k0 on; parameters as `multiply`. */
function multiplyBlock(
  tiles: usize, m: i32, k: i32, w: usize, format: i32, scales: usize, n: i32, p: i32, k0: i32, c: usize, ldc: usize, bias: usize,
  spare: usize,
): void {
  const kb = min(K_BLOCK, k - k0), columns = min(8, n - (p << 3)), wide = spare + (<usize>m << 5), sums = wide + K_BLOCK * 32;
  const height = format == INT8 ? (k + 1) & ~1 : k, widening = format == INT8 || (format != F32 && m > STREAM_ROWS);
  const panel = w + (<usize>p * height + k0) * stepBytes(format), at = c + (<usize>p << 5), bp = biasOf(bias, p);
  const b = widening ? widen(format, panel, scales + (<usize>p << 5), wide, kb) : panel, kind = widening ? F32 : format;
  if (columns == 8) return multiplyPanel(kind, tiles, m, k, k0, kb, b, at, ldc, bp, sums);
  multiplyPanel(kind, tiles, m, k, k0, kb, b, spare, 32, bp, sums);
  if (k0 + kb == k) copyColumns(spare, at, ldc, m, columns);
}

/**
 * C[m, n] = A · B + bias for panels p0 to p1, float32 A in tiles. `spare` holds m * 32 bytes for a last panel that C has no room
 * for, K_BLOCK * 32 for a widened panel, and a tile of sums. int8 weights are always widened here. Few rows read each panel from
 * front to back, as it comes from memory; many take all panels for one block of k, so that this block of A stays in the cache.
 */
export function multiply(
  tiles: usize, m: i32, k: i32, w: usize, format: i32, scales: usize, n: i32, p0: i32, p1: i32, c: usize, ldc: usize, bias: usize,
  spare: usize,
): void {
  if (m <= STREAM_ROWS) {
    for (let p = p0; p < p1; p++) {
      for (let k0 = 0; k0 < k; k0 += K_BLOCK) multiplyBlock(tiles, m, k, w, format, scales, n, p, k0, c, ldc, bias, spare);
    }
  } else {
    for (let k0 = 0; k0 < k; k0 += K_BLOCK) {
      for (let p = p0; p < p1; p++) multiplyBlock(tiles, m, k, w, format, scales, n, p, k0, c, ldc, bias, spare);
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

/** c[8] = a + b + bias, all eight numbers each and from memory, see tiles.mjs. */
@inline function addThree(a: usize, b: usize, bias: usize, c: usize): void {
  for (let i: usize = 0; i < 32; i += 16) {
    v128.store(c + i, f32x4.add(f32x4.add(v128.load(a + i), v128.load(b + i)), v128.load(bias + i)));
  }
}

/** A finished panel into C, of which the last has room for `columns` only. */
@inline function putPanel(sums: usize, other: usize, c: usize, columns: i32, bias: usize, spare: usize): void {
  addThree(sums, other, bias, columns >= 8 ? c : spare);
  if (columns < 8) copyColumns(spare, c, 0, 1, columns);
}

/** C[1, n] = a · B + bias for panels p0 to p1 of float32 weights: four steps of k at a time, the rest one by one. */
function streamRow32(a: usize, k: i32, w: usize, n: i32, p0: i32, p1: i32, c: usize, bias: usize, spare: usize): void {
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
function streamRow16(a: usize, k: i32, w: usize, format: i32, n: i32, p0: i32, p1: i32, c: usize, bias: usize, spare: usize): void {
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
  if (m == 1 && format == F32) streamRow32(tiles, k, param(3), n, p0, p1, c, bias, spare);
  else if (m == 1 && format != INT8) streamRow16(tiles, k, param(3), format, n, p0, p1, c, bias, spare);
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

/** The exact sums of a tile, scaled by row and column, with the bias. */
function scaleTile(sums: usize, rows: i32, c: usize, ldc: usize, rowScales: usize, scales: usize, bias: usize): void {
  for (let i = 0; i < rows; i++, c += ldc, sums += 32, rowScales += 4) {
    const scale = v128.load_splat<f32>(rowScales);
    for (let j: usize = 0; j < 32; j += 16) {
      const value = f32x4.mul(f32x4.convert_i32x4_s(v128.load(sums + j)), f32x4.mul(scale, v128.load(scales + j)));
      v128.store(c + j, f32x4.add(value, v128.load(bias + j)));
    }
  }
}

/** The exact sums of a single row and two panels of int8 weights, `next` bytes apart, at `sums` [2, 8]. */
function streamRowInt8(a: usize, b: usize, next: usize, sums: usize, pairs: i32): void {
  const even = pairs & ~1, rest = sums + 64;
  streamInt8(a, b, next, sums, even);
  if (pairs == even) return;
  tileInt8(1, a + (<usize>even << 2), b + (<usize>even << 4), rest, 1);
  tileInt8(1, a + (<usize>even << 2), b + (<usize>even << 4) + next, rest + 32, 1);
  for (let j: usize = 0; j < 64; j += 16) v128.store(sums + j, i32x4.add(v128.load(sums + j), v128.load(rest + j)));
}

/**
 * Job: parameters as in `linearJob`, with `tiles` in 16-bit words and `scales` those of the columns; 16 is the scales of the
 * rows. One block; at most STREAM_ROWS rows.
 */
export function linearInt8Job(chunk: i32, thread: i32): void {
  const m = paramInt(1), pairs = (paramInt(2) + 1) >> 1, n = paramInt(6), ldc = param(8);
  const p0 = chunk * paramInt(13), p1 = min(p0 + paramInt(13), (n + 7) >> 3), panel = <usize>pairs << 4;
  const spare = param(11) + <usize>thread * param(12), sums = spare + (<usize>m << 5);
  if (m == 1) {
    for (let p = p0; p < p1; p += 2) {
      const next = p + 1 < p1 ? panel : 0;
      streamRowInt8(param(0), param(3) + <usize>p * panel, next, sums, pairs);
      scalePanel(sums, 0, 1, p, spare);
      if (next) scalePanel(sums + 32, 0, 1, p + 1, spare);
    }
  } else {
    for (let p = p0; p < p1; p++) {
      for (let i = 0; i < m; i += TILE_ROWS) {
        const rows = min(TILE_ROWS, m - i);
        tileInt8(rows, param(0) + (<usize>(i * pairs) << 2), param(3) + <usize>p * panel, sums, pairs);
        scalePanel(sums, i, rows, p, spare);
      }
    }
  }
  activate(paramInt(10), param(7), ldc, m, p0, p1, n);
}

/** The sums of `rows` rows from row i on and panel p into C; parameters of `linearInt8Job`. */
function scalePanel(sums: usize, i: i32, rows: i32, p: i32, spare: usize): void {
  const ldc = param(8), columns = min(8, paramInt(6) - (p << 3)), offset = <usize>p << 5;
  const at = param(7) + <usize>i * ldc + offset, rowScales = param(16) + (<usize>i << 2), bias = biasOf(param(9), p);
  if (columns == 8) return scaleTile(sums, rows, at, ldc, rowScales, param(5) + offset, bias);
  scaleTile(sums, rows, spare, 32, rowScales, param(5) + offset, bias);
  copyColumns(spare, at, ldc, rows, columns);
}
