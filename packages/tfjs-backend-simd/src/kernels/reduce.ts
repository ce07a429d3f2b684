import { backend_util, type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { JOB } from '../memory-map.js';
import type { SimdBackend } from '../simd-backend.js';
import type { Numbers } from '../stored.js';
import { copyStrided } from './copy.js';
import { cast } from './shape.js';
import { type Attributes, input, type Kernel, type KernelTable, sizeOf, stridesOf } from './table.js';

/** x with the given axes moved to the end, as [rows, n]. */
interface Rows {
  readonly address: number;
  readonly rows: number;
  readonly n: number;
  /** Shape of one number a row. */
  readonly shape: number[];
}

/** Where the rows of x over `axes` lie: in place, or moved together in scratch memory. */
function rowsOver(backend: SimdBackend, x: TensorInfo, axes: readonly number[]): Rows {
  const [shape, reduced] = backend_util.computeOutAndReduceShapes(x.shape, [...axes]);
  const [rows, n] = [sizeOf(shape), sizeOf(reduced)];
  const order = backend_util.getAxesPermutation([...axes], x.shape.length);
  const from = backend.addressOf(x);
  if (order === null) return { address: from, rows, n, shape };
  const elementBytes = x.dtype === 'bool' ? 1 : 4;
  const to = backend.scratch(rows * n * elementBytes);
  const dims = order.map((d) => x.shape[d]!);
  const strides = stridesOf(x.shape);
  const fromStrides = order.map((d) => strides[d]!);
  copyStrided(backend, { from, to, elementBytes, dims, fromStrides, toStrides: stridesOf(dims) });
  return { address: to, rows, n, shape };
}

/** The axes of a reduction, and the shape of its result. */
function axesOf(x: TensorInfo, { axis, reductionIndices, keepDims }: Attributes) {
  const axes = util.parseAxisParam((reductionIndices ?? axis) as number | number[], x.shape); // Max calls them so
  const keep = (shape: number[]) => (keepDims === true ? backend_util.expandShapeToKeepDim(shape, axes) : shape);
  return { axes, keep };
}

/** Elements that a thread takes at once. */
const CHUNK = 16384;
const KINDS = { Sum: 0, Mean: 1, Max: 2, Min: 3 } as const;

function reduceFloats(backend: SimdBackend, kind: keyof typeof KINDS, { address, rows, n }: Rows, to: number): void {
  const perChunk = Math.ceil(CHUNK / n);
  backend.pool.run(JOB.reduce, Math.ceil(rows / perChunk), [KINDS[kind], address, to, rows, n, perChunk]);
}

type Fold = (values: Numbers, from: number, to: number) => number;

/** A fold that starts with the first number, or NaN where there is none. */
const fromFirst =
  (step: (a: number, b: number) => number): Fold =>
  (values, from, to) => {
    let result = from < to ? values[from]! : Number.NaN;
    for (let i = from + 1; i < to; i++) result = step(result, values[i]!);
    return result;
  };

const fromValue =
  (start: number, step: (a: number, b: number) => number): Fold =>
  (values, from, to) => {
    let result = start;
    for (let i = from; i < to; i++) result = step(result, values[i]!);
    return result;
  };

/** Each reduction in JavaScript, for the types and shapes that have no kernel of their own. */
const FOLDS: Readonly<Record<string, Fold>> = {
  Sum: fromValue(0, (a, b) => a + b),
  Prod: fromValue(1, (a, b) => a * b),
  Max: fromFirst(Math.max),
  Min: fromFirst(Math.min),
  All: fromFirst((a, b) => a && b),
  Any: fromFirst((a, b) => a || b),
};

function foldRows(backend: SimdBackend, fold: Fold, { address, rows, n }: Rows, dtype: DataType, to: TensorInfo): void {
  const values = backend.view(address, rows * n, dtype);
  const target = backend.valuesOf(to);
  for (let r = 0; r < rows; r++) target[r] = fold(values, r * n, (r + 1) * n);
}

function reduction(name: keyof typeof FOLDS): Kernel {
  return (backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const { axes, keep } = axesOf(x, attributes);
    const rows = rowsOver(backend, x, axes);
    const summing = name === 'Sum' || name === 'Prod';
    const output = backend.output(keep(rows.shape), summing ? backend_util.upcastType(x.dtype, 'int32') : x.dtype);
    const fast = x.dtype === 'float32' && name in KINDS && rows.n > 0;
    if (fast) reduceFloats(backend, name as keyof typeof KINDS, rows, output.address);
    else foldRows(backend, FOLDS[name]!, rows, x.dtype, output);
    return output;
  };
}

/** The mean is float32 whatever x is; over nothing it is 0, as on tfjs's cpu backend. */
const mean: Kernel = (backend, inputs, attributes) => {
  const x = cast(backend, input(inputs, 'x'), 'float32');
  const { axes, keep } = axesOf(x, attributes);
  const rows = rowsOver(backend, x, axes);
  const output = backend.output(keep(rows.shape), 'float32');
  if (rows.n > 0) reduceFloats(backend, 'Mean', rows, output.address);
  else backend.valuesOf(output).fill(0);
  backend.release(x);
  return output;
};

/** Index of the first number that `better` prefers to all others. */
const argument =
  (better: (candidate: number, best: number) => boolean): Kernel =>
  (backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const axes = util.parseAxisParam(attributes['axis'] as number | number[], x.shape).slice(0, 1);
    const { address, rows, n, shape } = rowsOver(backend, x, axes);
    const output = backend.output(shape, 'int32');
    const values = backend.view(address, rows * n, x.dtype);
    const target = backend.valuesOf(output);
    for (let r = 0; r < rows; r++) {
      let best = 0;
      for (let i = 1; i < n; i++) if (better(values[r * n + i]!, values[r * n + best]!)) best = i;
      target[r] = best;
    }
    return output;
  };

/** Running sums or products along one axis. */
const cumulative =
  (start: number, step: (a: number, b: number) => number): Kernel =>
  (backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const { axis, exclusive, reverse } = attributes as { axis: number; exclusive: boolean; reverse: boolean };
    const at = axis < 0 ? axis + x.shape.length : axis;
    const output = backend.output(x.shape, backend_util.upcastType(x.dtype, 'int32'));
    const [values, target] = backend.viewsOf(x, output);
    const [n, stride] = [x.shape[at] ?? 1, stridesOf(x.shape)[at] ?? 1];
    for (let line = 0; line < values.length / Math.max(n, 1); line++) {
      const first = Math.floor(line / stride) * stride * n + (line % stride);
      let running = start;
      for (let j = 0; j < n; j++) {
        const i = first + (reverse ? n - 1 - j : j) * stride;
        const next = step(running, values[i]!);
        target[i] = exclusive ? running : next;
        running = exclusive ? step(target[i]!, values[i]!) : target[i]!;
      }
    }
    return output;
  };

/** exp(x - max) / sum over the last axis. */
const softmax: Kernel = (backend, inputs, attributes) => {
  const x = cast(backend, input(inputs, 'logits'), 'float32'); // `multinomial` lets integers through
  const rank = x.shape.length;
  const dim = attributes['dim'] as number;
  util.assert(dim === -1 || dim === rank - 1, () => `Softmax: only the last dimension, not ${dim} of ${rank}`);
  const output = backend.output(x.shape, 'float32');
  const n = x.shape[rank - 1] ?? 1;
  const rows = sizeOf(x.shape) / Math.max(n, 1);
  if (rows * n > 0) {
    const perChunk = Math.ceil(4096 / n);
    const parameters = [backend.addressOf(x), output.address, rows, n, perChunk];
    backend.pool.run(JOB.softmax, Math.ceil(rows / perChunk), parameters);
  }
  backend.release(x);
  return output;
};

export const reduceKernels: KernelTable = {
  ...Object.fromEntries(Object.keys(FOLDS).map((name) => [name, reduction(name)])),
  Mean: mean,
  ArgMax: argument((candidate, best) => candidate > best),
  ArgMin: argument((candidate, best) => candidate < best),
  Cumsum: cumulative(0, (a, b) => a + b),
  Cumprod: cumulative(1, (a, b) => a * b),
  Softmax: softmax,
};
