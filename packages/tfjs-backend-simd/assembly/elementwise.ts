// Kernels that treat every element alike. Each operation is a class without state whose `apply` is inlined into the loop; the
// loops are generic over it.
//
// Loads may run up to 12 bytes past the last element: blocks of the heap are padded. Stores never do, so that threads can share
// a row.

import { AdamWParam, AppendColumnsParam, Binary, CopyParam, MAP_CHUNK, MapParam, SquaresParam, Unary, ZipParam } from './abi';
import { erf, exp, gelu, one, quickGelu, sigmoid, storeLanes, tanh } from './math';
import { keepsResults, param, paramInt, paramLanes, publish } from './thread';

@unmanaged class Abs { @inline apply(x: v128): v128 { return f32x4.abs(x); } }
@unmanaged class Neg { @inline apply(x: v128): v128 { return f32x4.neg(x); } }
@unmanaged class Sqrt { @inline apply(x: v128): v128 { return f32x4.sqrt(x); } }
@unmanaged class Rsqrt { @inline apply(x: v128): v128 { return f32x4.div(one(), f32x4.sqrt(x)); } }
@unmanaged class Square { @inline apply(x: v128): v128 { return f32x4.mul(x, x); } }
@unmanaged class Exp { @inline apply(x: v128): v128 { return exp(x); } }
@unmanaged class Sigmoid { @inline apply(x: v128): v128 { return sigmoid(x); } }
@unmanaged class Tanh { @inline apply(x: v128): v128 { return tanh(x); } }
@unmanaged class Erf { @inline apply(x: v128): v128 { return erf(x); } }
@unmanaged class Relu { @inline apply(x: v128): v128 { return f32x4.max(x, f32x4.splat(0)); } }
@unmanaged class Gelu { @inline apply(x: v128): v128 { return gelu(x); } }
@unmanaged class QuickGelu { @inline apply(x: v128): v128 { return quickGelu(x); } }
@unmanaged class Reciprocal { @inline apply(x: v128): v128 { return f32x4.div(one(), x); } }
@unmanaged class Floor { @inline apply(x: v128): v128 { return f32x4.floor(x); } }
@unmanaged class Ceil { @inline apply(x: v128): v128 { return f32x4.ceil(x); } }
@unmanaged class Clip { @inline apply(x: v128): v128 { return f32x4.max(f32x4.min(x, paramLanes(MapParam.second)), paramLanes(MapParam.first)); } }
@unmanaged class Affine { @inline apply(x: v128): v128 { return f32x4.add(f32x4.mul(x, paramLanes(MapParam.first)), paramLanes(MapParam.second)); } }

/** y[i] = op(x[i]) for n elements. */
@inline function mapLoop<Op>(x: usize, y: usize, n: i32): void {
  const op = changetype<Op>(0);
  const end = y + (<usize>(n & ~7) << 2);
  for (; y < end; x += 32, y += 32) {
    const a = op.apply(v128.load(x)), b = op.apply(v128.load(x, 16)); // two at a time hide the latency of the chains
    v128.store(y, a);
    v128.store(y, b, 16);
  }
  if (n & 4) {
    v128.store(y, op.apply(v128.load(x)));
    x += 16;
    y += 16;
  }
  if (n & 3) storeLanes(y, op.apply(v128.load(x)), n & 3);
}

/** Operation `op` (a `Unary`) on n float32. */
export function map(op: i32, x: usize, y: usize, n: i32): void {
  switch (op) {
    case Unary.Abs: mapLoop<Abs>(x, y, n); break;
    case Unary.Neg: mapLoop<Neg>(x, y, n); break;
    case Unary.Sqrt: mapLoop<Sqrt>(x, y, n); break;
    case Unary.Rsqrt: mapLoop<Rsqrt>(x, y, n); break;
    case Unary.Square: mapLoop<Square>(x, y, n); break;
    case Unary.Exp: mapLoop<Exp>(x, y, n); break;
    case Unary.Sigmoid: mapLoop<Sigmoid>(x, y, n); break;
    case Unary.Tanh: mapLoop<Tanh>(x, y, n); break;
    case Unary.Erf: mapLoop<Erf>(x, y, n); break;
    case Unary.Relu: mapLoop<Relu>(x, y, n); break;
    case Unary.Gelu: mapLoop<Gelu>(x, y, n); break;
    case Unary.QuickGelu: mapLoop<QuickGelu>(x, y, n); break;
    case Unary.Reciprocal: mapLoop<Reciprocal>(x, y, n); break;
    case Unary.Floor: mapLoop<Floor>(x, y, n); break;
    case Unary.Ceil: mapLoop<Ceil>(x, y, n); break;
    case Unary.ClipByValue: mapLoop<Clip>(x, y, n); break;
    case Unary.Affine: mapLoop<Affine>(x, y, n); break;
  }
}

