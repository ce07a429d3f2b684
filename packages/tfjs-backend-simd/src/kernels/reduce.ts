import {
  backend_util,
  type DataType,
  type FusedBatchNormAttrs,
  type LRNAttrs,
  type SearchSortedAttrs,
  type TensorInfo,
  type UniqueAttrs,
  util,
} from '@tensorflow/tfjs-core';
import { Job, ReduceParam, Reduction, SoftmaxParam } from '../abi.js';
import type { KernelContext } from '../kernel-context.js';
import { type Attributes, input, type Kernel, type KernelTable, sizeOf, stridesOf } from '../kernel-context.js';
import type { Numbers } from '../tensor-memory.js';
import { parametersOf } from '../thread-pool.js';
import { indexingKernels } from './indexing.js';
import { cast, copyStrided } from './movement.js';

/** x with the given axes moved to the end, as [rows, n]. */
interface Rows {
  readonly address: number;
  readonly rows: number;
  readonly n: number;
  /** Shape of one number a row. */
  readonly shape: number[];
}

/** Where the rows of x over `axes` lie: in place, or moved together in scratch memory. */
function rowsOver(backend: KernelContext, x: TensorInfo, axes: readonly number[]): Rows {
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

function reduceFloats(
  backend: KernelContext,
  reduction: keyof typeof Reduction,
  { address, rows, n }: Rows,
  to: number,
): void {
  const perChunk = Math.ceil(CHUNK / n);
  const parameters = parametersOf(ReduceParam, {
    reduction: Reduction[reduction],
    x: address,
    y: to,
    rows,
    columns: n,
    chunkRows: perChunk,
  });
  backend.pool.run(Job.reduce, Math.ceil(rows / perChunk), parameters);
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

function foldRows(
  backend: KernelContext,
  fold: Fold,
  { address, rows, n }: Rows,
  dtype: DataType,
  to: TensorInfo,
): void {
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
    const fast = x.dtype === 'float32' && name in Reduction && rows.n > 0;
    if (fast) reduceFloats(backend, name as keyof typeof Reduction, rows, output.address);
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
    const parameters = parametersOf(SoftmaxParam, {
      x: backend.addressOf(x),
      y: output.address,
      rows,
      columns: n,
      chunkRows: perChunk,
    });
    backend.pool.run(Job.softmax, Math.ceil(rows / perChunk), parameters);
  }
  backend.release(x);
  return output;
};

/** Where each value would stand in its sorted row: before equal ones (`left`) or behind them. */
const searchSorted: Kernel = (backend, inputs, attributes) => {
  const [sorted, values] = [input(inputs, 'sortedSequence'), input(inputs, 'values')];
  const { side } = attributes as unknown as SearchSortedAttrs;
  const output = backend.output(values.shape, 'int32');
  const [rows, wanted, target] = backend.viewsOf(sorted, values, output);
  const [length, perRow] = [sorted.shape[1]!, values.shape[1]!];
  for (let i = 0; i < target.length; i++) {
    const first = Math.floor(i / perRow) * length;
    let [low, high] = [0, length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const there = rows[first + middle]!;
      if (there < wanted[i]! || (side === 'right' && there === wanted[i]!)) low = middle + 1;
      else high = middle;
    }
    target[i] = low;
  }
  return output;
};

/** The slices of x along an axis that differ, in the order in which they come, and for each slice its number among them. */
const unique: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const axis = util.parseAxisParam((attributes as unknown as UniqueAttrs).axis, x.shape)[0]!;
  const [outer, n, run] = [sizeOf(x.shape.slice(0, axis)), x.shape[axis] ?? 1, sizeOf(x.shape.slice(axis + 1))];
  const strings = backend.stringsOf(x);
  const values = strings === undefined ? backend.valuesOf(x) : undefined;
  const element = (at: number) => (strings === undefined ? values![at]! : strings[at]!.join(' '));
  const [firsts, known] = [[] as number[], new Map<string, number>()];
  const numbers = Array.from({ length: n }, (_, i) => {
    const key: (number | string)[] = [];
    for (let o = 0; o < outer; o++) for (let r = 0; r < run; r++) key.push(element((o * n + i) * run + r));
    const text = key.join();
    if (!known.has(text)) known.set(text, firsts.push(i) - 1);
    return known.get(text)!;
  });
  const indices = backend.output([n], 'int32');
  backend.valuesOf(indices).set(numbers);
  const kept = backend.output([firsts.length], 'int32');
  backend.valuesOf(kept).set(firsts);
  const slices = indexingKernels['GatherV2']!(backend, { x, indices: kept }, { axis, batchDims: 0 }) as TensorInfo;
  backend.release(kept);
  return [slices, indices];
};

