// Weights on their way from a file: whole panels of 8 columns at once, from float32 numbers to any format.

import { BF16, F16, F32, INT8, packPanels, packRows } from './pack';

/** 2^112 moves the exponent of an IEEE half to its place in float32; 102 are the steps that a panel's f16 keeps its own apart. */
const HALF_TO_SINGLE: f32 = 5.192296858534828e33;
const KEPT_APART: i32 = 102 << 10;

/** Four IEEE halves, one in the lower half of each lane, as float32. */
@inline function singles(x: v128): v128 {
  const size = f32x4.mul(i32x4.shl(v128.and(x, i32x4.splat(0x7fff)), 13), f32x4.splat(HALF_TO_SINGLE));
  const infinite = i32x4.gt_s(v128.and(x, i32x4.splat(0x7fff)), i32x4.splat(0x7bff)); // or NaN, whose digits are there
  const sign = i32x4.shl(v128.and(x, i32x4.splat(0x8000)), 16);
  return v128.or(sign, v128.or(size, v128.and(infinite, i32x4.splat(0x7f800000))));
}

/** `n` numbers as they are stored at s, as float32 at d, where up to 7 more are written; int8 as whole numbers. */
export function widenStored(format: i32, s: usize, d: usize, n: i32): void {
  for (const end = d + (<usize>n << 2); d < end; d += 32, s += format == INT8 ? 8 : 16) {
    const x = format == INT8 ? v128.load_ext<i8>(s) : v128.load(s);
    if (format == INT8) {
      v128.store(d, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(x)));
      v128.store(d, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(x)), 16);
    } else {
      const low = i32x4.extend_low_i16x8_u(x), high = i32x4.extend_high_i16x8_u(x);
      v128.store(d, format == BF16 ? i32x4.shl(low, 16) : singles(low));
      v128.store(d, format == BF16 ? i32x4.shl(high, 16) : singles(high), 16);
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
  const word = v128.and(i32x4.sub(i32x4.shr_u(rounded, 13), i32x4.splat(KEPT_APART)), i32x4.ne(rounded, i32x4.splat(0)));
  return v128.or(word, v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000)));
}

/** A float32 panel of k rows at s as bf16 or f16 at d. */
function narrowPanel16(format: i32, s: usize, d: usize, k: i32): void {
  for (const end = d + (<usize>k << 4); d < end; d += 16, s += 32) {
    const low = v128.load(s), high = v128.load(s, 16);
    if (format == F16) v128.store(d, v128.or(roundF16(low), i32x4.shl(roundF16(high), 16)));
    else {
      const upper = v128.and(roundBf16(high), i32x4.splat(<i32>0xffff0000));
      v128.store(d, v128.or(i32x4.shr_u(roundBf16(low), 16), upper));
    }
  }
}

/** Four of the panel's scales: what 1 of int8 is worth where the largest of a column becomes 127. Columns below 2^-100 count as 0. */
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

/** A float32 panel of k rows at s as int8 at d; `given`: its numbers are whole already, and have their scales. */
function narrowPanel8(s: usize, scales: usize, given: bool, d: usize, k: i32): void {
  let low = f32x4.splat(1), high = low;
  if (!given) {
    let top0 = f32x4.splat(0), top1 = top0;
    for (let row = s, end = s + (<usize>k << 5); row < end; row += 32) {
      top0 = f32x4.max(top0, f32x4.abs(v128.load(row)));
      top1 = f32x4.max(top1, f32x4.abs(v128.load(row, 16)));
    }
    const scale0 = scalesOf(top0), scale1 = scalesOf(top1);
    v128.store(scales, scale0);
    v128.store(scales, scale1, 16);
    low = factorsOf(scale0);
    high = factorsOf(scale1);
  }
  const lower = i16x8.splat(0xff);
  for (let i = 0; i < k; i += 2, s += 64, d += 16) {
    const odd = i + 1 < k ? i16x8.shl(stepsOf(s + 32, low, high), 8) : i16x8.splat(0);
    v128.store(d, v128.or(v128.and(stepsOf(s, low, high), lower), odd));
  }
}

/**
 * Columns of a weight of k rows, `n` of them from a multiple of 8 on, into their panels at d. They are float32 at s, [k, n] with rows `ld`
 * bytes apart, or as a file has them, [n, k] (`turned`). `scales` are those of int8, `given` or found here; `spare` has room for a panel.
 */
export function packStrip(
  format: i32, s: usize, ld: usize, turned: bool, d: usize, scales: usize, given: bool, k: i32, n: i32, spare: usize,
): void {
  const bytes: usize = format == F32 ? <usize>k << 5 : format == INT8 ? <usize>((k + 1) & ~1) << 3 : <usize>k << 4;
  for (let p = 0; p < n; p += 8, d += bytes, scales += 32) {
    const columns = min(8, n - p), panel = format == F32 ? d : spare;
    if (turned) packRows(s + <usize>p * ld, ld, panel, columns, 8, k);
    else packPanels(s + (<usize>p << 2), ld, panel, k, columns, k);
    if (format == INT8) narrowPanel8(panel, scales, given, d, k);
    else if (format != F32) narrowPanel16(format, panel, d, k);
  }
}
