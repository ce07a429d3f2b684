// Packed operands of the matrix products.
//
// Right-hand side: panels of 8 columns, the last one filled up with zeros; panel p of a [k, n] matrix begins at p * k * 8 elements.
//   f32   [k][8]                    float32
//   bf16  [k][8], columns 0 4 1 5 2 6 3 7   16-bit words, so that a shift and a mask give columns 0-3 and 4-7
//   f16   as bf16, each word with its exponent counted from 2^-25, so that every finite number below 128, subnormal ones included,
//         becomes a normal float32 by shifting alone: a processor takes 150 cycles for a subnormal operand
//   int8  [k / 2][8][2]             pairs of k, as the 16-bit dot product takes them; an odd k is filled up with zero
// Left-hand side: tiles of up to TILE_ROWS rows, all of one height (the last may be lower), each [k][rows] float32.

/** Rows of a full tile: 15 registers hold 12 + 3 with a fused multiply-add, 10 + 4 where a product needs one of its own. */
export const TILE_ROWS: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 5;

export const F32: i32 = 0;
export const BF16: i32 = 1;
export const F16: i32 = 2;
export const INT8: i32 = 3;

/** Four rows of a, from column 0 to k, as columns 0 to 3 of a [k][width] block at `d`. */
function packFour(a: usize, lda: usize, d: usize, width: usize, k: i32): void {
  const b = a + lda, c = b + lda, e = c + lda;
  let i: usize = 0;
  const end = <usize>(k & ~3) << 2;
  for (; i < end; i += 16) {
    const r0 = v128.load(a + i), r1 = v128.load(b + i), r2 = v128.load(c + i), r3 = v128.load(e + i);
    const p = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), q = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const s = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7), t = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<f32>(p, q, 0, 1, 4, 5));
    v128.store(d + width, v128.shuffle<f32>(p, q, 2, 3, 6, 7));
    v128.store(d + 2 * width, v128.shuffle<f32>(s, t, 0, 1, 4, 5));
    v128.store(d + 3 * width, v128.shuffle<f32>(s, t, 2, 3, 6, 7));
    d += 4 * width;
  }
  for (; i < <usize>k << 2; i += 4, d += width) {
    store<f32>(d, load<f32>(a + i));
    store<f32>(d, load<f32>(b + i), 4);
    store<f32>(d, load<f32>(c + i), 8);
    store<f32>(d, load<f32>(e + i), 12);
  }
}

/** Two rows, likewise. */
function packTwo(a: usize, lda: usize, d: usize, width: usize, k: i32): void {
  const b = a + lda;
  let i: usize = 0;
  const end = <usize>(k & ~3) << 2;
  for (; i < end; i += 16) {
    const r0 = v128.load(a + i), r1 = v128.load(b + i);
    const p = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), s = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    v128.store_lane<i64>(d, p, 0);
    v128.store_lane<i64>(d + width, p, 1);
    v128.store_lane<i64>(d + 2 * width, s, 0);
    v128.store_lane<i64>(d + 3 * width, s, 1);
    d += 4 * width;
  }
  for (; i < <usize>k << 2; i += 4, d += width) {
    store<f32>(d, load<f32>(a + i));
    store<f32>(d, load<f32>(b + i), 4);
  }
}

/** One row, likewise; a null row packs zeros. */
function packOne(a: usize, d: usize, width: usize, k: i32): void {
  for (let i = 0; i < k; i++, d += width) store<f32>(d, a ? load<f32>(a + (<usize>i << 2)) : 0);
}

/** `rows` rows of a [*, k] as the columns of a [k][columns] block, columns without a row zero. */
export function packRows(a: usize, lda: usize, d: usize, rows: i32, columns: i32, k: i32): void {
  const width = <usize>columns << 2;
  let r = 0;
  for (; r + 4 <= rows; r += 4) packFour(a + <usize>r * lda, lda, d + (<usize>r << 2), width, k);
  if (r + 2 <= rows) {
    packTwo(a + <usize>r * lda, lda, d + (<usize>r << 2), width, k);
    r += 2;
  }
  if (r < rows) {
    packOne(a + <usize>r * lda, d + (<usize>r << 2), width, k);
    r++;
  }
  for (; r < columns; r++) packOne(0, d + (<usize>r << 2), width, k);
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
    for (let j = 0; j < k; j++, s += lda) {
      for (let r = 0; r < rows; r++, t += 4) store<f32>(t, load<f32>(s + (<usize>r << 2)));
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

/** Where element (row, column) of a packed matrix of `k` rows stands, in elements. */
@inline function placeOf(format: i32, row: i32, column: i32, k: i32): usize {
  const panel = <usize>(column >> 3), lane = column & 7;
  if (format == F32) return (panel * <usize>k + <usize>row) * 8 + <usize>lane;
  if (format == INT8) return (panel * <usize>((k + 1) >> 1) + <usize>(row >> 1)) * 16 + <usize>((lane << 1) | (row & 1));
  return (panel * <usize>k + <usize>row) * 8 + <usize>(((lane & 3) << 1) | (lane >> 2));
}

/** 2^102: what a re-encoded f16 at the place of float32's exponent must be multiplied with. */
const F16_FACTOR: f32 = 5.070602400912918e30;

/** A re-encoded f16 word as float32. */
@inline function fromHalf(word: u32): f32 {
  return reinterpret<f32>(((word & 0x7fff) << 13) | ((word & 0x8000) << 16)) * F16_FACTOR;
}

/** The packed element (row, column) as float32. */
@inline function elementOf(format: i32, w: usize, scales: usize, row: i32, column: i32, k: i32): f32 {
  const at = placeOf(format, row, column, k);
  if (format == F32) return load<f32>(w + (at << 2));
  if (format == INT8) return <f32>load<i8>(w + at) * load<f32>(scales + (<usize>column << 2));
  const word = <u32>load<u16>(w + (at << 1));
  return format == BF16 ? reinterpret<f32>(word << 16) : fromHalf(word);
}

/** Packed weights back into float32 [k, n]. */
export function unpackWeight(format: i32, w: usize, scales: usize, d: usize, n: i32, k: i32): void {
  for (let i = 0; i < k; i++) {
    for (let j = 0; j < n; j++, d += 4) store<f32>(d, elementOf(format, w, scales, i, j, k));
  }
}

/** `rows` rows of one 16-bit panel, at w, as a float32 panel at d. */
export function widenPanel16(format: i32, w: usize, d: usize, rows: i32): void {
  const half = i32x4.splat(<i32>0x8fffe000), upper = i32x4.splat(<i32>0xffff0000), factor = f32x4.splat(F16_FACTOR);
  for (const end = d + (<usize>rows << 5); d < end; d += 32, w += 16) {
    const t = v128.load(w);
    if (format == BF16) {
      v128.store(d, i32x4.shl(t, 16));
      v128.store(d, v128.and(t, upper), 16);
    } else {
      v128.store(d, f32x4.mul(factor, v128.and(i32x4.shr_s(i32x4.shl(t, 16), 3), half)));
      v128.store(d, f32x4.mul(factor, v128.and(i32x4.shr_s(t, 3), half)), 16);
    }
  }
}