export const reduceKernels: KernelTable = {
  ...Object.fromEntries(Object.keys(FOLDS).map((name) => [name, reduction(name)])),
  Mean: mean,
  ArgMax: argument((candidate, best) => candidate > best),
  ArgMin: argument((candidate, best) => candidate < best),
  Cumsum: cumulative(0, (a, b) => a + b),
  Cumprod: cumulative(1, (a, b) => a * b),
  Softmax: softmax,
  SearchSorted: searchSorted,
  Unique: unique,
};

/** The number for element `i` of x: there is one a channel, or one for each element. */
const numberAt = (values: Numbers, i: number) => values[i % values.length]!;

/** (x - mean) / sqrt(variance + epsilon) * scale + offset. */
const batchNorm: Kernel = (backend, inputs, attributes) => {
  const [x, mean, variance] = [input(inputs, 'x'), input(inputs, 'mean'), input(inputs, 'variance')];
  const { varianceEpsilon } = attributes as unknown as FusedBatchNormAttrs;
  const epsilon = varianceEpsilon ?? 0.001;
  const output = backend.output(x.shape, x.dtype);
  const { scale, offset } = inputs;
  const given = [scale ?? mean, offset ?? mean] as const; // stand-ins, not read
  const [values, means, variances, scales, offsets, target] = backend.viewsOf(x, mean, variance, ...given, output);
  for (let i = 0; i < target.length; i++) {
    const factor = (scale === undefined ? 1 : numberAt(scales, i)) / Math.sqrt(numberAt(variances, i) + epsilon);
    target[i] = (values[i]! - numberAt(means, i)) * factor + (offset === undefined ? 0 : numberAt(offsets, i));
  }
  return output;
};

/** Local response: bias + alpha * the squares of the channels up to `depthRadius` away. */
function responses(values: Numbers, channels: number, { depthRadius, bias, alpha }: LRNAttrs): Float64Array {
  return Float64Array.from(values, (_, i) => {
    const first = i - (i % channels);
    let sum = 0;
    const end = Math.min(first + channels - 1, i + depthRadius);
    for (let j = Math.max(first, i - depthRadius); j <= end; j++) sum += values[j]! * values[j]!;
    return bias + alpha * sum;
  });
}

/** x / response^beta. */
const localResponse: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const options = attributes as unknown as LRNAttrs;
  const output = backend.output(x.shape, 'float32');
  const [values, target] = backend.viewsOf(x, output);
  const around = responses(values, x.shape.at(-1)!, options);
  for (let i = 0; i < target.length; i++) target[i] = values[i]! * around[i]! ** -options.beta;
  return output;
};

/** A channel has a share in its own result, and, through the response, in those of its neighbors. */
const localResponseGradient: Kernel = (backend, inputs, attributes) => {
  const [x, y, dy] = [input(inputs, 'x'), input(inputs, 'y'), input(inputs, 'dy')];
  const options = attributes as unknown as LRNAttrs;
  const { depthRadius, alpha, beta } = options;
  const channels = x.shape.at(-1)!;
  const output = backend.output(dy.shape, 'float32');
  const [values, results, slopes, target] = backend.viewsOf(x, y, dy, output);
  const around = responses(values, channels, options);
  const sums = new Float64Array(target.length);
  for (let i = 0; i < sums.length; i++) {
    const first = i - (i % channels);
    const shared = (-2 * alpha * beta * results[i]! * slopes[i]!) / around[i]!;
    const end = Math.min(first + channels - 1, i + depthRadius);
    for (let j = Math.max(first, i - depthRadius); j <= end; j++) sums[j]! += shared * values[j]!;
    sums[i]! += slopes[i]! * around[i]! ** -beta;
  }
  target.set(sums);
  return output;
};

export const normalizationKernels: KernelTable = {
  FusedBatchNorm: batchNorm,
  LRN: localResponse,
  LRNGrad: localResponseGradient,
};
