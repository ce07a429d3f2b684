// Packed operands of the matrix products.
//
// Right-hand side: panels of 8 columns, the last one filled up with zeros; panel p of a [k, n] matrix begins at p * k * 8 elements.
//   f32   [k][8]                    float32
//   bf16  [k][8], columns 0 4 1 5 2 6 3 7   16-bit words, so that a shift and a mask give columns 0-3 and 4-7
//   f16   as bf16, each word with its exponent counted from 2^-25, so that every finite number below 128, subnormal ones included,
//         becomes a normal float32 by shifting alone: a processor takes 150 cycles for a subnormal operand
//   int8  [k / 2][8][2]             pairs of k, as the 16-bit dot product takes them; an odd k is filled up with zero
//   int8Fast  [k / 4][8][4]         fours of k, filled up to a multiple of 16; after each block of FAST_K_BLOCK the sums of its columns [8], int32
// Left-hand side: tiles of up to TILE_ROWS rows, all of one height (the last may be lower), each [k][rows] float32.

import { FAST_K_BLOCK, Format } from './abi';

/** Rows of a full tile: 15 registers hold 12 + 3 with a fused multiply-add, 10 + 4 where a product needs one of its own. */
export const TILE_ROWS: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 5;

/** Four rows of a, from column 0 to k, as columns 0 to 3 of a block at `d`: `gap` bytes from k to k + 1, `step` from k to k + 4. */
function packFour(a: usize, lda: usize, d: usize, gap: usize, step: usize, k: i32): void {
  const b = a + lda, c = b + lda, e = c + lda;
  let i: usize = 0;
  const end = <usize>(k & ~3) << 2;
  for (; i < end; i += 16, d += step) {
    const r0 = v128.load(a + i), r1 = v128.load(b + i), r2 = v128.load(c + i), r3 = v128.load(e + i);
    const p = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), q = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const s = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7), t = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<f32>(p, q, 0, 1, 4, 5));
    v128.store(d + gap, v128.shuffle<f32>(p, q, 2, 3, 6, 7));
    v128.store(d + 2 * gap, v128.shuffle<f32>(s, t, 0, 1, 4, 5));
    v128.store(d + 3 * gap, v128.shuffle<f32>(s, t, 2, 3, 6, 7));
  }
  for (; i < <usize>k << 2; i += 4, d += gap) {
    store<f32>(d, load<f32>(a + i));
    store<f32>(d, load<f32>(b + i), 4);
    store<f32>(d, load<f32>(c + i), 8);
    store<f32>(d, load<f32>(e + i), 12);
  }
}

/** Two rows, likewise. */
function packTwo(a: usize, lda: usize, d: usize, gap: usize, step: usize, k: i32): void {
  const b = a + lda;
  let i: usize = 0;
  const end = <usize>(k & ~3) << 2;
  for (; i < end; i += 16, d += step) {
    const r0 = v128.load(a + i), r1 = v128.load(b + i);
    const p = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), s = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    v128.store_lane<i64>(d, p, 0);
    v128.store_lane<i64>(d + gap, p, 1);
    v128.store_lane<i64>(d + 2 * gap, s, 0);
    v128.store_lane<i64>(d + 3 * gap, s, 1);
  }
  for (; i < <usize>k << 2; i += 4, d += gap) {
    store<f32>(d, load<f32>(a + i));
    store<f32>(d, load<f32>(b + i), 4);
  }
}

/** One row, likewise; a null row packs zeros. */
function packOne(a: usize, d: usize, gap: usize, step: usize, k: i32): void {
  for (let i = 0; i < k; i += 4, d += step) {
    const four = min(4, k - i);
    for (let j = 0; j < four; j++) store<f32>(d + <usize>j * gap, a ? load<f32>(a + (<usize>(i + j) << 2)) : 0);
  }
}

/**
 * `rows` rows of a [*, k] as the columns of a [k][columns] block, columns without a row zero. With `lanes` each fourth k follows the other:
 * 0, 4, 8, …, 1, 5, 9, … and so on, all four of one length; k that are missing at the ends are left as they are.
 */
