import { backend_util, type DataType, type TensorInfo } from '@tensorflow/tfjs-core';
import { JOB, MAP_CHUNK, UNARY } from '../memory-map.js';
import type { SimdBackend } from '../simd-backend.js';
import { floatBits } from '../thread-pool.js';
import { type Attributes, input, type Kernel, type KernelTable, sizeOf } from './table.js';

/** y = op(x) on `size` float32 numbers; x and y may be the same. The limits belong to ClipByValue, slope and offset to Affine. */
function mapFloats(
  backend: SimdBackend,
  op: keyof typeof UNARY,
  x: number,
  y: number,
  size: number,
  first = 0,
  second = 0,
): void {
  const parameters = [UNARY[op], x, y, size, floatBits(first), floatBits(second)];
  backend.pool.run(JOB.map, Math.ceil(size / MAP_CHUNK), parameters);
}

type Scalar = (x: number, attributes: Attributes) => number;

/** Banker's rounding: halves go to the even neighbour. */
function round(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return x - below < 0.5 ? below : Math.ceil(x);
  return below % 2 === 0 ? below : below + 1;
}

/** log(1 + exp(x)), with tfjs's limits beyond which one of the two terms is lost. */
function softplus(x: number): number {
  const threshold = Math.log(1.1920928955078125e-7) + 2;
  if (x < threshold) return Math.exp(x);
  return x > -threshold ? x : Math.log(1 + Math.exp(x));
}

/** erf to double precision is not needed here: this serves int32 and bool tensors only (Abramowitz and Stegun 7.1.26, as tfjs). */
function erf(x: number): number {
  const { ERF_P, ERF_A1, ERF_A2, ERF_A3, ERF_A4, ERF_A5 } = backend_util;
  const t = 1 / (1 + ERF_P * Math.abs(x));
  const tail = ((((ERF_A5 * t + ERF_A4) * t + ERF_A3) * t + ERF_A2) * t + ERF_A1) * t * Math.exp(-x * x);
  return Math.sign(x) * (1 - tail);
}

/** Every unary operation on one number, in double precision. */
const SCALAR: Readonly<Record<string, Scalar>> = {
  Abs: Math.abs,
  Acos: Math.acos,
  Acosh: Math.acosh,
  Asin: Math.asin,
  Asinh: Math.asinh,
  Atan: Math.atan,
  Atanh: Math.atanh,
  Ceil: Math.ceil,
  Cos: Math.cos,
  Cosh: Math.cosh,
  Elu: (x) => (x >= 0 ? x : Math.exp(x) - 1),
  Erf: erf,
  Exp: Math.exp,
  Expm1: Math.expm1,
  Floor: Math.floor,
  IsFinite: (x) => (Number.isFinite(x) ? 1 : 0),
  IsInf: (x) => (Math.abs(x) === Number.POSITIVE_INFINITY ? 1 : 0),
  IsNan: (x) => (Number.isNaN(x) ? 1 : 0),
  LeakyRelu: (x, { alpha }) => (x < 0 ? (alpha as number) * x : x),
  Log: Math.log,
  Log1p: Math.log1p,
  LogicalNot: (x) => (x ? 0 : 1),
  Neg: (x) => -x,
  Reciprocal: (x) => 1 / x,
  Relu: (x) => Math.max(0, x),
  Relu6: (x) => Math.min(Math.max(0, x), 6),
  Round: round,
  Rsqrt: (x) => 1 / Math.sqrt(x),
  Selu: (x) => (x >= 0 ? backend_util.SELU_SCALE * x : backend_util.SELU_SCALEALPHA * (Math.exp(x) - 1)),
  Sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  Sign: (x) => (x < 0 ? -1 : x > 0 ? 1 : 0),
  Sin: Math.sin,
  Sinh: Math.sinh,
  Softplus: softplus,
  Sqrt: Math.sqrt,
  Square: (x) => x * x,
  Step: (x, { alpha }) => (Number.isNaN(x) ? x : x > 0 ? 1 : (alpha as number)),
  Tan: Math.tan,
  Tanh: Math.tanh,
  ClipByValue: (x, { clipValueMin, clipValueMax }) =>
    Math.max(Math.min(x, clipValueMax as number), clipValueMin as number),
};

/** Results that do not have the type of x. */
const RESULT: Readonly<Record<string, DataType>> = {
  Exp: 'float32',
  LeakyRelu: 'float32',
  IsFinite: 'bool',
  IsInf: 'bool',
  IsNan: 'bool',
  LogicalNot: 'bool',
};

/** float32 operations that have a kernel of their own; the others run in JavaScript, in double precision. */
const isFast = (name: string): name is keyof typeof UNARY => name in UNARY;

function unary(name: string, scalar: Scalar): Kernel {
  return (backend, inputs, attributes): TensorInfo => {
    const x = input(inputs, 'x');
    if (name === 'Neg' && x.dtype === 'bool') return backend.alias(x, x.shape); // -true is true, to tfjs
    const output = backend.output(x.shape, RESULT[name] ?? x.dtype);
    if (x.dtype === 'float32' && isFast(name)) {
      const { clipValueMin = 0, clipValueMax = 0 } = attributes as { clipValueMin?: number; clipValueMax?: number };
      const size = sizeOf(x.shape);
      mapFloats(backend, name, backend.addressOf(x), output.address, size, clipValueMin, clipValueMax);
      return output;
    }
    const [values, target] = backend.viewsOf(x, output);
    for (let i = 0; i < values.length; i++) target[i] = scalar(values[i]!, attributes);
    return output;
  };
}

export const unaryKernels: KernelTable = Object.fromEntries(
  Object.entries(SCALAR).map(([name, scalar]) => [name, unary(name, scalar)]),
);
