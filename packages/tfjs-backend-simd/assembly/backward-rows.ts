// The backward pass of layer norm and of the activations.

import { ActivationGradientParam, LayerNormGradientParam, MAP_CHUNK, Unary } from './abi';
import { erf, exp, fma, half, one, sigmoid, storeLanes } from './math';
import { sumRow, sumSquares } from './rows';
import { param, paramFloat, paramInt } from './thread';

const TABLE: usize = memory.data<f32>([0.7071067811865476, -0.5, 0.3989422804014327, 1.702], 16);

/** The slope of x / 2 * (1 + erf(x / sqrt 2)): the normal distribution up to x, and x times its density there. */
@inline function geluSlope(x: v128): v128 {
  const below = fma(half(), erf(f32x4.mul(x, v128.load_splat<f32>(TABLE))), half());
  const density = f32x4.mul(exp(f32x4.mul(f32x4.mul(x, x), v128.load_splat<f32>(TABLE, 4))), v128.load_splat<f32>(TABLE, 8));
  return fma(x, density, below);
}

/** The slope of x * sigmoid(1.702 x). */
@inline function quickGeluSlope(x: v128): v128 {
  const wide = f32x4.mul(x, v128.load_splat<f32>(TABLE, 12)), gate = sigmoid(wide);
  return f32x4.mul(gate, fma(wide, f32x4.sub(one(), gate), one()));
}

/** Job with `ActivationGradientParam`. A chunk is MAP_CHUNK numbers. */
export function activationGradientJob(chunk: i32): void {
  const from = chunk * MAP_CHUNK, n = min(MAP_CHUNK, paramInt(ActivationGradientParam.size) - from), offset = <usize>from << 2;
  let x = param(ActivationGradientParam.x) + offset, dy = param(ActivationGradientParam.dy) + offset, y = param(ActivationGradientParam.y) + offset;
  const quick = paramInt(ActivationGradientParam.activation) == Unary.QuickGelu;
  for (let i = 0; i < n; i += 4, x += 16, dy += 16, y += 16) {
    const v = v128.load(x), slope = quick ? quickGeluSlope(v) : geluSlope(v), result = f32x4.mul(v128.load(dy), slope);
    if (n - i >= 4) v128.store(y, result);
    else storeLanes(y, result, n - i);
  }
}

/** Sum of the four lanes in double precision. */
@inline function addLanes(v: v128): v128 {
  return f64x2.add(f64x2.promote_low_f32x4(v), f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
}

/** The first n (1 to 4) lanes; what is loaded past a row must not count. */
@inline function firstLanes(v: v128, n: i32): v128 {
  return n >= 4 ? v : v128.and(v, i32x4.gt_s(i32x4.splat(n), i32x4(0, 1, 2, 3)));
}

@inline function storeFirst(at: usize, v: v128, n: i32): void {
  if (n >= 4) v128.store(at, v);
  else storeLanes(at, v, n);
}

/** One row: dx, and what it adds to the slopes of gamma and beta. Sums over the row are in double precision, as forward (rows.ts). */
function normalizeRowBackward(x: usize, dy: usize, dx: usize, gamma: usize, n: i32, epsilon: f32, dGamma: usize, dBeta: usize): void {
  const middle = <f32>(sumRow(x, n) / <f64>n), variance = sumSquares(x, n, middle) / <f64>n;
  const mean = f32x4.splat(middle), factor = f32x4.splat(<f32>(1 / sqrt<f64>(variance + <f64>epsilon)));
  let plain = f64x2.splat(0), along = plain;
  for (let j = 0; j < n; j += 4) {
    const at = <usize>j << 2, left = n - j, normed = f32x4.mul(f32x4.sub(v128.load(x + at), mean), factor), d = v128.load(dy + at);
    const weighted = f32x4.mul(d, v128.load(gamma + at));
    plain = f64x2.add(plain, addLanes(firstLanes(weighted, left)));
    along = f64x2.add(along, addLanes(firstLanes(f32x4.mul(weighted, normed), left)));
    storeFirst(dGamma + at, fma(d, normed, v128.load(dGamma + at)), left);
    storeFirst(dBeta + at, f32x4.add(d, v128.load(dBeta + at)), left);
  }
  const meanPlain = f32x4.splat(<f32>((f64x2.extract_lane(plain, 0) + f64x2.extract_lane(plain, 1)) / <f64>n));
  const meanAlong = f32x4.splat(<f32>((f64x2.extract_lane(along, 0) + f64x2.extract_lane(along, 1)) / <f64>n));
  for (let j = 0; j < n; j += 4) {
    const at = <usize>j << 2, normed = f32x4.mul(f32x4.sub(v128.load(x + at), mean), factor);
    const weighted = f32x4.mul(v128.load(dy + at), v128.load(gamma + at));
    const rest = f32x4.sub(f32x4.sub(weighted, meanPlain), f32x4.mul(normed, meanAlong));
    storeFirst(dx + at, f32x4.mul(factor, rest), n - j);
  }
}

/** Job with `LayerNormGradientParam`. A chunk is a block of rows, whose sums for gamma and beta are a row of their own. */
export function layerNormGradientJob(chunk: i32): void {
  const n = paramInt(LayerNormGradientParam.columns), bytes = <usize>n << 2, ends = param(LayerNormGradientParam.blockEnds) + (<usize>chunk << 2);
  const dGamma = param(LayerNormGradientParam.gammaSums) + <usize>chunk * bytes, dBeta = param(LayerNormGradientParam.betaSums) + <usize>chunk * bytes;
  memory.fill(dGamma, 0, bytes);
  memory.fill(dBeta, 0, bytes);
  for (let r = chunk ? load<i32>(ends - 4) : 0; r < load<i32>(ends); r++) {
    const offset = <usize>r * bytes;
    normalizeRowBackward(
      param(LayerNormGradientParam.x) + offset, param(LayerNormGradientParam.dy) + offset, param(LayerNormGradientParam.dx) + offset,
      param(LayerNormGradientParam.gamma), n, paramFloat(LayerNormGradientParam.epsilon), dGamma, dBeta,
    );
  }
}