export function packRows(a: usize, lda: usize, d: usize, rows: i32, columns: i32, k: i32, lanes: bool = false): void {
  const width = <usize>columns << 2, gap = lanes ? <usize>((k + 3) >> 2) * width : width, step = lanes ? width : 4 * width;
  let r = 0;
  for (; r + 4 <= rows; r += 4) packFour(a + <usize>r * lda, lda, d + (<usize>r << 2), gap, step, k);
  if (r + 2 <= rows) {
    packTwo(a + <usize>r * lda, lda, d + (<usize>r << 2), gap, step, k);
    r += 2;
  }
  if (r < rows) {
    packOne(a + <usize>r * lda, d + (<usize>r << 2), gap, step, k);
    r++;
  }
  for (; r < columns; r++) packOne(0, d + (<usize>r << 2), gap, step, k);
}

/** Rows `from` to `to` (from a multiple of `height`) of A [m, k] as tiles of `height` rows; the tiles begin at `d` for row 0. */
export function packTiles(a: usize, lda: usize, d: usize, from: i32, to: i32, k: i32, height: i32): void {
  for (let i = from; i < to; i += height) {
    const rows = min(height, to - i);
    packRows(a + <usize>i * lda, lda, d + (<usize>i * <usize>k << 2), rows, rows, k);
  }
}

/** The same for A given as its transpose [k, m]. */
export function packTilesTransposed(a: usize, lda: usize, d: usize, from: i32, to: i32, k: i32, height: i32): void {
  for (let i = from; i < to; i += height) {
    const rows = min(height, to - i);
    let t = d + (<usize>i * <usize>k << 2), s = a + (<usize>i << 2);
    const whole = rows & ~3, bytes = <usize>rows << 2;
    for (let j = 0; j < k; j++, s += lda, t += bytes) {
      if (whole) v128.store(t, v128.load(s));
      for (let r = whole; r < rows; r++) store<f32>(t + (<usize>r << 2), load<f32>(s + (<usize>r << 2)));
    }
  }
}

/** float32 B [k, n] with rows `ldb` bytes apart into panels; `height` is the k of the panels, of which rows 0 to k are written. */
export function packPanels(b: usize, ldb: usize, d: usize, k: i32, n: i32, height: i32): void {
  const step = <usize>height << 5;
  const whole = n >> 3, rest = n & 7;
  for (let j = 0; j < k; j++, b += ldb, d += 32) {
    let s = b, t = d;
    for (let p = 0; p < whole; p++, s += 32, t += step) {
      v128.store(t, v128.load(s));
      v128.store(t, v128.load(s, 16), 16);
    }
    if (rest) {
      for (let i = 0; i < 8; i++) store<f32>(t + (<usize>i << 2), i < rest ? load<f32>(s + (<usize>i << 2)) : 0);
    }
  }
}

/** B given as its transpose [n, k], into panels. */
export function packPanelsTransposed(b: usize, ldb: usize, d: usize, k: i32, n: i32): void {
  for (let p = 0; p < n; p += 8, d += <usize>k << 5) packRows(b + <usize>p * ldb, ldb, d, min(8, n - p), 8, k);
}

/** Fours of k in a panel of int8Fast: whole fours of them. */
@inline export function foursOf(k: i32): i32 {
  return (k + 15) >> 4 << 2;
}

/** Bytes of such a panel: its numbers, and behind each block their sums. */
@inline export function fastPanel(k: i32): usize {
  return <usize>(foursOf(k) + (k + FAST_K_BLOCK - 1) / FAST_K_BLOCK) << 5;
}

/** Where element (row, column) of a packed matrix of `k` rows stands, in elements. */
@inline function placeOf(format: i32, row: i32, column: i32, k: i32): usize {
  const panel = <usize>(column >> 3), lane = column & 7;
  if (format == Format.f32) return (panel * <usize>k + <usize>row) * 8 + <usize>lane;
  if (format == Format.int8Fast) return panel * fastPanel(k) + <usize>((row >> 2) + row / FAST_K_BLOCK) * 32 + <usize>((lane << 2) | (row & 3));
  if (format == Format.int8) return (panel * <usize>((k + 1) >> 1) + <usize>(row >> 1)) * 16 + <usize>((lane << 1) | (row & 1));
  return (panel * <usize>k + <usize>row) * 8 + <usize>(((lane & 3) << 1) | (lane >> 2));
}

