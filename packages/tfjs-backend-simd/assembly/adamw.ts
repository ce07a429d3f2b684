// What an optimizer does with whole parameters, in whatever order their numbers are: the update of AdamW, and the squares of a norm.

import { AdamWParam, MAP_CHUNK, SquaresParam } from './abi';
import { storeLanes } from './math';
import { keepsResults, param, paramInt, paramLanes, publish } from './thread';

/** Stores up to four lanes. */
@inline function storeUpTo(at: usize, v: v128, count: i32): void {
  if (count >= 4) v128.store(at, v);
  else storeLanes(at, v, count);
}

/** Job with `AdamWParam`: Loshchilov and Hutter's update in the order of operations of torch.optim.AdamW. A chunk is MAP_CHUNK numbers. */
export function adamWJob(chunk: i32, thread: i32): void {
  const from = chunk * MAP_CHUNK, offset = <usize>from << 2, n = min(MAP_CHUNK, paramInt(AdamWParam.size) - from);
  const oldFirst = param(AdamWParam.oldFirst), oldSecond = param(AdamWParam.oldSecond);
  const scale = paramLanes(AdamWParam.scale), towards = paramLanes(AdamWParam.firstRate), keep = paramLanes(AdamWParam.beta2), more = paramLanes(AdamWParam.secondRate);
  const shrink = paramLanes(AdamWParam.shrink), rootFactor = paramLanes(AdamWParam.rootFactor), epsilon = paramLanes(AdamWParam.epsilon), rate = paramLanes(AdamWParam.rate);
  const zero = f32x4.splat(0), own = keepsResults(), bytes = <usize>n << 2;
  const spare = param(AdamWParam.scratch) + <usize>thread * param(AdamWParam.threadBytes);
  const y = param(AdamWParam.y) + offset, newFirst = param(AdamWParam.first) + offset, newSecond = param(AdamWParam.second) + offset;
  const toY = own ? spare : y, toFirst = own ? spare + (MAP_CHUNK << 2) : newFirst, toSecond = own ? spare + (MAP_CHUNK << 3) : newSecond;
  for (let i = 0, at = offset; i < n; i += 4, at += 16) {
    const g = f32x4.mul(v128.load(param(AdamWParam.gradient) + at), scale);
    const m = oldFirst ? v128.load(oldFirst + at) : zero, v = oldSecond ? v128.load(oldSecond + at) : zero;
    const first = f32x4.add(m, f32x4.mul(f32x4.sub(g, m), towards));
    const second = f32x4.add(f32x4.mul(v, keep), f32x4.mul(f32x4.mul(g, g), more));
    const root = f32x4.add(f32x4.mul(f32x4.sqrt(second), rootFactor), epsilon);
    const p = f32x4.sub(f32x4.mul(v128.load(param(AdamWParam.x) + at), shrink), f32x4.mul(f32x4.div(first, root), rate));
    const to = <usize>i << 2;
    storeUpTo(toFirst + to, first, n - i);
    storeUpTo(toSecond + to, second, n - i);
    storeUpTo(toY + to, p, n - i);
  }
  if (!own || !publish()) return;
  memory.copy(y, toY, bytes);
  memory.copy(newFirst, toFirst, bytes);
  memory.copy(newSecond, toSecond, bytes);
}

/** Job with `SquaresParam`: the sum of the squares of MAP_CHUNK numbers, in double precision, for each chunk. */
export function squaresJob(chunk: i32): void {
  const from = chunk * MAP_CHUNK, n = min(MAP_CHUNK, paramInt(SquaresParam.size) - from);
  let x = param(SquaresParam.x) + (<usize>from << 2);
  let s = f64x2.splat(0), t = s;
  for (let i = 0; i + 4 <= n; i += 4, x += 16) {
    const v = v128.load(x);
    const low = f64x2.promote_low_f32x4(v), high = f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3));
    s = f64x2.add(s, f64x2.mul(low, low));
    t = f64x2.add(t, f64x2.mul(high, high));
  }
  s = f64x2.add(s, t);
  let total = f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1);
  for (let i = 0; i < (n & 3); i++, x += 4) total += <f64>load<f32>(x) * <f64>load<f32>(x);
  store<f64>(param(SquaresParam.y) + (<usize>chunk << 3), total);
}
