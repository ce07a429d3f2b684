// Products against int8 weights: the rows are rounded to 16 bits, and a block of k is summed exactly in integers. A 16-bit dot
// product does two multiply-adds where float32 does one, and its additions have a port of the processor more: 1.4 times as fast.

import { INT8_K_BLOCK, LinearParam, RoundTilesParam } from './abi';
import { biasOf, copyColumns, panelAt, panelsApart, panelsFrom, touch } from './multiply';
import { packRows } from './pack';
import { heartbeat, param, paramInt } from './thread';
import { streamInt8, tileInt16, tileInt8 } from './tiles';

/** Rows of a full tile: 15 registers hold 10 sums, two vectors of weights, a pair of a row, and a product. */
export const INT8_TILE_ROWS: i32 = 5;

/** The largest word of a rounded row: MAX_WORD * 128 * INT8_K_BLOCK < 2^31. */
const MAX_WORD: f32 = 32767;

/** Room for the sums of a tile. */
const TILE_BYTES: usize = 256;

/** Rows whose numbers are all smaller count as zero: their factor would not be finite. */
export const SMALLEST: f32 = 1e-30;

/** 1.5 * 2^23: added to a float32 of up to 2^22, leaves its nearest integer (ties to even) in the low bits. */
export const ROUNDER: f32 = 12582912.0;

/** Vectors of zeros, of ROUNDER, and of the bits of a float32 but its sign; from memory as in math.ts. */
const TABLE: usize = memory.data<u32>([
  0, 0, 0, 0, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff,
], 16);
const INFINITE: i32 = 0x7f800000;

/** Largest |x| of n numbers; NaN counts as infinite. The bits of sizes have the order of the sizes, NaN above all. */
export function largest(x: usize, n: i32): f32 {
  const size = v128.load(TABLE, 32);
  let top = v128.load(TABLE), other = v128.load(TABLE), i = 0;
  for (; i + 8 <= n; i += 8, x += 32) {
    top = i32x4.max_s(top, v128.and(v128.load(x), size));
    other = i32x4.max_s(other, v128.and(v128.load(x, 16), size));
  }
  top = i32x4.max_s(top, other);
  let r = max(i32x4.extract_lane(top, 0), i32x4.extract_lane(top, 1));
  r = max(r, max(i32x4.extract_lane(top, 2), i32x4.extract_lane(top, 3)));
  for (; i < n; i++, x += 4) r = max(r, load<i32>(x) & 0x7fffffff);
  return r > INFINITE ? Infinity : reinterpret<f32>(r);
}

/** Four numbers times `factor`, to the nearest integer. */
@inline export function roundFour(x: v128, factor: v128, rounder: v128): v128 {
  return i32x4.sub(f32x4.add(f32x4.mul(x, factor), rounder), rounder);
}

/** A row of k numbers as 16-bit words, an odd one filled up with 0; returns what 1 stands for: NaN where the row is not finite. */
function roundRow(x: usize, words: usize, k: i32): f32 {
  const top = largest(x, k), factor: f32 = top < SMALLEST ? 0 : MAX_WORD / top, factors = f32x4.splat(factor);
  const rounder = v128.load(TABLE, 16);
  let i = 0;
  for (; i + 8 <= k; i += 8, x += 32, words += 16) {
    const low = roundFour(v128.load(x), factors, rounder), high = roundFour(v128.load(x, 16), factors, rounder);
    v128.store(words, i16x8.narrow_i32x4_s(low, high));
  }
  for (; i < k; i++, x += 4, words += 2) {
    store<i16>(words, <i16>(reinterpret<i32>(load<f32>(x) * factor + ROUNDER) - reinterpret<i32>(ROUNDER)));
  }
  if (k & 1) store<i16>(words, 0);
  return top < SMALLEST ? 0 : top < Infinity ? top / MAX_WORD : NaN;
}

/**
 * Job with `RoundTilesParam`; `chunkRows` is a multiple of INT8_TILE_ROWS. Rounds the rows of A [m, k] and packs them for `multiplyInt8`: tiles of [pairs of k][rows][2] words.
 */
export function roundTilesJob(chunk: i32, thread: i32): void {
  const m = paramInt(RoundTilesParam.rows), k = paramInt(RoundTilesParam.k), row = <usize>((k + 1) >> 1) << 2, words = param(RoundTilesParam.scratch) + <usize>thread * param(RoundTilesParam.threadBytes);
  const to = min((chunk + 1) * paramInt(RoundTilesParam.chunkRows), m);
  for (let i = chunk * paramInt(RoundTilesParam.chunkRows); i < to; i += INT8_TILE_ROWS) {
    const rows = min(INT8_TILE_ROWS, to - i);
    for (let r = 0; r < rows; r++) {
      const scale = roundRow(param(RoundTilesParam.a) + (<usize>(i + r) * <usize>k << 2), words + <usize>r * row, k);
      store<f32>(param(RoundTilesParam.rowScales) + (<usize>(i + r) << 2), scale);
    }
    // A pair of words moves like one float32.
    packRows(words, row, param(RoundTilesParam.tiles) + <usize>i * row, rows, rows, (k + 1) >> 1);
  }
}

/** Where C begins, or would begin if there were all of it, and from row to row. */
let target: usize = 0, targetStep: usize = 0;

/**
 * A block's exact sums of `rows` rows from `row` on and panel p, scaled by row and column, into C: on top of the bias, or of the
 * blocks before k0. A last panel that C has no room for waits at `spare` for the last block. Reads `LinearParam`.
 */