/** 2^102: what a re-encoded f16 at the place of float32's exponent must be multiplied with. */
const F16_FACTOR: f32 = 5.070602400912918e30;

/** A re-encoded f16 word as float32. */
@inline function fromHalf(word: u32): f32 {
  return reinterpret<f32>(((word & 0x7fff) << 13) | ((word & 0x8000) << 16)) * F16_FACTOR;
}

/** The packed element (row, column) as float32. */
@inline export function elementOf(format: i32, w: usize, scales: usize, row: i32, column: i32, k: i32): f32 {
  const at = placeOf(format, row, column, k);
  if (format == Format.f32) return load<f32>(w + (at << 2));
  if (format == Format.int8Fast || format == Format.int8) return <f32>load<i8>(w + at) * load<f32>(scales + (<usize>column << 2));
  const word = <u32>load<u16>(w + (at << 1));
  return format == Format.bf16 ? reinterpret<f32>(word << 16) : fromHalf(word);
}

/** Packed weights back into float32 [k, n]. */
export function unpackWeight(format: i32, w: usize, scales: usize, d: usize, n: i32, k: i32): void {
  for (let i = 0; i < k; i++) {
    for (let j = 0; j < n; j++, d += 4) store<f32>(d, elementOf(format, w, scales, i, j, k));
  }
}

/** One column of packed weights, `k` numbers, into float32 at d. */
export function unpackColumn(format: i32, w: usize, scales: usize, d: usize, column: i32, k: i32): void {
  for (let i = 0; i < k; i++, d += 4) store<f32>(d, elementOf(format, w, scales, i, column, k));
}

/** `rows` rows of one 16-bit panel, at w, as a float32 panel at d. */
export function widenPanel16(format: i32, w: usize, d: usize, rows: i32): void {
  const half = i32x4.splat(<i32>0x8fffe000), upper = i32x4.splat(<i32>0xffff0000), factor = f32x4.splat(F16_FACTOR);
  for (const end = d + (<usize>rows << 5); d < end; d += 32, w += 16) {
    const t = v128.load(w);
    if (format == Format.bf16) {
      v128.store(d, i32x4.shl(t, 16));
      v128.store(d, v128.and(t, upper), 16);
    } else {
      v128.store(d, f32x4.mul(factor, v128.and(i32x4.shr_s(i32x4.shl(t, 16), 3), half)));
      v128.store(d, f32x4.mul(factor, v128.and(i32x4.shr_s(t, 3), half)), 16);
    }
  }
}

// ---- weights on their way from a file: whole panels at once, from float32 numbers to any format

/** 2^112 moves the exponent of an IEEE half to its place in float32; 102 are the steps that a panel's f16 keeps its own apart. */
const HALF_TO_SINGLE: f32 = 5.192296858534828e33;
const EXPONENT_GAP: i32 = 102 << 10;

/** Four IEEE halves, one in the lower half of each lane, as float32. */
@inline function singles(x: v128): v128 {
  const size = f32x4.mul(i32x4.shl(v128.and(x, i32x4.splat(0x7fff)), 13), f32x4.splat(HALF_TO_SINGLE));
  const infinite = i32x4.gt_s(v128.and(x, i32x4.splat(0x7fff)), i32x4.splat(0x7bff)); // or NaN, whose digits are there
  const sign = i32x4.shl(v128.and(x, i32x4.splat(0x8000)), 16);
  return v128.or(sign, v128.or(size, v128.and(infinite, i32x4.splat(0x7f800000))));
}

/** `n` numbers as they are stored at s, as float32 at d, where up to 7 more are written; int8 as whole numbers. */
export function widenStored(format: i32, s: usize, d: usize, n: i32): void {
  for (const end = d + (<usize>n << 2); d < end; d += 32, s += format == Format.int8 ? 8 : 16) {
    const x = format == Format.int8 ? v128.load_ext<i8>(s) : v128.load(s);
    if (format == Format.int8) {
      v128.store(d, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(x)));
      v128.store(d, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(x)), 16);
    } else {
      const low = i32x4.extend_low_i16x8_u(x), high = i32x4.extend_high_i16x8_u(x);
      v128.store(d, format == Format.bf16 ? i32x4.shl(low, 16) : singles(low));
      v128.store(d, format == Format.bf16 ? i32x4.shl(high, 16) : singles(high), 16);
    }
  }
}

