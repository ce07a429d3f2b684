// Kernels along the last axis: softmax, layer norm, sums, extremes and the likeliest words.

import { LayerNormParam, LogSumParam, ReduceParam, Reduction, SoftmaxParam, TopTokensParam } from './abi';
import { expOrZero, expOrZeroPair, fma, maxLanes, storeLanes } from './math';
import { param, paramFloat, paramInt } from './thread';

/** Largest of n >= 1 numbers; what NaN does to it is left open. Four chains, because one waits four cycles for each maximum. */
export function largestOf(x: usize, n: i32): f32 {
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

/** 1.5 * 2^14: added to a float64 of up to 2^13 and taken away again, leaves the nearest multiple of 2^-38. */
const ROUNDER: f64 = 24576.0;

@inline function rounded(x: v128): v128 {
  const rounder = f64x2.splat(ROUNDER);
  return f64x2.sub(f64x2.add(f64x2.promote_low_f32x4(x), rounder), rounder);
}

@inline function upper(x: v128): v128 {
  return v128.shuffle<i32>(x, x, 2, 3, 2, 3);
}

/**
 * Sum of n numbers from 0 to 1, each rounded to a multiple of 2^-38 first. Such sums are exact up to 2^15, so that they depend neither on
 * the order of the numbers nor on zeros among them: a row of attention has the same sum whatever columns are hidden from it.
 */
function sumOfShares(x: usize, n: i32): f64 {
  let a = f64x2.splat(0), b = a, c = a, d = a, i = 0;
  for (; i + 8 <= n; i += 8, x += 32) {
    const u = v128.load(x), v = v128.load(x, 16);
    a = f64x2.add(a, rounded(u));
    b = f64x2.add(b, rounded(upper(u)));
    c = f64x2.add(c, rounded(v));
    d = f64x2.add(d, rounded(upper(v)));
  }
  a = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  let total = f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1);
  for (; i < n; i++, x += 4) total += <f64>load<f32>(x) + ROUNDER - ROUNDER;
  return total;
}

/** y = exp(x - most) on n numbers, of which none is above `most`; y may be x. Returns 1 / the sum. */
export function exponentialsOf(x: usize, y: usize, n: i32, most: f32): f32 {
  const tail = n & 3, first = y, end = y + (<usize>(n & ~3) << 2), m = f32x4.splat(most);
  for (; y + 16 < end; x += 32, y += 32) expOrZeroPair(f32x4.sub(v128.load(x), m), f32x4.sub(v128.load(x, 16), m), y);
  if (y < end) {
    v128.store(y, expOrZero(f32x4.sub(v128.load(x), m)));
    x += 16;
    y += 16;
  }
  if (tail) storeLanes(y, expOrZero(f32x4.sub(v128.load(x), m)), tail);
  return <f32>(1 / sumOfShares(first, n));
}

/**
 * exp(x - max(x)) in place on one row of n numbers, zero from there to `padded` (a multiple of 4 that fits in the row's memory).
 * Returns 1 / the sum.
 */
export function exponentials(x: usize, n: i32, padded: i32): f32 {
  const factor = exponentialsOf(x, x, n, largestOf(x, n));
  for (let j = n; j < padded; j++) store<f32>(x + (<usize>j << 2), 0);
  return factor;
}

/** Multiplies n numbers (rounded up to 4; the row's memory must allow it) by `factor` in place. */
export function scale(x: usize, n: i32, factor: f32): void {
  const f = f32x4.splat(factor), end = x + (<usize>n << 2);
  for (; x < end; x += 16) v128.store(x, f32x4.mul(v128.load(x), f));
}

/** Job with `SoftmaxParam`. */
export function softmaxJob(chunk: i32): void {
  const n = paramInt(SoftmaxParam.columns), bytes = <usize>n << 2, tail = n & 3;
  const from = chunk * paramInt(SoftmaxParam.chunkRows), to = min(from + paramInt(SoftmaxParam.chunkRows), paramInt(SoftmaxParam.rows));
  let x = param(SoftmaxParam.x) + <usize>from * bytes, y = param(SoftmaxParam.y) + <usize>from * bytes;
  for (let r = from; r < to; r++, x += bytes, y += bytes) {
    const factor = exponentialsOf(x, y, n, largestOf(x, n));
    scale(y, n & ~3, factor);
    const rest = y + (<usize>(n - tail) << 2);
    if (tail) storeLanes(rest, f32x4.mul(v128.load(rest), f32x4.splat(factor)), tail);
  }
}