/** Job with `MapParam`. */
export function mapJob(chunk: i32): void {
  const from = chunk * MAP_CHUNK, offset = <usize>from << 2;
  map(paramInt(MapParam.operation), param(MapParam.x) + offset, param(MapParam.y) + offset, min(MAP_CHUNK, paramInt(MapParam.size) - from));
}

@unmanaged class AddF { @inline apply(a: v128, b: v128): v128 { return f32x4.add(a, b); } }
@unmanaged class SubF { @inline apply(a: v128, b: v128): v128 { return f32x4.sub(a, b); } }
@unmanaged class MulF { @inline apply(a: v128, b: v128): v128 { return f32x4.mul(a, b); } }
@unmanaged class DivF { @inline apply(a: v128, b: v128): v128 { return f32x4.div(a, b); } }
@unmanaged class MaxF { @inline apply(a: v128, b: v128): v128 { return f32x4.max(a, b); } }
@unmanaged class MinF { @inline apply(a: v128, b: v128): v128 { return f32x4.min(a, b); } }
@unmanaged class SquaredDifferenceF { @inline apply(a: v128, b: v128): v128 { const d = f32x4.sub(a, b); return f32x4.mul(d, d); } }
@unmanaged class AddI { @inline apply(a: v128, b: v128): v128 { return i32x4.add(a, b); } }
@unmanaged class SubI { @inline apply(a: v128, b: v128): v128 { return i32x4.sub(a, b); } }
@unmanaged class MaxI { @inline apply(a: v128, b: v128): v128 { return i32x4.max_s(a, b); } }
@unmanaged class MinI { @inline apply(a: v128, b: v128): v128 { return i32x4.min_s(a, b); } }

/** One row of y = op(a, b); a step of 0 repeats the single element of that side. */
@inline function zipRow<Op>(a: usize, b: usize, y: usize, n: i32, aStep: i32, bStep: i32): void {
  const op = changetype<Op>(0);
  const end = y + (<usize>(n & ~3) << 2);
  if (aStep && bStep) {
    for (; y < end; a += 16, b += 16, y += 16) v128.store(y, op.apply(v128.load(a), v128.load(b)));
    if (n & 3) storeLanes(y, op.apply(v128.load(a), v128.load(b)), n & 3);
  } else if (aStep) {
    const right = v128.load_splat<f32>(b);
    for (; y < end; a += 16, y += 16) v128.store(y, op.apply(v128.load(a), right));
    if (n & 3) storeLanes(y, op.apply(v128.load(a), right), n & 3);
  } else {
    const left = v128.load_splat<f32>(a);
    for (; y < end; b += 16, y += 16) v128.store(y, op.apply(left, v128.load(b)));
    if (n & 3) storeLanes(y, op.apply(left, v128.load(b)), n & 3);
  }
}

@inline function zipRows<Op>(from: i32, to: i32): void {
  const n = paramInt(ZipParam.columns), aRow = param(ZipParam.aStride), bRow = param(ZipParam.bStride), aStep = paramInt(ZipParam.aElementStep), bStep = paramInt(ZipParam.bElementStep);
  let a = param(ZipParam.a) + from * aRow, b = param(ZipParam.b) + from * bRow, y = param(ZipParam.y) + (<usize>(from * n) << 2);
  for (let r = from; r < to; r++, a += aRow, b += bRow, y += <usize>n << 2) zipRow<Op>(a, b, y, n, aStep, bStep);
}

