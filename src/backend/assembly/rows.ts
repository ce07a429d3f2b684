// Kernels along the last axis: softmax, layer norm, sums and extremes.

import { expNegative, fma, keepLanes, maxLanes, storeLanes, sumLanes } from './math';
import { param, paramFloat, paramInt } from './memory-map';

/**
 * exp(x - max(x)) in place on one row of n numbers, zero from there to `padded` (a multiple of 4 that fits in the row's memory).
 * Returns the sum.
 */
export function exponentials(x: usize, n: i32, padded: i32): f32 {
  for (let j = n; j < padded; j++) store<f32>(x + (<usize>j << 2), -Infinity);
  const end = x + (<usize>padded << 2);
  let m = v128.load(x);
  for (let p = x + 16; p < end; p += 16) m = f32x4.pmax(m, v128.load(p));
  m = f32x4.splat(maxLanes(m));
  let s = f32x4.splat(0), t = s, p = x;
  for (; p + 16 < end; p += 32) {
    const v = expNegative(f32x4.sub(v128.load(p), m)), w = expNegative(f32x4.sub(v128.load(p, 16), m));
    v128.store(p, v);
    v128.store(p, w, 16);
    s = f32x4.add(s, v);
    t = f32x4.add(t, w);
  }
  if (p < end) {
    const v = expNegative(f32x4.sub(v128.load(p), m));
    v128.store(p, v);
    s = f32x4.add(s, v);
  }
  for (let j = n; j < padded; j++) store<f32>(x + (<usize>j << 2), 0);
  return sumLanes(f32x4.add(s, t)); // what the padding added, 1.2e-38 each, is lost in a sum of at least 1
}

/** Multiplies n numbers (rounded up to 4; the row's memory must allow it) by `factor` in place. */
export function scale(x: usize, n: i32, factor: f32): void {
  const f = f32x4.splat(factor), end = x + (<usize>n << 2);
  for (; x < end; x += 16) v128.store(x, f32x4.mul(v128.load(x), f));
}

/** Job: parameters x, y, rows, n, scratch, bytes of scratch per thread, rows in a chunk. */
export function softmaxJob(chunk: i32, thread: i32): void {
  const n = paramInt(3), bytes = <usize>n << 2, padded = (n + 3) & ~3;
  const row = param(4) + <usize>thread * param(5);
  const from = chunk * paramInt(6), to = min(from + paramInt(6), paramInt(2));
  for (let r = from; r < to; r++) {
    memory.copy(row, param(0) + <usize>r * bytes, bytes);
    scale(row, n, 1 / exponentials(row, n, padded));
    memory.copy(param(1) + <usize>r * bytes, row, bytes);
  }
}

/**
 * y = (x - mean) / sqrt(variance + epsilon) * gamma + beta on one row. `sum` is where x + residual is kept between the passes
 * (x itself where there is no residual).
 */
function normaliseRow(x: usize, y: usize, gamma: usize, beta: usize, n: i32, epsilon: f32): void {
  const tail = n & 3, end = x + (<usize>(n & ~3) << 2);
  let s = f32x4.splat(0), t = s, p = x;
  for (; p + 16 < end; p += 32) {
    s = f32x4.add(s, v128.load(p));
    t = f32x4.add(t, v128.load(p, 16));
  }
  if (p < end) s = f32x4.add(s, v128.load(p));
  if (tail) t = f32x4.add(t, keepLanes(v128.load(end), tail));
  const mean = f32x4.splat(sumLanes(f32x4.add(s, t)) / <f32>n);
  s = f32x4.splat(0);
  t = s;
  for (p = x; p + 16 < end; p += 32) {
    const u = f32x4.sub(v128.load(p), mean), v = f32x4.sub(v128.load(p, 16), mean);
    s = fma(u, u, s);
    t = fma(v, v, t);
  }
  if (p < end) {
    const u = f32x4.sub(v128.load(p), mean);
    s = fma(u, u, s);
  }
  if (tail) {
    const u = keepLanes(f32x4.sub(v128.load(end), mean), tail);
    t = fma(u, u, t);
  }
  const factor = f32x4.splat(1 / sqrt<f32>(sumLanes(f32x4.add(s, t)) / <f32>n + epsilon));
  for (p = x; p < end; p += 16, y += 16, gamma += 16, beta += 16) {
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

/** Largest (or, with `sign` -1, smallest) of n >= 1 numbers; NaN if there is one. */
function extremeRow(x: usize, n: i32, smallest: bool): f32 {
  let best = load<f32>(x);
  let i = 0;
  if (n >= 4) {
    let m = v128.load(x);
    for (; i + 4 <= n; i += 4) {
      const v = v128.load(x + (<usize>i << 2));
      m = smallest ? f32x4.min(m, v) : f32x4.max(m, v);
    }
    for (let lane = 0; lane < 4; lane++) {
      const v = lane == 0 ? f32x4.extract_lane(m, 0) : lane == 1 ? f32x4.extract_lane(m, 1) : lane == 2 ? f32x4.extract_lane(m, 2) : f32x4.extract_lane(m, 3);
      best = smallest ? min(best, v) : max(best, v);
    }
  }
  for (; i < n; i++) {
    const v = load<f32>(x + (<usize>i << 2));
    best = smallest ? min(best, v) : max(best, v);
  }
  return best;
}

/** Job: parameters kind (0 sum, 1 mean, 2 max, 3 min), x, y, rows, n, rows in a chunk. */
export function reduceJob(chunk: i32): void {
  const kind = paramInt(0), n = paramInt(4), bytes = <usize>n << 2;
  const from = chunk * paramInt(5), to = min(from + paramInt(5), paramInt(3));
  for (let r = from; r < to; r++) {
    const x = param(1) + <usize>r * bytes, y = param(2) + (<usize>r << 2);
    if (kind < 2) store<f32>(y, <f32>(kind == 0 ? sumRow(x, n) : sumRow(x, n) / <f64>n));
    else store<f32>(y, extremeRow(x, n, kind == 3));
  }
}
