// Kernels along the last axis: softmax, layer norm, sums and extremes.

import { expNegative, expNegativePair, fma, keepLanes, maxLanes, storeLanes, sumLanes } from './math';
import { param, paramFloat, paramInt } from './memory-map';

/** Largest of n >= 1 numbers; what NaN does to it is left open. Four chains, because one waits four cycles for each maximum. */
function largestOf(x: usize, n: i32): f32 {
  const tail = n & 3, end = x + (<usize>(n & ~3) << 2);
  let a = f32x4.splat(load<f32>(x)), b = a, c = a, d = a;
  for (; x + 48 < end; x += 64) {
    a = f32x4.pmax(a, v128.load(x));
    b = f32x4.pmax(b, v128.load(x, 16));
    c = f32x4.pmax(c, v128.load(x, 32));
    d = f32x4.pmax(d, v128.load(x, 48));
  }
  for (; x < end; x += 16) a = f32x4.pmax(a, v128.load(x));
  let most = maxLanes(f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d)));
  for (let j = 0; j < tail; j++) most = max(most, load<f32>(x + (<usize>j << 2)));
  return most;
}

/** y = exp(x - most) on n numbers, of which none is above `most`; y may be x. Returns the sum. */
function exponentialsOf(x: usize, y: usize, n: i32, most: f32): f32 {
  const tail = n & 3, end = y + (<usize>(n & ~3) << 2), m = f32x4.splat(most);
  let s = f32x4.splat(0), t = s;
  for (; y + 16 < end; x += 32, y += 32) s = f32x4.add(s, expNegativePair(f32x4.sub(v128.load(x), m), f32x4.sub(v128.load(x, 16), m), y));
  if (y < end) {
    t = expNegative(f32x4.sub(v128.load(x), m));
    v128.store(y, t);
    x += 16;
    y += 16;
  }
  if (tail) {
    const v = expNegative(f32x4.sub(v128.load(x), m));
    storeLanes(y, v, tail);
    t = f32x4.add(t, keepLanes(v, tail));
  }
  return sumLanes(f32x4.add(s, t));
}

/**
 * exp(x - max(x)) in place on one row of n numbers, zero from there to `padded` (a multiple of 4 that fits in the row's memory).
 * Returns the sum.
 */
export function exponentials(x: usize, n: i32, padded: i32): f32 {
  const sum = exponentialsOf(x, x, n, largestOf(x, n));
  for (let j = n; j < padded; j++) store<f32>(x + (<usize>j << 2), 0);
  return sum;
}

/** Multiplies n numbers (rounded up to 4; the row's memory must allow it) by `factor` in place. */
export function scale(x: usize, n: i32, factor: f32): void {
  const f = f32x4.splat(factor), end = x + (<usize>n << 2);
  for (; x < end; x += 16) v128.store(x, f32x4.mul(v128.load(x), f));
}

/** Job: parameters x, y, rows, n, rows in a chunk. */
export function softmaxJob(chunk: i32): void {
  const n = paramInt(3), bytes = <usize>n << 2, tail = n & 3;
  const from = chunk * paramInt(4), to = min(from + paramInt(4), paramInt(2));
  let x = param(0) + <usize>from * bytes, y = param(1) + <usize>from * bytes;
  for (let r = from; r < to; r++, x += bytes, y += bytes) {
    const factor: f32 = <f32>1 / exponentialsOf(x, y, n, largestOf(x, n));
    scale(y, n & ~3, factor);
    const rest = y + (<usize>(n - tail) << 2);
    if (tail) storeLanes(rest, f32x4.mul(v128.load(rest), f32x4.splat(factor)), tail);
  }
}

/** Sum of n numbers, in double precision: as exact as tfjs's own cpu backend. */
function sumRow(x: usize, n: i32): f64 {
  let s = f64x2.splat(0), t = s;
  const end = x + (<usize>(n & ~3) << 2);
  for (; x < end; x += 16) {
    const v = v128.load(x);
    s = f64x2.add(s, f64x2.promote_low_f32x4(v));
    t = f64x2.add(t, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
  }
  s = f64x2.add(s, t);
  let total = f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1);
  for (let j = 0; j < (n & 3); j++) total += <f64>load<f32>(x + (<usize>j << 2));
  return total;
}

/** Sum of (x - mean)^2 over n numbers, the same way. */
function sumSquares(x: usize, n: i32, mean: f32): f64 {
  const end = x + (<usize>(n & ~3) << 2), m = f32x4.splat(mean);
  let s = f64x2.splat(0), t = s;
  for (; x < end; x += 16) {
    const v = f32x4.sub(v128.load(x), m);
    const low = f64x2.promote_low_f32x4(v), high = f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3));
    s = f64x2.add(s, f64x2.mul(low, low));
    t = f64x2.add(t, f64x2.mul(high, high));
  }
  s = f64x2.add(s, t);
  let total = f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1);
  for (let j = 0; j < (n & 3); j++) {
    const v = <f64>(load<f32>(x + (<usize>j << 2)) - mean);
    total += v * v;
  }
  return total;
}

