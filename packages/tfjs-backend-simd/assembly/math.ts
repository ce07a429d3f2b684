// Vector mathematics: exp, erf, tanh and what the activations need. Polynomials are evaluated by Horner's rule with `fma`.
//
// Constants live in memory and are broadcast where they are used: V8 rebuilds a `v128.const` at every turn of a loop, while a
// broadcast from memory is one load.

/** a * b + c; one rounding where relaxed SIMD gives us the machine's fused multiply-add, two otherwise. */
@inline export function fma(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  else return f32x4.add(c, f32x4.mul(a, b));
}

/** Sum of the four lanes, as a tree. */
@inline export function sumLanes(v: v128): f32 {
  return (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1)) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** Largest of the four lanes. */
@inline export function maxLanes(v: v128): f32 {
  return max(
    max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)),
    max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)),
  );
}

/** Stores the first `count` (1 to 3) lanes. */
@inline export function storeLanes(at: usize, v: v128, count: i32): void {
  v128.store_lane<f32>(at, v, 0);
  if (count > 1) v128.store_lane<f32>(at, v, 1, 4);
  if (count > 2) v128.store_lane<f32>(at, v, 2, 8);
}

/** Keeps the first `count` (1 to 3) lanes, zero in the others. */
@inline export function keepLanes(v: v128, count: i32): v128 {
  return v128.and(v, i32x4.gt_s(i32x4.splat(count), i32x4(0, 1, 2, 3)));
}

const TABLE: usize = memory.data<f32>([
  // 0..3: exp: range of the argument, rounding constant 1.5 * 2^23, log2(e)
  88.72283, -87.33654, 12582912.0, 1.44269504088896341,
  // 4..5: -ln 2 in two parts, the first exact in few bits (Cody and Waite)
  -0.693359375, 2.12194440e-4,
  // 6..11: exp(r) on [-ln2/2, ln2/2], minimax, from r^7 down to r^2
  1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
  // 12..15
  1.0, -0.0, 0.5, 0.7071067811865476,
  // 16..22: log(erfc) on [0.93, 4], from t^6 down; 1 - exp of it is erf
  -1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1, -1.28717512e-1,
  // 23..28: erf(x) / x - 1 on [0, 0.93], in x^2
  -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1,
  // 29: where the two ranges meet
  0.927734375,
  // 30: -1.702 of the quick GELU
  -1.702,
  // 31..35: (tanh(x) / x - 1) / x^2 on [0, 0.625], in x^2; 36: where its ranges meet; 37: 2
  -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1, 0.625, 2.0,
  // 38
  Infinity,
], 16);

/** Constant `i` in all four lanes. */
@inline function constant(i: i32): v128 {
  return v128.load_splat<f32>(TABLE + (<usize>i << 2));
}

@inline export function one(): v128 {
  return constant(12);
}

@inline export function half(): v128 {
  return constant(14);
}

