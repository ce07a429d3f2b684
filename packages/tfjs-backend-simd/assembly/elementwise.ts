// Kernels that treat every element alike. Each operation is a class without state whose `apply` is inlined into the loop; the
// loops are generic over it.
//
// Loads may run up to 12 bytes past the last element: blocks of the heap are padded. Stores never do, so that threads can share
// a row.

import { erf, exp, gelu, one, quickGelu, sigmoid, storeLanes, tanh } from './math';
import { Binary, MAP_CHUNK, MapParam, Unary, ZipParam } from './abi';
import { param, paramInt, paramLanes } from './thread';

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
