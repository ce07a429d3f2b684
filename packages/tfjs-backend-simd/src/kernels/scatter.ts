import {
  backend_util,
  type ScatterNdAttrs,
  type SparseToDenseAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { movingStrings } from './copy.js';
import { fault, input, type Kernel, type KernelTable, sizeOf } from './table.js';

/**
 * Writes slices of `updates` to their places in `target`, or adds them.
 * @throws BackendError (`index-out-of-range`) naming the first index that is not inside.
 */
function scatter(
  backend: SimdBackend,
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
      throw fault(kernel, 'index-out-of-range', `[${path}] does not lie in [${target.shape}]`);
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

/** Kernels that send elements to given places. */
export const scatterKernels: KernelTable = {
  ScatterNd: scatterNd,
  TensorScatterUpdate: movingStrings(tensorScatterUpdate),
  SparseToDense: movingStrings(sparseToDense),
  UnsortedSegmentSum: unsortedSegmentSum,
  Bincount: bincount,
  DenseBincount: bincount,
};
