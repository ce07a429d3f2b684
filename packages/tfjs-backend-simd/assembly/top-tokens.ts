// The likeliest words of rows of logits, and what turns a logit into a log-probability: in float64 and in order of the words, with the arithmetic of
// V8's `Math.exp`, so that a search has the same bits as from whole rows in JavaScript, and the same ones on every machine.

import { LogSumParam, TopTokensParam } from './abi';
import { largestOf } from './rows';
import { param, paramInt } from './thread';

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