function scaleTile(sums: usize, row: i32, rows: i32, p: i32, k0: i32, spare: usize): void {
  const columns = paramInt(LinearParam.columns) - (p << 3), ldc = targetStep, at = target + <usize>row * ldc + (<usize>p << 5);
  const step = columns < 8 ? 32 : ldc, scales = param(LinearParam.columnScales) + (<usize>p << 5), base = k0 ? 0 : biasOf(param(LinearParam.bias), p);
  let rowScales = param(LinearParam.rowScales) + (<usize>row << 2), c = columns < 8 ? spare : at;
  for (let i = 0; i < rows; i++, c += step, sums += 32, rowScales += 4) {
    const scale = v128.load_splat<f32>(rowScales), before = base ? base : c;
    for (let j: usize = 0; j < 32; j += 16) {
      const value = f32x4.mul(f32x4.convert_i32x4_s(v128.load(sums + j)), f32x4.mul(scale, v128.load(scales + j)));
      v128.store(c + j, f32x4.add(v128.load(before + j), value));
    }
  }
  if (columns < 8 && k0 + INT8_K_BLOCK >= paramInt(LinearParam.k)) copyColumns(spare, at, ldc, rows, columns);
}

/** One block of an int8 panel as 16-bit words at `wide`. */
function widenWords(b: usize, wide: usize, pairs: i32): void {
  for (const end = b + (<usize>pairs << 4); b < end; b += 16, wide += 32) {
    v128.store(wide, v128.load_ext<i8>(b));
    v128.store(wide, v128.load_ext<i8>(b, 8), 16);
  }
}

/** `m` rows from row0 on against panel p, in the block of k from k0 on; parameters as `multiplyInt8`. */
function multiplyBlock(row0: i32, m: i32, few: bool, p: i32, k0: i32, spare: usize): void {
  const all = (paramInt(LinearParam.k) + 1) >> 1, j0 = k0 >> 1, pairs = min(INT8_K_BLOCK >> 1, all - j0);
  const panel = param(LinearParam.weights) + (<usize>(p * all + j0) << 4), sums = spare + (<usize>m << 5), wide = sums + TILE_BYTES;
  if (!few) widenWords(panel, wide, pairs);
  for (let i = 0; i < m; i += INT8_TILE_ROWS) {
    const rows = min(INT8_TILE_ROWS, m - i), a = param(LinearParam.tiles) + (<usize>((row0 + i) * all + j0 * rows) << 2);
    if (few) tileInt8(rows, a, panel, sums, pairs);
    else tileInt16(rows, a, wide, sums, pairs);
    scaleTile(sums, row0 + i, rows, p, k0, spare + (<usize>i << 5));
  }
}

/** A single row against panels p0 to p1, four at a time as `streamRow` of multiply.ts does. */
function streamRow(p0: i32, p1: i32, spare: usize): void {
  const all = (paramInt(LinearParam.k) + 1) >> 1, panel = <usize>all << 4, sums = spare + 32;
  const apart = panelsApart(p0, p1), step = <usize>apart * panel;
  for (let p = p0; p < p0 + apart; p++) {
    const count = panelsFrom(p, p1, apart), first = param(LinearParam.weights) + <usize>p * panel;
    const second = panelAt(1, count) * step, third = panelAt(2, count) * step, fourth = panelAt(3, count) * step;
    for (let j = 0; j < all; j += INT8_K_BLOCK >> 1) {
      const b = first + (<usize>j << 4), pairs = min(INT8_K_BLOCK >> 1, all - j);
      streamInt8(param(LinearParam.tiles) + (<usize>j << 2), b, b + second, b + third, b + fourth, sums, pairs);
      for (let i = 0; i < count; i++) scaleTile(sums + (<usize>i << 5), 0, 1, p + i * apart, j << 1, spare);
    }
  }
}

/** Panels p, p + apart, ... before p1, at most four of them, and the block of k from k0 on; parameters as `multiplyInt8`. */
@inline function multiplyFour(row0: i32, m: i32, few: bool, p: i32, p1: i32, apart: i32, k0: i32, spare: usize): void {
  heartbeat();
  const all = (paramInt(LinearParam.k) + 1) >> 1, panel = <usize>all << 4, count = panelsFrom(p, p1, apart), pairs = min(INT8_K_BLOCK >> 1, all - (k0 >> 1));
  if (count > 1) touch(param(LinearParam.weights) + <usize>p * panel + (<usize>k0 << 3), <usize>apart * panel, count, <usize>pairs << 4, spare + (<usize>m << 5));
  for (let i = 0; i < count; i++) multiplyBlock(row0, m, few, p + i * apart, k0, spare);
}

/**
 * `m` rows from row0 on against panels p0 to p1, all in `LinearParam`, into c, where row0 stands. `spare` holds m * 32 bytes for a last panel
 * that C has no room for, a tile of sums, and a widened block. `few` rows read each panel from front to back, as it comes from
 * memory, and widen it in registers; many take all panels for one block of k, so that this block of A stays in the cache.
 */
export function multiplyInt8(row0: i32, m: i32, few: bool, p0: i32, p1: i32, c: usize, ldc: usize, spare: usize): void {
  const k = paramInt(LinearParam.k);
  target = c - <usize>row0 * ldc;
  targetStep = ldc;
  if (few && m == 1 && paramInt(LinearParam.panelsAtOnce) == 4) return streamRow(p0, p1, spare);
  if (few) {
    const apart = panelsApart(p0, p1);
    for (let p = p0; p < p0 + apart; p++) {
      for (let k0 = 0; k0 < k; k0 += INT8_K_BLOCK) multiplyFour(row0, m, few, p, p1, apart, k0, spare);
    }
  } else {
    for (let k0 = 0; k0 < k; k0 += INT8_K_BLOCK) {
      for (let p = p0; p < p1; p += 4) multiplyFour(row0, m, few, p, p1, 1, k0, spare);
    }
  }
}