/** exp for arguments already inside the range. Relative error below 2e-7. */
@inline function expInRange(x: v128): v128 {
  const rounder = constant(2);
  const shifted = fma(x, constant(3), rounder); // the integer part of x / ln 2 stands in the low bits
  const n = f32x4.sub(shifted, rounder);
  let r = fma(n, constant(4), x);
  r = fma(n, constant(5), r);
  let p = fma(r, constant(6), constant(7));
  p = fma(p, r, constant(8));
  p = fma(p, r, constant(9));
  p = fma(p, r, constant(10));
  p = fma(p, r, constant(11));
  p = fma(p, f32x4.mul(r, r), f32x4.add(r, one()));
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** exp(x) for x <= 0; below -87.3 it stays at 1.2e-38. NaN stays NaN: `pmax` keeps it on its left, and is one instruction where `max` is six. */
@inline function expNegative(x: v128): v128 {
  return expInRange(f32x4.pmax(x, constant(1)));
}

/** exp(x) for x <= 0, zero below -87.3: what has no share in a softmax must not be there at all. NaN stays NaN. */
@inline export function expOrZero(x: v128): v128 {
  return v128.andnot(expNegative(x), f32x4.lt(x, constant(1)));
}

/** exp of two vectors of numbers <= 0, zero below -87.3, to y and y + 16. Each constant is loaded once for both. */
@inline export function expOrZeroPair(a: v128, b: v128, y: usize): void {
  const low = constant(1);
  const u = f32x4.pmax(a, low), v = f32x4.pmax(b, low);
  let c = constant(3);
  const rounder = constant(2), shiftedU = fma(u, c, rounder), shiftedV = fma(v, c, rounder);
  const nu = f32x4.sub(shiftedU, rounder), nv = f32x4.sub(shiftedV, rounder);
  c = constant(4);
  let ru = fma(nu, c, u), rv = fma(nv, c, v);
  c = constant(5);
  ru = fma(nu, c, ru);
  rv = fma(nv, c, rv);
  c = constant(6);
  let d = constant(7), pu = fma(ru, c, d), pv = fma(rv, c, d);
  d = constant(8);
  pu = fma(pu, ru, d);
  pv = fma(pv, rv, d);
  d = constant(9);
  pu = fma(pu, ru, d);
  pv = fma(pv, rv, d);
  d = constant(10);
  pu = fma(pu, ru, d);
  pv = fma(pv, rv, d);
  d = constant(11);
  pu = fma(pu, ru, d);
  pv = fma(pv, rv, d);
  d = one();
  pu = fma(pu, f32x4.mul(ru, ru), f32x4.add(ru, d));
  pv = fma(pv, f32x4.mul(rv, rv), f32x4.add(rv, d));
  const eu = i32x4.add(pu, i32x4.shl(shiftedU, 23)), ev = i32x4.add(pv, i32x4.shl(shiftedV, 23));
  v128.store(y, v128.andnot(eu, f32x4.lt(a, low)));
  v128.store(y, v128.andnot(ev, f32x4.lt(b, low)), 16);
}

/** exp(x): infinite above 88.7, zero below -87.3 (no subnormal results), NaN for NaN. */
@inline export function exp(x: v128): v128 {
  const high = constant(0), low = constant(1);
  let y = expInRange(f32x4.pmin(f32x4.pmax(x, low), high));
  y = v128.bitselect(constant(38), y, f32x4.gt(x, high));
  y = v128.andnot(y, f32x4.lt(x, low));
  return v128.or(y, f32x4.ne(x, x));
}

/** erf(x), two ranges; largest error 6e-8 with fused multiply-add, 1.2e-7 without. */
@inline export function erf(x: v128): v128 {
  const sign = v128.and(x, constant(13)), t = f32x4.abs(x), s = f32x4.mul(x, x);
  let r = fma(constant(16), t, constant(17));
  const u = fma(constant(18), t, constant(19));
  r = fma(r, s, u);
  r = fma(r, t, constant(20));
  r = fma(r, t, constant(21));
  r = fma(r, t, constant(22));
  r = fma(r, t, f32x4.neg(t));
  r = v128.or(f32x4.sub(one(), expNegative(r)), sign);
  let q = fma(constant(23), s, constant(24));
  q = fma(q, s, constant(25));
  q = fma(q, s, constant(26));
  q = fma(q, s, constant(27));
  q = fma(q, s, constant(28));
  q = fma(q, x, x);
  return v128.bitselect(r, q, f32x4.gt(t, constant(29)));
}

/** x / 2 * (1 + erf(x / sqrt 2)). */
@inline export function gelu(x: v128): v128 {
  const h = f32x4.mul(x, half());
  return fma(h, erf(f32x4.mul(x, constant(15))), h);
}

/** 1 / (1 + exp(-x)). */
@inline export function sigmoid(x: v128): v128 {
  return f32x4.div(one(), f32x4.add(one(), exp(f32x4.neg(x))));
}

/** x * sigmoid(1.702 x). */
@inline export function quickGelu(x: v128): v128 {
  return f32x4.div(x, f32x4.add(one(), exp(f32x4.mul(x, constant(30)))));
}

/** tanh(x): a polynomial near zero, 1 - 2 / (exp(2|x|) + 1) elsewhere. */
@inline export function tanh(x: v128): v128 {
  const sign = v128.and(x, constant(13)), t = f32x4.abs(x), s = f32x4.mul(x, x);
  let p = fma(constant(31), s, constant(32));
  p = fma(p, s, constant(33));
  p = fma(p, s, constant(34));
  p = fma(p, s, constant(35));
  p = fma(f32x4.mul(p, s), x, x);
  const e = exp(f32x4.mul(t, constant(37)));
  const far = v128.or(f32x4.sub(one(), f32x4.div(constant(37), f32x4.add(e, one()))), sign);
  return v128.bitselect(far, v128.or(p, sign), f32x4.gt(t, constant(36))); // -0 stays -0
}