/** Job with `ZipParam`. */
export function zipJob(chunk: i32): void {
  const from = chunk * paramInt(ZipParam.chunkRows), to = min(from + paramInt(ZipParam.chunkRows), paramInt(ZipParam.rows));
  switch (paramInt(ZipParam.operation)) {
    case Binary.Add: zipRows<AddF>(from, to); break;
    case Binary.Sub: zipRows<SubF>(from, to); break;
    case Binary.Multiply: zipRows<MulF>(from, to); break;
    case Binary.RealDiv: zipRows<DivF>(from, to); break;
    case Binary.Maximum: zipRows<MaxF>(from, to); break;
    case Binary.Minimum: zipRows<MinF>(from, to); break;
    case Binary.SquaredDifference: zipRows<SquaredDifferenceF>(from, to); break;
    case Binary.AddInt: zipRows<AddI>(from, to); break;
    case Binary.SubInt: zipRows<SubI>(from, to); break;
    case Binary.MaximumInt: zipRows<MaxI>(from, to); break;
    case Binary.MinimumInt: zipRows<MinI>(from, to); break;
  }
}

// ---- What an optimizer does with whole parameters, in whatever order their numbers are: the update of AdamW, and the squares of a norm.

/** Stores up to four lanes. */
@inline function storeUpTo(at: usize, v: v128, count: i32): void {
  if (count >= 4) v128.store(at, v);
  else storeLanes(at, v, count);
}

