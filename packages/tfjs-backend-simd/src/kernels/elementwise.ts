import { backend_util, type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { AdamWParam, Binary, Job, MAP_CHUNK, MapParam, SquaresParam, Unary, ZipParam } from '../abi.js';
import {
  type Attributes,
  input,
  type Kernel,
  type KernelContext,
  type KernelTable,
  listOf,
  type Output,
  requireFloats,
  sizeOf,
  stridesOf,
} from '../kernel-context.js';
import { type Numbers, packedBytes } from '../tensor-memory.js';
import { floatBits, parametersOf } from '../thread-pool.js';

/** Rows of `n` elements in which each side runs on (step 1) or stands still (step 0); strides and offsets in elements. */
export interface Plan {
  readonly n: number;
  readonly rows: number;
  readonly aStep: number;
  readonly bStep: number;
  readonly aRow: number;
  readonly bRow: number;
  /** Where each outer index begins, for a and for b; the result lies behind each other. */
  readonly starts: readonly (readonly [number, number])[];
}

/** Strides of an operand along the result's dimensions: 0 where it is repeated. */
function broadcastStrides(shape: readonly number[], rank: number): number[] {
  const strides = stridesOf(shape).map((stride, d) => (shape[d] === 1 ? 0 : stride));
  return [...new Array<number>(rank - shape.length).fill(0), ...strides];
}

/** How two shapes run together: dimensions that do so alike are joined, the last two become rows. */
export function planBroadcast(aShape: readonly number[], bShape: readonly number[], shape: readonly number[]): Plan {
  const [aStrides, bStrides] = [broadcastStrides(aShape, shape.length), broadcastStrides(bShape, shape.length)];
  const dims: { size: number; a: number; b: number }[] = [];
  shape.forEach((size, d) => {
    if (size === 1) return;
    const [a, b] = [aStrides[d]!, bStrides[d]!];
    const outer = dims.at(-1);
    if (outer !== undefined && outer.a === a * size && outer.b === b * size) {
      dims[dims.length - 1] = { size: outer.size * size, a, b };
    } else dims.push({ size, a, b });
  });
  const inner = dims.pop() ?? { size: 1, a: 1, b: 1 };
  const row = dims.pop() ?? { size: 1, a: 0, b: 0 };
  let starts: [number, number][] = [[0, 0]];
  for (const { size, a, b } of dims) {
    starts = starts.flatMap(([x, y]) =>
      Array.from({ length: size }, (_, i): [number, number] => [x + i * a, y + i * b]),
    );
  }
  return { n: inner.size, rows: row.size, aStep: inner.a, bStep: inner.b, aRow: row.a, bRow: row.b, starts };
}

/** y = op(x) on `size` float32 numbers; x and y may be the same. The limits belong to ClipByValue, slope and offset to Affine. */
function mapFloats(
  backend: KernelContext,
  op: keyof typeof Unary,
  x: number,
  y: number,
  size: number,
  first = 0,
  second = 0,
): void {
  const parameters = parametersOf(MapParam, {
    operation: Unary[op],
    x,
    y,
    size,
    first: floatBits(first),
    second: floatBits(second),
  });
  backend.pool.run(Job.map, Math.ceil(size / MAP_CHUNK), parameters);
}

type UnaryScalar = (x: number, attributes: Attributes) => number;

/** Banker's rounding: halves go to the even neighbor. */
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
const UNARY_SCALAR: Readonly<Record<string, UnaryScalar>> = {
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
const isFast = (name: string): name is keyof typeof Unary => name in Unary;

function unary(name: string, scalar: UnaryScalar): Kernel {
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

type BinaryScalar = (a: number, b: number) => number;

/** A single long row as many short ones, so that threads can share it; the rest is what does not fill a row. */
const ROW = 16384;

function zipFloats(backend: KernelContext, op: number, a: number, b: number, y: number, plan: Plan): void {
  const { n, rows, aStep, bStep } = plan;
  if (rows === 1 && n > 2 * ROW) {
    const whole = Math.floor(n / ROW);
    zipFloats(backend, op, a, b, y, { ...plan, n: ROW, rows: whole, aRow: ROW * aStep, bRow: ROW * bStep });
    const done = whole * ROW;
    if (done < n)
      zipFloats(backend, op, a + 4 * done * aStep, b + 4 * done * bStep, y + 4 * done, { ...plan, n: n - done });
    return;
  }
  const perChunk = Math.max(1, Math.ceil(ROW / n));
  const parameters = parametersOf(ZipParam, {
    operation: op,
    a,
    b,
    y,
    columns: n,
    aStride: plan.aRow * 4,
    bStride: plan.bRow * 4,
    aElementStep: aStep,
    bElementStep: bStep,
    rows,
    chunkRows: perChunk,
  });
  backend.pool.run(Job.zip, Math.ceil(rows / perChunk), parameters);
}

function zipNumbers(scalar: BinaryScalar, a: Numbers, b: Numbers, y: Numbers, plan: Plan): void {
  let at = 0;
  for (const [aStart, bStart] of plan.starts) {
    for (let r = 0; r < plan.rows; r++) {
      let [i, j] = [aStart + r * plan.aRow, bStart + r * plan.bRow];
      for (let e = 0; e < plan.n; e++, i += plan.aStep, j += plan.bStep) y[at++] = scalar(a[i]!, b[j]!);
    }
  }
}

/** tfjs's modulo: the sign of the divisor. */
function mod(a: number, b: number): number {
  const rest = a % b;
  return (a < 0 && b < 0) || (a >= 0 && b >= 0) ? rest : (rest + b) % b;
}

/** Every binary operation on two numbers, in double precision, and the type of its result where it is not that of `a`. */
const BINARY_SCALAR: Readonly<Record<string, readonly [BinaryScalar, DataType?]>> = {
  Add: [(a, b) => a + b],
  Sub: [(a, b) => a - b],
  Multiply: [(a, b) => a * b],
  RealDiv: [(a, b) => a / b],
  FloorDiv: [(a, b) => Math.floor(a / b), 'int32'],
  Maximum: [Math.max],
  Minimum: [Math.min],
  SquaredDifference: [(a, b) => (a - b) * (a - b)],
  Pow: [(a, b) => a ** b],
  Mod: [mod],
  Atan2: [Math.atan2],
  BitwiseAnd: [(a, b) => a & b],
  Equal: [(a, b) => (a === b ? 1 : 0), 'bool'],
  NotEqual: [(a, b) => (a !== b ? 1 : 0), 'bool'],
  Less: [(a, b) => (a < b ? 1 : 0), 'bool'],
  LessEqual: [(a, b) => (a <= b ? 1 : 0), 'bool'],
  Greater: [(a, b) => (a > b ? 1 : 0), 'bool'],
  GreaterEqual: [(a, b) => (a >= b ? 1 : 0), 'bool'],
  LogicalAnd: [(a, b) => (a && b ? 1 : 0), 'bool'],
  LogicalOr: [(a, b) => (a || b ? 1 : 0), 'bool'],
  LogicalXor: [(a, b) => ((a ? 1 : 0) !== (b ? 1 : 0) ? 1 : 0), 'bool'],
};

/** Number of the fast operation for these types, if there is one. */
function fastOperation(name: string, a: DataType, b: DataType): number | undefined {
  if (a !== b || (a !== 'float32' && a !== 'int32')) return undefined;
  return (Binary as unknown as Readonly<Record<string, number>>)[a === 'int32' ? `${name}Int` : name];
}

/** Applies `name` to two tensors of any shapes that broadcast. */
export function zip(
  backend: KernelContext,
  name: string,
  scalar: BinaryScalar,
  a: TensorInfo,
  b: TensorInfo,
  dtype: DataType,
): TensorInfo {
  const shape = backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  const output = backend.output(shape, dtype);
  if (shape.includes(0)) return output;
  const plan = planBroadcast(a.shape, b.shape, shape);
  const op = fastOperation(name, a.dtype, b.dtype);
  const [from, other] = [backend.addressOf(a), backend.addressOf(b)];
  if (op === undefined) {
    zipNumbers(scalar, ...backend.viewsOf(a, b, output), plan);
    return output;
  }
  const bytes = plan.n * plan.rows * 4;
  plan.starts.forEach(([x, y], i) => {
    zipFloats(backend, op, from + x * 4, other + y * 4, output.address + i * bytes, plan);
  });
  return output;
}

const binary =
  (name: string, scalar: BinaryScalar, dtype: DataType | undefined): Kernel =>
  (backend, inputs) => {
    const [a, b] = [input(inputs, 'a'), input(inputs, 'b')];
    if (a.dtype === 'string') return compareStrings(backend, name, a, b);
    return zip(backend, name, scalar, a, b, dtype ?? a.dtype);
  };

/** Strings can be compared, as JavaScript does; arithmetic is not for them. */
function compareStrings(backend: KernelContext, name: string, a: TensorInfo, b: TensorInfo): TensorInfo {
  const [left, right] = [backend.stringsOf(a), backend.stringsOf(b)];
  if (left === undefined || right === undefined || !COMPARISONS.has(name)) {
    backend.addressOf(a); // throws: strings are no numbers
    backend.addressOf(b);
  }
  const shape = backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  const output = backend.output(shape, 'bool');
  if (shape.includes(0)) return output;
  const [x, y] = [left!, right!].map((side) => side.map((bytes) => util.decodeString(bytes))) as [string[], string[]];
  const places = new Map([...new Set([...x, ...y])].sort().map((text, i) => [text, i]));
  const [first, second] = [
    Int32Array.from(x, (text) => places.get(text)!),
    Int32Array.from(y, (text) => places.get(text)!),
  ];
  zipNumbers(BINARY_SCALAR[name]![0], first, second, backend.valuesOf(output), planBroadcast(a.shape, b.shape, shape));
  return output;
}

const COMPARISONS: ReadonlySet<string> = new Set([
  ...['Equal', 'NotEqual', 'Less', 'LessEqual', 'Greater', 'GreaterEqual'],
]);

/** The sum of tensors of one shape and type. */
const addAll: Kernel = (backend, inputs) => {
  const { shape, dtype } = listOf(inputs)[0]!;
  const output = backend.output(shape, dtype);
  const [target, ...all] = backend.viewsOf(output, ...listOf(inputs));
  const sums = new Float64Array(target.length);
  for (const values of all) for (let i = 0; i < sums.length; i++) sums[i]! += values[i]!;
  target.set(sums);
  return output;
};

// Kernels over whole parameters. A gradient in panels (`GitLinearWeightGradient`) is taken as it is, and what belongs to it is brought into
// panels too: once, for its tensors stay so.

/** A parameter's numbers in the order of the gradient's own. */
interface OrderedNumbers {
  readonly size: number;
  /** Where a tensor's numbers are in this order; 0 where there is none. */
  of(tensor: TensorInfo | undefined): number;
  /** A new tensor in this order. */
  output(): Output;
}

function orderOf(backend: KernelContext, gradient: TensorInfo): OrderedNumbers {
  const packed = backend.packedOf(gradient);
  const { shape } = gradient;
  if (packed?.format !== 'f32') {
    return {
      size: sizeOf(shape),
      of: (tensor) => (tensor === undefined ? 0 : backend.addressOf(tensor)),
      output: () => backend.output(shape, 'float32'),
    };
  }
  const { rows, columns } = packed;
  return {
    size: packedBytes('f32', rows, columns) / 4,
    of(tensor) {
      if (tensor === undefined) return 0;
      if ((backend.packedOf(tensor)?.format ?? 'f32') === 'f32') return backend.pack(tensor, rows, columns).address;
      const panels = backend.scratch(packedBytes('f32', rows, columns));
      backend.kernels.packPanels(backend.addressOf(tensor), columns * 4, panels, rows, columns, rows);
      return panels;
    },
    output: () => backend.packedOutput(rows, columns),
  };
}

interface Updated {
  readonly from: number;
  readonly output: Output;
}

/** Where an update reads numbers, and the tensor that it writes: the same where nobody else has them, which saves a third of the traffic. */
function updated(backend: KernelContext, numbers: OrderedNumbers, tensor: TensorInfo | undefined): Updated {
  const from = numbers.of(tensor);
  const isThere = tensor !== undefined && from === backend.placeOf(tensor); // and not a copy in the order asked for
  if (!isThere || backend.refCount(tensor.dataId) > 1) return { from, output: numbers.output() };
  return { from, output: { ...backend.alias(tensor, tensor.shape), address: from } };
}

/**
 * One update of AdamW, in the order of operations of torch.optim.AdamW: parameter, gradient and, but for the first update, the moments `first` and
 * `second` -> the three anew. Takes parameter and moments over: what shares its numbers with no other tensor is updated where it is, so the old
 * tensors are to be disposed of and not read again. Attributes: `scale` of the gradient, `beta1`, `beta2`, `epsilon`, `learningRate`,
 * `weightDecay` (decoupled), `step` from 1.
 */
const adamW: Kernel = (backend, inputs, attributes) => {
  const [parameter, gradient] = [input(inputs, 'parameter'), input(inputs, 'gradient')];
  const { first, second } = inputs;
  requireFloats('GitAdamW', parameter, gradient, first, second);
  const alike = [gradient, first, second].every((x) => x === undefined || util.arraysEqual(x.shape, parameter.shape));
  util.assert(alike, () => `GitAdamW: [${parameter.shape}], [${gradient.shape}] and [${first?.shape}] differ`);
  const attribute = (name: string) => attributes[name] as number;
  const [beta1, beta2, step, learningRate] = ['beta1', 'beta2', 'step', 'learningRate'].map(attribute) as [
    ...[number, number, number, number],
  ];
  const numbers = orderOf(backend, gradient);
  const [x, m, v] = [parameter, first, second].map((tensor) => updated(backend, numbers, tensor)) as [
    ...[Updated, Updated, Updated],
  ];
  const threadBytes = 3 * 4 * MAP_CHUNK;
  const parameters = parametersOf(AdamWParam, {
    x: x.from,
    gradient: numbers.of(gradient),
    oldFirst: m.from,
    oldSecond: v.from,
    y: x.output.address,
    first: m.output.address,
    second: v.output.address,
    size: numbers.size,
    scale: floatBits(attribute('scale')),
    firstRate: floatBits(1 - beta1),
    beta2: floatBits(beta2),
    secondRate: floatBits(1 - beta2),
    shrink: floatBits(1 - learningRate * attribute('weightDecay')),
    rootFactor: floatBits(1 / Math.sqrt(1 - beta2 ** step)),
    epsilon: floatBits(attribute('epsilon')),
    rate: floatBits(learningRate / (1 - beta1 ** step)),
    scratch: backend.scratch(threadBytes * backend.pool.threads),
    threadBytes,
  });
  if (numbers.size > 0) backend.pool.run(Job.adamW, Math.ceil(numbers.size / MAP_CHUNK), parameters);
  return [x.output, m.output, v.output];
};

/** x float32 of any shape -> the sum of its squares, a scalar, added up in double precision. */
const squaredNorm: Kernel = (backend, inputs) => {
  const x = input(inputs, 'x');
  requireFloats('GitSquaredNorm', x);
  const numbers = orderOf(backend, x);
  const chunks = Math.ceil(numbers.size / MAP_CHUNK);
  const sums = backend.scratch(chunks * 8);
  const parameters = parametersOf(SquaresParam, { x: numbers.of(x), y: sums, size: numbers.size });
  if (chunks > 0) backend.pool.run(Job.squares, chunks, parameters);
  const output = backend.output([], 'float32');
  const total = new Float64Array(backend.heap.f32.buffer, sums, chunks).reduce((a, b) => a + b, 0);
  backend.heap.f32[output.address / 4] = total;
  return output;
};

export const elementwiseKernels: KernelTable = {
  ...Object.fromEntries(Object.entries(UNARY_SCALAR).map(([name, scalar]) => [name, unary(name, scalar)])),
  AddN: addAll,
  ...Object.fromEntries(
    Object.entries(BINARY_SCALAR).map(([name, [scalar, dtype]]) => [name, binary(name, scalar, dtype)]),
  ),
  Prelu: (backend, inputs) =>
    zip(backend, 'Prelu', (x, slope) => (x < 0 ? slope * x : x), input(inputs, 'x'), input(inputs, 'alpha'), 'float32'),
  EluGrad: (backend, inputs) =>
    zip(
      backend,
      'EluGrad',
      (dy, y) => (y >= 0 ? dy : dy * (y + 1)),
      input(inputs, 'dy'),
      input(inputs, 'y'),
      'float32',
    ),
  GitAdamW: adamW,
  GitSquaredNorm: squaredNorm,
};
