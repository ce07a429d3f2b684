import {
  backend_util,
  type GatherV2Attrs,
  type ScatterNdAttrs,
  type SparseToDenseAttrs,
  type TensorInfo,
  type TopKAttrs,
  util,
} from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import {
  fault,
  input,
  type Kernel,
  type KernelContext,
  type KernelTable,
  sizeOf,
  stridesOf,
} from '../kernel-context.js';
import { bytesOf, type Numbers } from '../tensor-memory.js';
import { movingStrings } from './movement.js';

/** @throws BackendError (`index-out-of-range`) naming the first index outside 0 … size - 1. */
function checkIndices(kernel: string, indices: Numbers, size: number): void {
  for (const index of indices) {
    if (index >= 0 && index < size) continue;
    throw fault(kernel, 'index-out-of-range', `${kernel}: the index value ${index} is not in [0, ${size - 1}]`);
  }
}

/** Slices of x along one axis, by number. */
const gather: Kernel = (backend, inputs, attributes) => {
  const [x, indices] = [input(inputs, 'x'), input(inputs, 'indices')];
  const { axis, batchDims } = attributes as unknown as GatherV2Attrs;
  const at = util.parseAxisParam(axis, x.shape)[0]!;
  checkIndices('GatherV2', backend.valuesOf(indices), x.shape[at]!);
  const info = backend_util.segment_util.collectGatherOpShapeInfo(x as never, indices as never, at, batchDims ?? 0);
  const output = backend.output(info.outputShape, x.dtype);
  if (x.shape.length === 2 && at === 0 && info.batchSize === 1) {
    backend.copyRows(x, backend.valuesOf(indices).slice(), output.address);
    return output;
  }
  const [from, to, run] = [backend.addressOf(x), output.address, info.sliceSize * bytesOf(x.dtype)];
  const numbers = backend.valuesOf(indices);
  const { u8 } = backend.heap;
  const perBatch = numbers.length / Math.max(info.batchSize, 1);
  let target = to;
  for (let batch = 0; batch < info.batchSize; batch++) {
    for (let outer = 0; outer < info.outerSize; outer++) {
      const plane = (batch * info.outerSize + outer) * info.dimSize;
      for (let i = 0; i < perBatch; i++, target += run) {
        const source = from + (plane + numbers[batch * perBatch + i]!) * run;
        u8.copyWithin(target, source, source + run);
      }
    }
  }
  return output;
};

/** Slices of x by coordinates: indices [..., depth]. */
const gatherNd: Kernel = (backend, inputs) => {
  const [params, indices] = [input(inputs, 'params'), input(inputs, 'indices')];
  const [shape, count, sliceSize, strides] = backend_util.prepareAndValidate(params as never, indices as never);
  const output = backend.output(shape, params.dtype);
  const depth = indices.shape.at(-1) ?? 0;
  const [numbers, values, target] = backend.viewsOf(indices, params, output);
  for (let i = 0; i < count; i++) {
    let flat = 0;
    for (let d = 0; d < depth; d++) flat += numbers[i * depth + d]! * strides[d]!;
    checkIndices('GatherNd', Int32Array.of(flat), values.length / Math.max(sliceSize, 1));
    target.set(values.subarray(flat * sliceSize, (flat + 1) * sliceSize), i * sliceSize);
  }
  return output;
};

/** Elements of `t` where the condition is 1, of `e` elsewhere; a rank-1 condition chooses whole slices. */
const select: Kernel = (backend, inputs) => {
  const [condition, t, e] = [input(inputs, 'condition'), input(inputs, 't'), input(inputs, 'e')];
  const output = backend.output(t.shape, backend_util.upcastType(t.dtype, e.dtype));
  const [choices, yes, no, target] = backend.viewsOf(condition, t, e, output);
  const run = target.length / Math.max(choices.length, 1);
  for (let i = 0; i < target.length; i++) target[i] = choices[Math.floor(i / run)] === 1 ? yes[i]! : no[i]!;
  return output;
};

/** Up to this many wanted, keeping a sorted short list beats sorting the row. */
const SHORT_LIST = 64;

/** Is a larger than b? NaN is larger than every number, as in PyTorch. */
const isLarger = (a: number, b: number) => a > b || (Number.isNaN(a) && !Number.isNaN(b));

/** Numbers of the k largest of n, largest first, equal ones in their order. */
function largestOf(values: Numbers, from: number, n: number, k: number): number[] {
  const value = (i: number) => values[from + i]!;
  if (k > SHORT_LIST) {
    const all = Array.from({ length: n }, (_, i) => i);
    const order = (i: number, j: number) =>
      isLarger(value(i), value(j)) ? -1 : isLarger(value(j), value(i)) ? 1 : i - j;
    return all.sort(order).slice(0, k);
  }
  const best: number[] = [];
  for (let i = 0; i < n; i++) {
    if (best.length === k && !isLarger(value(i), value(best[k - 1]!))) continue;
    let at = best.length;
    while (at > 0 && isLarger(value(i), value(best[at - 1]!))) at--;
    best.splice(at, 0, i);
    if (best.length > k) best.pop();
  }
  return best;
}

