import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { specs } from '../support.js';
import {
  ALL,
  broadcasting,
  type Dtype,
  FLOAT,
  filled,
  type KernelCase,
  type KernelCases,
  kernelCase,
  NUMBERS,
  tensors,
} from './case.js';

type Range = { min?: number; max?: number };

const unary = (tolerance = 1e-7, range: Range = {}, dtypes = FLOAT, attributes = {}): KernelCase =>
  kernelCase(
    tensors(dtypes, { range }).map((x) => ({ inputs: { x }, attributes })),
    tolerance,
  );

const binary = (
  dtypes: readonly Dtype[],
  tolerance = 0,
  range: Range = {},
  names: readonly [string, string] = ['a', 'b'],
): KernelCase =>
  kernelCase(
    fc
      .tuple(broadcasting, fc.constantFrom(...dtypes))
      .chain(([[a, b], dtype]) => fc.tuple(specs(a, dtype, range), specs(b, dtype, range)))
      .map(([a, b]) => ({ inputs: { [names[0]]: a, [names[1]]: b } })),
    tolerance,
  );

/** tfjs's cpu backend computes in double precision; its erf has an error of 1.5e-7 itself. */
const unaryCases: KernelCases = {
  Abs: unary(0, {}, NUMBERS),
  Acos: unary(1e-7, { min: -1, max: 1 }),
  Acosh: unary(1e-7, { min: 1 }),
  Asin: unary(1e-7, { min: -1, max: 1 }),
  Asinh: unary(),
  Atan: unary(),
  Atanh: unary(1e-7, { min: -0.99, max: 0.99 }),
  Ceil: unary(0),
  Cos: unary(),
  Cosh: unary(),
  Elu: unary(),
  Erf: unary(4e-7),
  Exp: unary(3e-7, { min: -90, max: 20 }),
  Expm1: unary(),
  Floor: unary(0),
  IsFinite: unary(0),
  IsInf: unary(0),
  IsNan: unary(0),
  LeakyRelu: unary(1e-7, {}, FLOAT, { alpha: 0.3 }),
  Log: unary(1e-7, { min: 0 }),
  Log1p: unary(1e-7, { min: -0.9 }),
  LogicalNot: unary(0, {}, ['bool']),
  Neg: unary(0, {}, NUMBERS),
  Reciprocal: unary(),
  Relu: unary(0, {}, NUMBERS),
  Relu6: unary(0, { min: -9, max: 9 }, NUMBERS),
  Round: unary(0),
  Rsqrt: unary(2e-7, { min: 0.01 }),
  Selu: unary(),
  Sigmoid: unary(2e-7, { min: -100, max: 100 }),
  Sign: unary(0, {}, NUMBERS),
  Sin: unary(),
  Sinh: unary(),
  Softplus: unary(1e-7, { min: -30, max: 30 }),
  Sqrt: unary(1e-7, { min: 0 }),
  Square: unary(1e-7, {}, NUMBERS),
  Step: unary(0, {}, FLOAT, { alpha: 0.25 }),
  Tan: unary(1e-7, { min: -1.5, max: 1.5 }),
  Tanh: unary(3e-7, { min: -12, max: 12 }),
  ClipByValue: unary(0, {}, NUMBERS, { clipValueMin: -1.5, clipValueMax: 2 }),
  Identity: unary(0, {}, ALL),
  ZerosLike: unary(0, {}, ALL),
  OnesLike: unary(0, {}, ALL),
  Cast: kernelCase(
    fc.tuple(tensors(ALL), fc.constantFrom(...ALL)).map(([x, dtype]) => ({ inputs: { x }, attributes: { dtype } })),
  ),
};

const binaryCases: KernelCases = {
  Add: binary(NUMBERS),
  Sub: binary(NUMBERS),
  Multiply: binary(NUMBERS),
  RealDiv: binary(FLOAT),
  FloorDiv: binary(NUMBERS),
  Maximum: binary(ALL),
  Minimum: binary(ALL),
  SquaredDifference: binary(NUMBERS),
  Mod: binary(NUMBERS),
  Pow: binary(FLOAT, 1e-6, { min: 0 }),
  Atan2: binary(FLOAT, 1e-7),
  BitwiseAnd: binary(['int32'], 0, { min: -1e6, max: 1e6 }),
  Prelu: binary(FLOAT, 0, {}, ['x', 'alpha']),
  Equal: binary(ALL),
  NotEqual: binary(ALL),
  Less: binary(ALL),
  LessEqual: binary(ALL),
  Greater: binary(ALL),
  GreaterEqual: binary(ALL),
  LogicalAnd: binary(['bool']),
  LogicalOr: binary(['bool']),
  LogicalXor: { ...binary(['bool']), reference: ({ a, b }) => tf.logicalXor(a!, b!) },
  EluGrad: kernelCase(
    tensors(FLOAT).chain((dy) => specs(dy.shape).map((y) => ({ inputs: { dy, y } }))),
    1e-7,
  ),
};

export const elementwiseCases: KernelCases = {
  ...unaryCases,
  ...binaryCases,
  AddN: kernelCase(
    filled(NUMBERS)
      .chain(({ shape, dtype }) => fc.array(specs(shape, dtype as Dtype), { minLength: 1, maxLength: 4 }))
      .map((list) => ({ inputs: Object.fromEntries(list.entries()) })),
    2e-7,
  ),
  Select: kernelCase(
    tensors(ALL)
      .chain((t) => fc.tuple(fc.constant(t), specs(t.shape, t.dtype), specs(t.shape, 'bool')))
      .map(([t, e, condition]) => ({ inputs: { condition, t, e } })),
  ),
};