/**
 * y = (x - mean) / sqrt(variance + epsilon) * gamma + beta on one row. The sums are in double precision: an error of theirs would
 * be one of the whole row, in the same direction.
 */
function normaliseRow(x: usize, y: usize, gamma: usize, beta: usize, n: i32, epsilon: f32): void {
  const tail = n & 3, end = x + (<usize>(n & ~3) << 2);
  const middle = <f32>(sumRow(x, n) / <f64>n), variance = sumSquares(x, n, middle) / <f64>n;
  const mean = f32x4.splat(middle), factor = f32x4.splat(<f32>(1 / sqrt<f64>(variance + <f64>epsilon)));
  for (let p = x; p < end; p += 16, y += 16, gamma += 16, beta += 16) {
    v128.store(y, fma(f32x4.mul(f32x4.sub(v128.load(p), mean), factor), v128.load(gamma), v128.load(beta)));
  }
  if (tail) {
    const v = f32x4.mul(f32x4.sub(v128.load(end), mean), factor);
    storeLanes(y, fma(v, v128.load(gamma), v128.load(beta)), tail);
  }
}

/**
 * Job: parameters x, residual (or 0), gamma, beta, y, rows, n, epsilon, rows in a chunk, scratch, bytes of scratch per thread.
 */
export function layerNormJob(chunk: i32, thread: i32): void {
  const residual = param(1), n = paramInt(6), bytes = <usize>n << 2;
  const scratch = param(9) + <usize>thread * param(10);
  const from = chunk * paramInt(8), to = min(from + paramInt(8), paramInt(5));
  for (let r = from; r < to; r++) {
    const offset = <usize>r * bytes;
    let x = param(0) + offset;
    if (residual) {
      for (let j: usize = 0; j < bytes; j += 16) {
        v128.store(scratch + j, f32x4.add(v128.load(x + j), v128.load(residual + offset + j)));
      }
      x = scratch;
    }
    normaliseRow(x, param(4) + offset, param(2), param(3), n, paramFloat(7));
  }
}

/** The better of two vectors; NaN is left to the caller, because `max` costs six instructions for it. */
@inline function better(a: v128, b: v128, smallest: bool): v128 {
  return smallest ? f32x4.pmin(a, b) : f32x4.pmax(a, b);
}

/** Largest, or smallest, of n >= 1 numbers; NaN if there is one. */
@inline function extremeRow(x: usize, n: i32, smallest: bool): f32 {
  const end = x + (<usize>(n & ~3) << 2);
  let a = f32x4.splat(load<f32>(x)), b = a, nan = f32x4.ne(a, a);
  for (; x + 16 < end; x += 32) {
    const u = v128.load(x), v = v128.load(x, 16);
    nan = v128.or(nan, v128.or(f32x4.ne(u, u), f32x4.ne(v, v)));
    a = better(a, u, smallest);
    b = better(b, v, smallest);
  }
  if (x < end) {
    const u = v128.load(x);
    nan = v128.or(nan, f32x4.ne(u, u));
    a = better(a, u, smallest);
    x += 16;
  }
  a = better(a, b, smallest);
  a = better(a, v128.shuffle<i32>(a, a, 2, 3, 0, 1), smallest);
  let best = f32x4.extract_lane(better(a, v128.shuffle<i32>(a, a, 1, 0, 3, 2), smallest), 0);
  for (let j = 0; j < (n & 3); j++) {
    const v = load<f32>(x + (<usize>j << 2));
    best = smallest ? min(best, v) : max(best, v);
  }
  return v128.any_true(nan) ? NaN : best;
}

/** Job: parameters kind (0 sum, 1 mean, 2 max, 3 min), x, y, rows, n, rows in a chunk. */
export function reduceJob(chunk: i32): void {
  const kind = paramInt(0), n = paramInt(4), bytes = <usize>n << 2;
  const from = chunk * paramInt(5), to = min(from + paramInt(5), paramInt(3));
  for (let r = from; r < to; r++) {
    const x = param(1) + <usize>r * bytes, y = param(2) + (<usize>r << 2);
    if (kind < 2) store<f32>(y, <f32>(kind == 0 ? sumRow(x, n) : sumRow(x, n) / <f64>n));
    else store<f32>(y, kind == 3 ? extremeRow(x, n, true) : extremeRow(x, n, false));
  }
}