function topK(backend: KernelContext, x: TensorInfo, { k }: TopKAttrs): TensorInfo[] {
  const n = x.shape.at(-1) ?? 1;
  const shape = [...x.shape.slice(0, -1), k];
  const [outputs, places] = [backend.output(shape, x.dtype), backend.output(shape, 'int32')];
  const [values, target, indices] = backend.viewsOf(x, outputs, places);
  const rows = k === 0 ? 0 : sizeOf(shape) / k;
  for (let r = 0; r < rows; r++) {
    largestOf(values, r * n, n, k).forEach((i, rank) => {
      target[r * k + rank] = values[r * n + i]!;
      indices[r * k + rank] = i;
    });
  }
  return [outputs, places];
}

/**
 * Writes slices of `updates` to their places in `target`, or adds them.
 * @throws BackendError (`index-out-of-range`) naming the first index that is not inside.
 */
function scatter(
  backend: KernelContext,
  kernel: string,
  target: TensorInfo,
  indices: TensorInfo,
  updates: TensorInfo,
  adding: boolean,
): void {
  const { sliceRank, numUpdates, sliceSize, strides } = backend_util.calculateShapes(updates, indices, target.shape);
  const [places, values, sums] = backend.viewsOf(indices, updates, target);
  const single = updates.shape.length === 0;
  for (let i = 0; i < numUpdates; i++) {
    const path = [...places.subarray(i * sliceRank, (i + 1) * sliceRank)];
    const flat = path.reduce((sum, index, d) => sum + index * strides[d]!, 0);
    if (flat < 0 || (flat + 1) * sliceSize > sums.length) {
      throw fault(kernel, 'index-out-of-range', `[${path}] is not in [${target.shape}]`);
    }
    for (let j = 0; j < sliceSize; j++) {
      const value = values[single ? 0 : i * sliceSize + j]!;
      sums[flat * sliceSize + j] = adding ? sums[flat * sliceSize + j]! + value : value;
    }
  }
}

/** Slices at given places of a tensor of zeros; those for one place add up. */
const scatterNd: Kernel = (backend, inputs, attributes) => {
  const [indices, updates] = [input(inputs, 'indices'), input(inputs, 'updates')];
  const output = backend.output((attributes as unknown as ScatterNdAttrs).shape, updates.dtype);
  backend.valuesOf(output).fill(0);
  if (sizeOf(output.shape) > 0) scatter(backend, 'ScatterNd', output, indices, updates, true);
  return output;
};

/** A copy of a tensor with slices at given places replaced; the last one for a place stays. */
const tensorScatterUpdate: Kernel = (backend, inputs) => {
  const [tensor, indices, updates] = [input(inputs, 'tensor'), input(inputs, 'indices'), input(inputs, 'updates')];
  const output = backend.output(tensor.shape, tensor.dtype);
  const [values, target] = backend.viewsOf(tensor, output);
  target.set(values);
  if (sizeOf(output.shape) > 0) scatter(backend, 'TensorScatterUpdate', output, indices, updates, false);
  return output;
};

/** Numbers at given places of a tensor that holds `defaultValue` elsewhere. */
const sparseToDense: Kernel = (backend, inputs, attributes) => {
  const [indices, values] = [input(inputs, 'sparseIndices'), input(inputs, 'sparseValues')];
  const { outputShape } = attributes as unknown as SparseToDenseAttrs;
  const output = backend.output(outputShape, values.dtype);
  const [otherwise, target] = backend.viewsOf(input(inputs, 'defaultValue'), output);
  target.fill(otherwise[0]!);
  if (sizeOf(outputShape) > 0) scatter(backend, 'SparseToDense', output, indices, values, false);
  return output;
};

/** Slices of x along its first dimensions, summed by the segment that each belongs to; those of no segment are left out. */
const unsortedSegmentSum: Kernel = (backend, inputs, attributes) => {
  const [x, segmentIds] = [input(inputs, 'x'), input(inputs, 'segmentIds')];
  const segments = attributes['numSegments'] as number;
  const rank = segmentIds.shape.length;
  util.assert(
    util.arraysEqual(x.shape.slice(0, rank), segmentIds.shape),
    () => `UnsortedSegmentSum: segments [${segmentIds.shape}] do not fit [${x.shape}]`,
  );
  const output = backend.output([segments, ...x.shape.slice(rank)], backend_util.upcastType(x.dtype, 'int32'));
  const [values, ids, target] = backend.viewsOf(x, segmentIds, output);
  const run = sizeOf(x.shape.slice(rank));
  target.fill(0);
  ids.forEach((segment: number, i: number) => {
    if (segment < 0 || segment >= segments) return;
    for (let j = 0; j < run; j++) target[segment * run + j]! += values[i * run + j]!;
  });
  return output;
};