/** Sum of n numbers, in double precision: as exact as tfjs's own cpu backend. */
export function sumRow(x: usize, n: i32): f64 {
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
export function sumSquares(x: usize, n: i32, mean: f32): f64 {
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
function normalizeRow(x: usize, y: usize, gamma: usize, beta: usize, n: i32, epsilon: f32): void {
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

/** Job with `LayerNormParam`. */
export function layerNormJob(chunk: i32, thread: i32): void {
  const residual = param(LayerNormParam.residual), n = paramInt(LayerNormParam.columns), bytes = <usize>n << 2;
  const scratch = param(LayerNormParam.scratch) + <usize>thread * param(LayerNormParam.threadBytes);
  const from = chunk * paramInt(LayerNormParam.chunkRows), to = min(from + paramInt(LayerNormParam.chunkRows), paramInt(LayerNormParam.rows));
  for (let r = from; r < to; r++) {
    const offset = <usize>r * bytes;
    let x = param(LayerNormParam.x) + offset;
    if (residual) {
      for (let j: usize = 0; j < bytes; j += 16) {
        v128.store(scratch + j, f32x4.add(v128.load(x + j), v128.load(residual + offset + j)));
      }
      x = scratch;
    }
    normalizeRow(x, param(LayerNormParam.y) + offset, param(LayerNormParam.gamma), param(LayerNormParam.beta), n, paramFloat(LayerNormParam.epsilon));
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

/** Job with `ReduceParam`. */
export function reduceJob(chunk: i32): void {
  const kind = paramInt(ReduceParam.reduction), n = paramInt(ReduceParam.columns), bytes = <usize>n << 2;
  const from = chunk * paramInt(ReduceParam.chunkRows), to = min(from + paramInt(ReduceParam.chunkRows), paramInt(ReduceParam.rows));
  for (let r = from; r < to; r++) {
    const x = param(ReduceParam.x) + <usize>r * bytes, y = param(ReduceParam.y) + (<usize>r << 2);
    if (kind <= Reduction.Mean) store<f32>(y, <f32>(kind == Reduction.Sum ? sumRow(x, n) : sumRow(x, n) / <f64>n));
    else store<f32>(y, kind == Reduction.Min ? extremeRow(x, n, true) : extremeRow(x, n, false));
  }
}

// ---- The likeliest words of rows of logits, and what turns a logit into a log-probability: in float64 and in order of the words, with the arithmetic of
// V8's `Math.exp`, so that a search has the same bits as from whole rows in JavaScript, and the same ones on every machine.

/** exp by fdlibm's e_exp.c: 0.5 ln 2 cut to its upper word, 1 / ln 2, ln 2 in two parts, the polynomial, and where exp counts as 0. */
const HALF_LN2: f64 = 0.3465735912322998;
const INVERSE_LN2: f64 = 1.44269504088896338700;
const LN2_HIGH: f64 = 6.93147180369123816490e-1;
const LN2_LOW: f64 = 1.90821492927058770002e-10;
const P1: f64 = 1.66666666666666019037e-1;
const P2: f64 = -2.77777777770155933842e-3;
const P3: f64 = 6.61375632143793436117e-5;
const P4: f64 = -1.65339022054652515390e-6;
const P5: f64 = 4.13813679705723846039e-8;
const LEAST: f64 = -700;
/** 2^52 + 1023: added to a whole number n from -1022 on, leaves n + 1023, the exponent of 2^n, in the low bits. */
const EXPONENT: f64 = 4503599627371519;

/** exp of two float64 of at most 0. */
@inline function expPair(x: v128): v128 {
  const far = f64x2.le(x, f64x2.splat(-HALF_LN2));
  const t = v128.and(far, f64x2.trunc(f64x2.sub(f64x2.mul(x, f64x2.splat(INVERSE_LN2)), f64x2.splat(0.5))));
  const high = f64x2.sub(x, f64x2.mul(t, f64x2.splat(LN2_HIGH))), low = f64x2.mul(t, f64x2.splat(LN2_LOW));
  const r = f64x2.sub(high, low), s = f64x2.mul(r, r);
  let p = f64x2.add(f64x2.splat(P4), f64x2.mul(s, f64x2.splat(P5)));
  p = f64x2.add(f64x2.splat(P3), f64x2.mul(s, p));
  p = f64x2.add(f64x2.splat(P2), f64x2.mul(s, p));
  p = f64x2.add(f64x2.splat(P1), f64x2.mul(s, p));
  const c = f64x2.sub(r, f64x2.mul(s, p));
  const q = f64x2.div(f64x2.mul(r, c), f64x2.sub(f64x2.splat(2), c));
  const y = f64x2.sub(f64x2.splat(1), f64x2.sub(f64x2.sub(low, q), high));
  const power = i64x2.shl(f64x2.add(t, f64x2.splat(EXPONENT)), 52);
  return v128.and(f64x2.mul(y, power), f64x2.ge(x, f64x2.splat(LEAST)));
}

/** Job with `LogSumParam`. A chunk is a row: its largest number and the sum of exp(x - largest), two float64; the sum is NaN where a number is not finite. */
export function logSumJob(chunk: i32): void {
  const n = paramInt(LogSumParam.columns), x = param(LogSumParam.x) + (<usize>chunk * <usize>n << 2);
  const most = largestOf(x, n), m = f64x2.splat(<f64>most), end = x + (<usize>(n & ~3) << 2);
  let sum: f64 = 0, zeros = f32x4.splat(0), at = x;
  for (; at < end; at += 16) {
    const v = v128.load(at);
    zeros = f32x4.add(zeros, f32x4.mul(v, f32x4.splat(0))); // stays 0, unless a number is NaN or infinite
    const first = expPair(f64x2.sub(f64x2.promote_low_f32x4(v), m));
    const second = expPair(f64x2.sub(f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)), m));
    sum = sum + f64x2.extract_lane(first, 0) + f64x2.extract_lane(first, 1) + f64x2.extract_lane(second, 0) + f64x2.extract_lane(second, 1);
  }
  let zero = f32x4.extract_lane(zeros, 0) + f32x4.extract_lane(zeros, 1) + f32x4.extract_lane(zeros, 2) + f32x4.extract_lane(zeros, 3);
  for (let i = n & 3; i > 0; i--, at += 4) {
    const v = load<f32>(at);
    zero += v * 0;
    sum += f64x2.extract_lane(expPair(f64x2.splat(<f64>v - <f64>most)), 0);
  }
  const y = param(LogSumParam.y) + (<usize>chunk << 4);
  store<f64>(y, <f64>most);
  store<f64>(y, zero == 0 ? sum : NaN, 8);
}

/** What a word is ranked by: its logit, or its log-probability as float32, where different logits can be equal. */
@inline function scoreOf(logit: f32, byLogit: bool, normalizer: f64): f32 {
  return byLogit ? logit : <f32>(<f64>logit - normalizer);
}

/** Job with `TopTokensParam`. A chunk is a row: its `count` best words, best first, of equals the lower one. */
export function topTokensJob(chunk: i32): void {
  const n = paramInt(TopTokensParam.columns), count = paramInt(TopTokensParam.count), x = param(TopTokensParam.x) + (<usize>chunk * <usize>n << 2);
  const ids = param(TopTokensParam.ids) + (<usize>chunk * <usize>count << 2);
  const logits = param(TopTokensParam.logits) + <usize>chunk * param(TopTokensParam.logitStride);
  const normalizers = param(TopTokensParam.normalizers), byLogit = normalizers == 0;
  const normalizer: f64 = byLogit ? 0 : load<f64>(normalizers + (<usize>chunk << 3));
  let filled = 0, edge: f32 = 0; // the logit of the worst that is kept
  for (let id = 0; id < n; id++) {
    // Four words that are no better than the worst are over with one look: scores grow with logits.
    while (filled == count && id + 4 <= n && !v128.any_true(f32x4.gt(v128.load(x + (<usize>id << 2)), f32x4.splat(edge)))) id += 4;
    if (id >= n) return;
    const logit = load<f32>(x + (<usize>id << 2)), score = scoreOf(logit, byLogit, normalizer);
    let place = filled;
    if (filled < count) filled++;
    else if (score > scoreOf(edge, byLogit, normalizer)) place--;
    else continue;
    for (; place > 0; place--) {
      const at = <usize>(place - 1) << 2, other = load<f32>(logits + at);
      if (!(score > scoreOf(other, byLogit, normalizer))) break;
      store<f32>(logits + at, other, 4);
      store<i32>(ids + at, load<i32>(ids + at), 4);
    }
    store<f32>(logits + (<usize>place << 2), logit);
    store<i32>(ids + (<usize>place << 2), id);
    edge = load<f32>(logits + (<usize>(filled - 1) << 2));
  }
}