/** The nearest bf16, ties to even, in the upper half of each lane. */
@inline function roundBf16(x: v128): v128 {
  return i32x4.add(x, i32x4.add(i32x4.splat(0x7fff), v128.and(i32x4.shr_u(x, 16), i32x4.splat(1))));
}

/** The nearest f16 below 128 in a panel's own encoding, ties to even, in the lower half of each lane. */
@inline function roundF16(x: v128): v128 {
  const size = v128.and(x, i32x4.splat(0x7fffffff)), half = f32x4.splat(0.5);
  const odd = v128.and(i32x4.shr_u(size, 13), i32x4.splat(1));
  const normal = i32x4.add(size, i32x4.add(odd, i32x4.splat(0xfff)));
  const small = f32x4.sub(f32x4.add(size, half), half); // 2^-24, the last place of an f16 below 2^-14, is that of numbers from 0.5 on
  const rounded = v128.bitselect(normal, small, i32x4.gt_s(size, i32x4.splat(0x387fffff)));
  const word = v128.and(i32x4.sub(i32x4.shr_u(rounded, 13), i32x4.splat(EXPONENT_GAP)), i32x4.ne(rounded, i32x4.splat(0)));
  return v128.or(word, v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000)));
}

/** A float32 panel of k rows at s as bf16 or f16 at d. */
function narrowPanel16(format: i32, s: usize, d: usize, k: i32): void {
  for (const end = d + (<usize>k << 4); d < end; d += 16, s += 32) {
    const low = v128.load(s), high = v128.load(s, 16);
    if (format == Format.f16) v128.store(d, v128.or(roundF16(low), i32x4.shl(roundF16(high), 16)));
    else {
      const upper = v128.and(roundBf16(high), i32x4.splat(<i32>0xffff0000));
      v128.store(d, v128.or(i32x4.shr_u(roundBf16(low), 16), upper));
    }
  }
}

/** Four of the panel's scales: what 1 of int8 is worth where `top` becomes 127. Columns below 2^-100 count as 0. */
@inline function scalesOf(top: v128): v128 {
  return v128.and(f32x4.div(top, f32x4.splat(127)), f32x4.gt(top, f32x4.splat(7.888609052210118e-31)));
}

/** What to multiply with; 0 for a column of zeros. */
@inline function factorsOf(scales: v128): v128 {
  return v128.and(f32x4.div(f32x4.splat(1), scales), f32x4.gt(scales, f32x4.splat(0)));
}

/** A row of the panel in steps of its columns' scales: eight 16-bit words. */
@inline function stepsOf(row: usize, low: v128, high: v128): v128 {
  const a = f32x4.nearest(f32x4.mul(v128.load(row), low)), b = f32x4.nearest(f32x4.mul(v128.load(row, 16), high));
  return i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(a), i32x4.trunc_sat_f32x4_s(b));
}

/** The scales of a float32 panel of k rows: the largest of a column becomes 127, or for int8Fast half of what `largestSums` finds, where that is more. */
function findScales(s: usize, k: i32, scales: usize, fast: bool): void {
  let top0 = f32x4.splat(0), top1 = top0;
  for (let row = s, end = s + (<usize>k << 5); row < end; row += 32) {
    top0 = f32x4.max(top0, f32x4.abs(v128.load(row)));
    top1 = f32x4.max(top1, f32x4.abs(v128.load(row, 16)));
  }
  if (fast) {
    const half = f32x4.splat(0.5);
    top0 = f32x4.max(top0, f32x4.mul(largestSums(s, k), half));
    top1 = f32x4.max(top1, f32x4.mul(largestSums(s + 16, k), half));
  }
  v128.store(scales, scalesOf(top0));
  v128.store(scales, scalesOf(top1), 16);
}

/**
 * Of four columns of a float32 panel of k rows the largest sum of numbers of one sign among the eight that meet in a lane of 16 bits (of 16 rows
 * those of which i % 4 is below 2, or the others). Where it is worth 254 steps, the rounded numbers are 258 together at most, and 258 * 127 fits.
 */
