import {
  backend_util,
  type GatherV2Attrs,
  type ScatterNdAttrs,
  type SparseToDenseAttrs,
  type TensorInfo,
  type TopKAttrs,
  util,
} from '@tensorflow/tfjs-core';
import type { KernelContext } from '../kernel-context.js';
import { bytesOf, type Numbers } from '../tensor-memory.js';
import { fault, input, type Kernel, type KernelTable, sizeOf } from './kernel.js';
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
};
