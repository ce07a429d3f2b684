import { backend_util, type TensorInfo } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import type { Numbers } from '../tensor-memory.js';
import { input, type Kernel, type KernelTable, sizeOf, stridesOf } from './kernel.js';

/** The faults of sparse tensors, in tfjs's own words and nothing else, because its programs look for them. */
const fault = (kernel: string, detail: string): BackendError => {
  const error = new BackendError({ path: `simd: ${kernel}`, code: 'sparse-tensor', detail });
  error.message = detail;
  return error;
};

function requireRanks(kernel: string, ranks: readonly (readonly [string, TensorInfo, number])[]): void {
  for (const [name, { shape }, rank] of ranks) {
    if (shape.length !== rank) throw fault(kernel, `${name} should have rank ${rank}, not the shape [${shape}]`);
  }
}

/** Every row of a sparse tensor gets at least one number: rows without one get the default at column 0. */
const fillEmptyRows: Kernel = (backend, inputs) => {
  const kernel = 'SparseFillEmptyRows';
  const [indices, values] = [input(inputs, 'indices'), input(inputs, 'values')];
  const [denseShape, defaultValue] = [input(inputs, 'denseShape'), input(inputs, 'defaultValue')];
  requireRanks(kernel, [
    ...([['indices', indices, 2] as const, ['values', values, 1] as const] as const),
    ...([['denseShape', denseShape, 1] as const, ['defaultValue', defaultValue, 0] as const] as const),
  ]);
  const [count = 0, rank = 0] = indices.shape;
  const rows = backend.valuesOf(denseShape)[0]!;
  if (rows === 0 && count > 0) {
    throw fault(kernel, backend_util.getSparseFillEmptyRowsIndicesDenseShapeMismatch(count));
  }
  const order = rowsInOrder(kernel, backend.valuesOf(indices), count, rank, rows);
  const places = order.flatMap((members, row) => (members.length > 0 ? members : [-1 - row]));
  const outIndices = backend.output([places.length, rank], indices.dtype);
  const outValues = backend.output([places.length], values.dtype);
  const [isEmpty, back] = [backend.output([rows], 'bool'), backend.output([count], indices.dtype)];
  const given = backend.viewsOf(indices, values, defaultValue);
  const [toIndices, toValues, toEmpty, toBack] = backend.viewsOf(outIndices, outValues, isEmpty, back);
  toIndices.fill(0);
  toEmpty.set(order.map((members) => (members.length === 0 ? 1 : 0)));
  places.forEach((from, to) => {
    if (from < 0) toIndices[to * rank] = -1 - from;
    else {
      toIndices.set(given[0].subarray(from * rank, (from + 1) * rank), to * rank);
      toBack[from] = to;
    }
    toValues[to] = from < 0 ? given[2][0]! : given[1][from]!;
  });
  return [outIndices, outValues, isEmpty, back];
};

/** Numbers of the entries of each row, in the order in which they are given. */
function rowsInOrder(kernel: string, indices: Numbers, count: number, rank: number, rows: number): number[][] {
  const order = Array.from({ length: rows }, (): number[] => []);
  for (let i = 0; i < count; i++) {
    const row = indices[i * rank]!;
    if (row < 0) throw fault(kernel, backend_util.getSparseFillEmptyRowsNegativeIndexErrorMessage(i, row));
    if (row >= rows) throw fault(kernel, backend_util.getSparseFillEmptyRowsOutOfRangeIndexErrorMessage(i, row, rows));
    order[row]!.push(i);
  }
  return order;
}

/** The shape asked for, its one -1 replaced by what is left over. */
function resolveShape(from: readonly number[], wanted: readonly number[]): number[] {
  const kernel = 'SparseReshape';
  const size = sizeOf(from);
  const unknown = wanted.indexOf(-1);
  wanted.forEach((n, d) => {
    if (n === -1 && d !== unknown) {
      throw fault(kernel, backend_util.getSparseReshapeMultipleNegativeOneOutputDimErrorMessage(unknown, d));
    }
    if (n < -1) throw fault(kernel, backend_util.getSparseReshapeNegativeOutputDimErrorMessage(d, n));
  });
  const known = sizeOf(wanted.filter((n) => n !== -1));
  if (unknown >= 0 && known === 0) {
    throw fault(kernel, backend_util.getSparseReshapeEmptyTensorZeroOutputDimErrorMessage());
  }
  const shape = wanted.map((n) => (n === -1 ? Math.trunc(size / known) : n));
  if (sizeOf(shape) === size) return shape;
  const one = wanted.map((n) => (n === -1 ? 1 : n));
  if (unknown >= 0) throw fault(kernel, backend_util.getSparseReshapeInputOutputMultipleErrorMessage([...from], one));
  throw fault(kernel, backend_util.getSparseReshapeInputOutputMismatchErrorMessage([...from], shape));
}