/** How often each number below `size` occurs, or the sum of its weights: in the whole of x, or (rank 2) row by row. */
const bincount: Kernel = (backend, inputs, attributes) => {
  const [x, weights] = [input(inputs, 'x'), input(inputs, 'weights')];
  const { size, binaryOutput = false } = attributes as { size: number; binaryOutput?: boolean };
  const rows = x.shape.length === 2 ? x.shape[0]! : 1;
  const output = backend.output(x.shape.length === 2 ? [rows, size] : [size], weights.dtype);
  const [values, shares, target] = backend.viewsOf(x, weights, output);
  target.fill(0);
  const run = values.length / Math.max(rows, 1);
  values.forEach((value: number, i: number) => {
    if (value < 0) throw fault('Bincount', 'negative-number', `x must not be negative, but has ${value}`);
    if (value >= size) return;
    const at = Math.floor(i / run) * size + value;
    target[at] = binaryOutput ? 1 : target[at]! + (shares.length > 0 ? shares[i]! : 1);
  });
  return output;
};

/** The faults of sparse tensors, in tfjs's own words and nothing else, because its programs look for them. */
const sparseFault = (kernel: string, detail: string): BackendError => {
  const error = new BackendError({ path: `simd: ${kernel}`, code: 'sparse-tensor', detail });
  error.message = detail;
  return error;
};

function requireRanks(kernel: string, ranks: readonly (readonly [string, TensorInfo, number])[]): void {
  for (const [name, { shape }, rank] of ranks) {
    if (shape.length !== rank) throw sparseFault(kernel, `${name} should have rank ${rank}, not the shape [${shape}]`);
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
    throw sparseFault(kernel, backend_util.getSparseFillEmptyRowsIndicesDenseShapeMismatch(count));
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
    if (row < 0) throw sparseFault(kernel, backend_util.getSparseFillEmptyRowsNegativeIndexErrorMessage(i, row));
    if (row >= rows)
      throw sparseFault(kernel, backend_util.getSparseFillEmptyRowsOutOfRangeIndexErrorMessage(i, row, rows));
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
      throw sparseFault(kernel, backend_util.getSparseReshapeMultipleNegativeOneOutputDimErrorMessage(unknown, d));
    }
    if (n < -1) throw sparseFault(kernel, backend_util.getSparseReshapeNegativeOutputDimErrorMessage(d, n));
  });
  const known = sizeOf(wanted.filter((n) => n !== -1));
  if (unknown >= 0 && known === 0) {
    throw sparseFault(kernel, backend_util.getSparseReshapeEmptyTensorZeroOutputDimErrorMessage());
  }
  const shape = wanted.map((n) => (n === -1 ? Math.trunc(size / known) : n));
  if (sizeOf(shape) === size) return shape;
  const one = wanted.map((n) => (n === -1 ? 1 : n));
  if (unknown >= 0)
    throw sparseFault(kernel, backend_util.getSparseReshapeInputOutputMultipleErrorMessage([...from], one));
  throw sparseFault(kernel, backend_util.getSparseReshapeInputOutputMismatchErrorMessage([...from], shape));
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
    if (data.shape.length < 1) throw sparseFault(kernel, 'data should be at least 1 dimensional but received scalar');
    requireRanks(kernel, [
      ['indices', indices, 1],
      ['segmentIds', segmentIds, 1],
    ]);
    const count = indices.shape[0]!;
    if (segmentIds.shape[0] !== count) throw sparseFault(kernel, 'segmentIds and indices should have same size');
    const rows = count > 0 ? backend.valuesOf(segmentIds)[count - 1]! + 1 : 0;
    if (rows < 0 || (count > 0 && rows === 0)) {
      throw sparseFault(kernel, backend_util.getSparseSegmentReductionNegativeSegmentIdsErrorMessage());
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
        throw sparseFault(kernel, words);
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
    throw sparseFault(kernel, backend_util.getSparseSegmentReductionNonIncreasingSegmentIdsErrorMessage());
  }
  if (id < 0 || id >= rows) {
    throw sparseFault(kernel, backend_util.getSparseSegmentReductionSegmentIdOutOfRangeErrorMessage(id, rows));
  }
}

/** Kernels on sparse tensors: indices [n, rank], values [n] and the shape they would have in full. */

export const indexingKernels: KernelTable = {
  GatherV2: movingStrings(gather),
  GatherNd: gatherNd,
  Select: select,
  TopK: (backend, inputs, attributes) => topK(backend, input(inputs, 'x'), attributes as unknown as TopKAttrs),
  ScatterNd: scatterNd,
  TensorScatterUpdate: movingStrings(tensorScatterUpdate),
  SparseToDense: movingStrings(sparseToDense),
  UnsortedSegmentSum: unsortedSegmentSum,
  Bincount: bincount,
  DenseBincount: bincount,
  SparseFillEmptyRows: fillEmptyRows,
  SparseReshape: reshape,
  SparseSegmentSum: segments('SparseSegmentSum', false),
  SparseSegmentMean: segments('SparseSegmentMean', true),
};
