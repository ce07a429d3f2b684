import { backend_util, type GatherV2Attrs, type TensorInfo, type TopKAttrs, util } from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { bytesOf, type Numbers } from '../stored.js';
import { movingStrings } from './copy.js';
import { fault, input, type Kernel, type KernelTable, sizeOf } from './table.js';

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

/** Numbers of the k largest of n, largest first, equal ones in their order. */
function largestOf(values: Numbers, from: number, n: number, k: number): number[] {
  const value = (i: number) => values[from + i]!;
  if (k > SHORT_LIST) {
    const all = Array.from({ length: n }, (_, i) => i);
    return all.sort((i, j) => value(j) - value(i) || i - j).slice(0, k);
  }
  const best: number[] = [];
  for (let i = 0; i < n; i++) {
    if (best.length === k && !(value(i) > value(best[k - 1]!))) continue;
    let at = best.length;
    while (at > 0 && value(best[at - 1]!) < value(i)) at--;
    best.splice(at, 0, i);
    if (best.length > k) best.pop();
  }
  return best;
}

function topK(backend: SimdBackend, x: TensorInfo, { k }: TopKAttrs): TensorInfo[] {
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

/** Kernels that choose elements. */
export const indexingKernels: KernelTable = {
  GatherV2: movingStrings(gather),
  GatherNd: gatherNd,
  Select: select,
  TopK: (backend, inputs, attributes) => topK(backend, input(inputs, 'x'), attributes as unknown as TopKAttrs),
};