/** Indices of a sparse tensor under another shape. */
const reshape: Kernel = (backend, inputs) => {
  const [indices, inputShape, newShape] = [
    ...([input(inputs, 'inputIndices'), input(inputs, 'inputShape'), input(inputs, 'newShape')] as const),
  ];
  requireRanks('SparseReshape', [
    ['inputIndices', indices, 2],
    ['inputShape', inputShape, 1],
    ['newShape', newShape, 1],
  ]);
  const from = [...backend.valuesOf(inputShape)];
  const to = resolveShape(from, [...backend.valuesOf(newShape)]);
  const count = indices.shape[0]!;
  const [output, shape] = [
    backend.output([count, to.length], indices.dtype),
    backend.output([to.length], newShape.dtype),
  ];
  const [old, target, outShape] = backend.viewsOf(indices, output, shape);
  outShape.set(to);
  const [fromStrides, toStrides] = [stridesOf(from), stridesOf(to)];
  for (let i = 0; i < count; i++) {
    let flat = 0;
    for (let d = 0; d < from.length; d++) flat += old[i * from.length + d]! * fromStrides[d]!;
    for (let d = 0; d < to.length; d++) {
      target[i * to.length + d] = Math.trunc(flat / toStrides[d]!);
      flat %= toStrides[d]!;
    }
  }
  return [output, shape];
};

/** Slices of `data` by number, summed (or averaged) over segments in rising order; segments between them are 0. */
const segments =
  (kernel: string, averaging: boolean): Kernel =>
  (backend, inputs) => {
    const [data, indices, segmentIds] = [input(inputs, 'data'), input(inputs, 'indices'), input(inputs, 'segmentIds')];
    if (data.shape.length < 1) throw fault(kernel, 'data should be at least 1 dimensional but received scalar');
    requireRanks(kernel, [
      ['indices', indices, 1],
      ['segmentIds', segmentIds, 1],
    ]);
    const count = indices.shape[0]!;
    if (segmentIds.shape[0] !== count) throw fault(kernel, 'segmentIds and indices should have same size');
    const rows = count > 0 ? backend.valuesOf(segmentIds)[count - 1]! + 1 : 0;
    if (rows < 0 || (count > 0 && rows === 0)) {
      throw fault(kernel, backend_util.getSparseSegmentReductionNegativeSegmentIdsErrorMessage());
    }
    const output = backend.output([rows, ...data.shape.slice(1)], data.dtype);
    const [values, numbers, ids, target] = backend.viewsOf(data, indices, segmentIds, output);
    const run = sizeOf(data.shape.slice(1));
    const [sums, sizes] = [new Float64Array(target.length), new Int32Array(rows)];
    for (let i = 0; i < count; i++) {
      checkSegment(kernel, ids, i, rows);
      const [row, index] = [ids[i]!, numbers[i]!];
      if (index < 0 || index >= data.shape[0]!) {
        const words = backend_util.getSparseSegmentReductionIndicesOutOfRangeErrorMessage(i, index, data.shape[0]!);
        throw fault(kernel, words);
      }
      sizes[row]!++;
      for (let j = 0; j < run; j++) sums[row * run + j]! += values[index * run + j]!;
    }
    sums.forEach((sum, i) => {
      target[i] = averaging ? sum / Math.max(1, sizes[Math.floor(i / run)]!) : sum;
    });
    return output;
  };

function checkSegment(kernel: string, ids: Numbers, i: number, rows: number): void {
  const id = ids[i]!;
  if (i > 0 && id < ids[i - 1]!) {
    throw fault(kernel, backend_util.getSparseSegmentReductionNonIncreasingSegmentIdsErrorMessage());
  }
  if (id < 0 || id >= rows) {
    throw fault(kernel, backend_util.getSparseSegmentReductionSegmentIdOutOfRangeErrorMessage(id, rows));
  }
}

/** Kernels on sparse tensors: indices [n, rank], values [n] and the shape they would have in full. */
export const sparseKernels: KernelTable = {
  SparseFillEmptyRows: fillEmptyRows,
  SparseReshape: reshape,
  SparseSegmentSum: segments('SparseSegmentSum', false),
  SparseSegmentMean: segments('SparseSegmentMean', true),
};
