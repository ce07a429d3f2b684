import { backend_util, type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { BINARY, JOB } from '../memory-map.js';
import type { SimdBackend } from '../simd-backend.js';
import type { Numbers } from '../stored.js';
import { type Plan, planBroadcast } from './broadcast.js';
import { input, type Kernel, type KernelTable, listOf } from './table.js';

type Scalar = (a: number, b: number) => number;

/** A single long row as many short ones, so that threads can share it; the rest is what does not fill a row. */
const ROW = 16384;

function zipFloats(backend: SimdBackend, op: number, a: number, b: number, y: number, plan: Plan): void {
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
  const parameters = [op, a, b, y, n, plan.aRow * 4, plan.bRow * 4, aStep, bStep, rows, perChunk];
  backend.pool.run(JOB.zip, Math.ceil(rows / perChunk), parameters);
}

function zipNumbers(scalar: Scalar, a: Numbers, b: Numbers, y: Numbers, plan: Plan): void {
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
const SCALAR: Readonly<Record<string, readonly [Scalar, DataType?]>> = {
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
  return (BINARY[a] as Readonly<Record<string, number>>)[name];
}

/** Applies `name` to two tensors of any shapes that broadcast. */
export function zip(
  backend: SimdBackend,
  name: string,
  scalar: Scalar,
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
  (name: string, scalar: Scalar, dtype: DataType | undefined): Kernel =>
  (backend, inputs) => {
    const [a, b] = [input(inputs, 'a'), input(inputs, 'b')];
    if (a.dtype === 'string') return compareStrings(backend, name, a, b);
    return zip(backend, name, scalar, a, b, dtype ?? a.dtype);
  };

/** Strings can be compared, as JavaScript does; arithmetic is not for them. */
function compareStrings(backend: SimdBackend, name: string, a: TensorInfo, b: TensorInfo): TensorInfo {
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
  zipNumbers(SCALAR[name]![0], first, second, backend.valuesOf(output), planBroadcast(a.shape, b.shape, shape));
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

export const binaryKernels: KernelTable = {
  AddN: addAll,
  ...Object.fromEntries(Object.entries(SCALAR).map(([name, [scalar, dtype]]) => [name, binary(name, scalar, dtype)])),
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
};