/** Job with `AdamWParam`: Loshchilov and Hutter's update in the order of operations of torch.optim.AdamW. A chunk is MAP_CHUNK numbers. */
export function adamWJob(chunk: i32, thread: i32): void {
  const from = chunk * MAP_CHUNK, offset = <usize>from << 2, n = min(MAP_CHUNK, paramInt(AdamWParam.size) - from);
  const oldFirst = param(AdamWParam.oldFirst), oldSecond = param(AdamWParam.oldSecond);
  const scale = paramLanes(AdamWParam.scale), toward = paramLanes(AdamWParam.firstRate), keep = paramLanes(AdamWParam.beta2), more = paramLanes(AdamWParam.secondRate);
  const shrink = paramLanes(AdamWParam.shrink), rootFactor = paramLanes(AdamWParam.rootFactor), epsilon = paramLanes(AdamWParam.epsilon), rate = paramLanes(AdamWParam.rate);
  const zero = f32x4.splat(0), own = keepsResults(), bytes = <usize>n << 2;
  const spare = param(AdamWParam.scratch) + <usize>thread * param(AdamWParam.threadBytes);
  const y = param(AdamWParam.y) + offset, newFirst = param(AdamWParam.first) + offset, newSecond = param(AdamWParam.second) + offset;
  const toY = own ? spare : y, toFirst = own ? spare + (MAP_CHUNK << 2) : newFirst, toSecond = own ? spare + (MAP_CHUNK << 3) : newSecond;
  for (let i = 0, at = offset; i < n; i += 4, at += 16) {
    const g = f32x4.mul(v128.load(param(AdamWParam.gradient) + at), scale);
    const m = oldFirst ? v128.load(oldFirst + at) : zero, v = oldSecond ? v128.load(oldSecond + at) : zero;
    const first = f32x4.add(m, f32x4.mul(f32x4.sub(g, m), toward));
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

// ---- One kernel moves data for transpose, slice, strided slice, pad, tile, reverse, concat, pack and their like.

@inline function copyRun<T>(source: usize, target: usize, n: i32, sourceStep: usize, targetStep: usize): void {
  for (let i = 0; i < n; i++, source += sourceStep, target += targetStep) store<T>(target, load<T>(source));
}

/** 4-byte elements whose source runs down a column: four columns at a time, transposed in registers. */
@inline function transposeTile(s: usize, sRow: usize, t: usize, tRow: usize): void {
  const a = v128.load(s), b = v128.load(s + sRow), c = v128.load(s + 2 * sRow), d = v128.load(s + 3 * sRow);
  const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  const ef = v128.shuffle<f32>(a, b, 2, 6, 3, 7), gh = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  v128.store(t, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
  v128.store(t + tRow, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
  v128.store(t + 2 * tRow, v128.shuffle<f32>(ef, gh, 0, 1, 4, 5));
  v128.store(t + 3 * tRow, v128.shuffle<f32>(ef, gh, 2, 3, 6, 7));
}

/** [rows, columns] 4-byte elements; the source is contiguous down a target row's neighbors (a 2-D transposition). */
function transposePlane(s: usize, t: usize, rows: i32, columns: i32, sColumn: usize, tRow: usize): void {
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    const si = s + (<usize>i << 2), ti = t + <usize>i * tRow;
    let j = 0;
    for (; j + 4 <= columns; j += 4) transposeTile(si + <usize>j * sColumn, sColumn, ti + (<usize>j << 2), tRow);
    for (; j < columns; j++) {
      for (let r = 0; r < 4; r++) {
        store<f32>(ti + <usize>r * tRow + (<usize>j << 2), load<f32>(si + <usize>j * sColumn + (<usize>r << 2)));
      }
    }
  }
  for (; i < rows; i++) copyRun<f32>(s + (<usize>i << 2), t + <usize>i * tRow, columns, sColumn, 4);
}

/** The last two dimensions; `d` is the last one. */
function copyPlane(s: usize, t: usize, d: i32, size: i32): void {
  const n = paramInt(CopyParam.dims + d), sStep = param(CopyParam.sourceStrides + d), tStep = param(CopyParam.targetStrides + d);
  const rows = d > 0 ? paramInt(CopyParam.dims + d - 1) : 1;
  const sRow = d > 0 ? param(CopyParam.sourceStrides + d - 1) : 0, tRow = d > 0 ? param(CopyParam.targetStrides + d - 1) : 0;
  if (size == 4 && sRow == 4 && tStep == 4 && sStep != 4) return transposePlane(s, t, rows, n, sStep, tRow);
  for (let i = 0; i < rows; i++, s += sRow, t += tRow) {
    if (sStep == <usize>size && tStep == <usize>size) memory.copy(t, s, <usize>(n * size));
    else if (size == 4) copyRun<u32>(s, t, n, sStep, tStep);
    else copyRun<u8>(s, t, n, sStep, tStep);
  }
}

/** Job with `CopyParam`; strides may be negative or zero. */
export function copyJob(chunk: i32): void {
  const rank = paramInt(CopyParam.rank), size = paramInt(CopyParam.elementBytes), last = rank - 1;
  let s = param(CopyParam.source), t = param(CopyParam.target);
  if (rank <= 2) return copyPlane(s, t, last, size);
  s += <usize>chunk * param(CopyParam.sourceStrides);
  t += <usize>chunk * param(CopyParam.targetStrides);
  copyInner(s, t, 1, last, size);
}

function copyInner(s: usize, t: usize, d: i32, last: i32, size: i32): void {
  if (d + 1 == last) return copyPlane(s, t, last, size);
  const n = paramInt(CopyParam.dims + d), sStep = param(CopyParam.sourceStrides + d), tStep = param(CopyParam.targetStrides + d);
  for (let i = 0; i < n; i++, s += sStep, t += tStep) copyInner(s, t, d + 1, last, size);
}

/** Job with `AppendColumnsParam`: `rows` times `pastBytes` of the past, then `freshBytes` of what is fresh, to the target. */
export function appendColumnsJob(): void {
  const pastBytes = param(AppendColumnsParam.pastBytes), freshBytes = param(AppendColumnsParam.freshBytes);
  let past = param(AppendColumnsParam.past), fresh = param(AppendColumnsParam.fresh), target = param(AppendColumnsParam.target);
  for (let r = paramInt(AppendColumnsParam.rows); r > 0; r--, past += pastBytes, fresh += freshBytes, target += pastBytes + freshBytes) {
    memory.copy(target, past, pastBytes);
    memory.copy(target + pastBytes, fresh, freshBytes);
  }
}