function largestSums(s: usize, k: i32): v128 {
  const zero = f32x4.splat(0);
  let largest = zero;
  for (let i = 0; i < k; i += 16) {
    for (let lane = 0; lane < 4; lane += 2) {
      let more = zero, less = zero;
      for (let j = i + lane, end = min(i + 16, k); j < end; j += 4) {
        const a = v128.load(s + (<usize>j << 5)), b = j + 1 < end ? v128.load(s + (<usize>(j + 1) << 5)) : zero;
        more = f32x4.add(more, f32x4.add(f32x4.pmax(a, zero), f32x4.pmax(b, zero)));
        less = f32x4.sub(less, f32x4.add(f32x4.pmin(a, zero), f32x4.pmin(b, zero)));
      }
      largest = f32x4.pmax(largest, f32x4.pmax(more, less));
    }
  }
  return largest;
}

/** A float32 panel of k rows at s as int8Fast at d. */
function narrowPanelFast(s: usize, scales: usize, d: usize, k: i32): void {
  findScales(s, k, scales, true);
  const low = factorsOf(v128.load(scales)), high = factorsOf(v128.load(scales, 16)), rows = foursOf(k) << 2;
  memory.fill(d, 0, fastPanel(k));
  for (let i = 0; i < k; i++, s += 32) {
    const words = stepsOf(s, low, high), bytes = i8x16.narrow_i16x8_s(words, words), block = i / FAST_K_BLOCK, sums = d + (<usize>min((block + 1) * FAST_K_BLOCK, rows) << 3) + (<usize>block << 5);
    v128.store(sums, i32x4.add(v128.load(sums), i32x4.extend_low_i16x8_s(words)));
    v128.store(sums, i32x4.add(v128.load(sums, 16), i32x4.extend_high_i16x8_s(words)), 16);
    const at = d + (<usize>((i >> 2) + block) << 5) + <usize>(i & 3);
    let rest = i64x2.extract_lane(bytes, 0);
    for (let column: usize = 0; column < 32; column += 4, rest >>= 8) store<u8>(at + column, <u8>rest);
  }
}

/** A float32 panel of k rows at s as int8 at d; `given`: its numbers are whole already, and have their scales. */
function narrowPanel8(s: usize, scales: usize, given: bool, d: usize, k: i32): void {
  let low = f32x4.splat(1), high = low;
  if (!given) {
    findScales(s, k, scales, false);
    low = factorsOf(v128.load(scales));
    high = factorsOf(v128.load(scales, 16));
  }
  const lower = i16x8.splat(0xff);
  for (let i = 0; i < k; i += 2, s += 64, d += 16) {
    const odd = i + 1 < k ? i16x8.shl(stepsOf(s + 32, low, high), 8) : i16x8.splat(0);
    v128.store(d, v128.or(v128.and(stepsOf(s, low, high), lower), odd));
  }
}

/**
 * Columns of a weight of k rows, `n` of them from a multiple of 8 on, into their panels at d. They are float32 at s, [k, n] with rows `ld`
 * bytes apart, or as a file has them, [n, k] (`transposed`). `scales` are those of int8, `given` or found here; `spare` has room for a panel.
 */
export function packStrip(
  format: i32, s: usize, ld: usize, transposed: bool, d: usize, scales: usize, given: bool, k: i32, n: i32, spare: usize,
): void {
  const bytes: usize = format == Format.f32 ? <usize>k << 5 : format == Format.int8 ? <usize>((k + 1) & ~1) << 3 : format == Format.int8Fast ? fastPanel(k) : <usize>k << 4;
  for (let p = 0; p < n; p += 8, d += bytes, scales += 32) {
    const columns = min(8, n - p), panel = format == Format.f32 ? d : spare;
    if (transposed) packRows(s + <usize>p * ld, ld, panel, columns, 8, k);
    else packPanels(s + (<usize>p << 2), ld, panel, k, columns, k);
    if (format == Format.int8Fast) narrowPanelFast(panel, scales, d, k);
    else if (format == Format.int8) narrowPanel8(panel, scales, given, d, k);
    else if (format != Format.f32) narrowPanel16(format, panel, d, k);
  }
}
