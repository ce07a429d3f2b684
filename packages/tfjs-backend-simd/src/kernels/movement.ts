import {
  type ReverseAttrs,
  type SliceAttrs,
  type StridedSliceAttrs,
  slice_util,
  type TensorInfo,
  type TileAttrs,
  type TransposeAttrs,
  util,
} from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { bytesOf } from '../stored.js';
import { copyStrided, movingStrings } from './copy.js';
import { input, type KernelTable, sizeOf, stridesOf } from './table.js';

/** A new tensor of shape `dims`, read from x at `offset` with `strides` (elements). */
function gathered(
  backend: SimdBackend,
  x: TensorInfo,
  dims: readonly number[],
  strides: readonly number[],
  offset = 0,
  shape = dims,
) {
  const output = backend.output(shape, x.dtype);
  const elementBytes = bytesOf(x.dtype);
  const from = backend.addressOf(x) + offset * elementBytes;
  copyStrided(backend, {
    ...{ from, to: output.address, elementBytes, dims },
    ...{ fromStrides: strides, toStrides: stridesOf(dims) },
  });
  return output;
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

/** Part of x from `begin` on. */
export function slice(
  backend: SimdBackend,
  x: TensorInfo,
  begin: readonly number[],
  size: readonly number[],
): TensorInfo {
  const strides = stridesOf(x.shape);
  return gathered(backend, x, size, strides, sizeOf(size) === 0 ? 0 : dot(begin, strides));
}

/** x with its dimensions in another order. */
export function transpose(backend: SimdBackend, x: TensorInfo, order: readonly number[]): TensorInfo {
  const strides = stridesOf(x.shape);
  return gathered(
    backend,
    x,
    order.map((d) => x.shape[d]!),
    order.map((d) => strides[d]!),
  );
}

function stridedSlice(backend: SimdBackend, x: TensorInfo, attributes: StridedSliceAttrs): TensorInfo {
  const { beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } = attributes;
  const info = slice_util.sliceInfo(
    x.shape,
    ...([attributes.begin, attributes.end, attributes.strides] as const),
    ...([beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask] as const),
  );
  if (info.isIdentity) return backend.alias(x, info.finalShape);
  const strides = stridesOf(x.shape);
  const dims = slice_util.computeOutShape(info.begin, info.end, info.strides); // of x's rank, unlike the shapes in `info`
  const empty = sizeOf(dims) === 0;
  return gathered(
    ...([backend, x, dims, strides.map((stride, d) => stride * info.strides[d]!)] as const),
    ...([empty ? 0 : dot(info.begin, strides), info.finalShape] as const),
  );
}

/** Each axis `reps` times: a pair of dimensions, of which the outer one stands still in x. */
function tile(backend: SimdBackend, x: TensorInfo, { reps }: TileAttrs): TensorInfo {
  const strides = stridesOf(x.shape);
  const dims = x.shape.flatMap((n, d) => [reps[d]!, n]);
  const fromStrides = strides.flatMap((stride) => [0, stride]);
  return gathered(
    ...([backend, x, dims, fromStrides, 0] as const),
    x.shape.map((n, d) => n * reps[d]!),
  );
}

function reverse(backend: SimdBackend, x: TensorInfo, { dims }: ReverseAttrs): TensorInfo {
  const turned = util.parseAxisParam(dims, x.shape);
  const strides = stridesOf(x.shape);
  if (sizeOf(x.shape) === 0) return backend.alias(x, x.shape);
  const offset = turned.reduce((sum, d) => sum + (x.shape[d]! - 1) * strides[d]!, 0);
  const signed = strides.map((stride, d) => (turned.includes(d) ? -stride : stride));
  return gathered(backend, x, x.shape, signed, offset);
}

/** Kernels that read x with other strides; strings included. */
export const movementKernels: KernelTable = {
  Transpose: movingStrings((backend, inputs, attributes) =>
    transpose(backend, input(inputs, 'x'), (attributes as unknown as TransposeAttrs).perm),
  ),

  Slice: movingStrings((backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const { begin, size } = attributes as unknown as SliceAttrs;
    const [start, extent] = slice_util.parseSliceParams(x as never, begin, size);
    slice_util.assertParamsValid(x as never, start!, extent!);
    return slice(backend, x, start!, extent!);
  }),

  StridedSlice: movingStrings((backend, inputs, attributes) =>
    stridedSlice(backend, input(inputs, 'x'), attributes as unknown as StridedSliceAttrs),
  ),

  Tile: movingStrings((backend, inputs, attributes) =>
    tile(backend, input(inputs, 'x'), attributes as unknown as TileAttrs),
  ),

  Reverse: movingStrings((backend, inputs, attributes) =>
    reverse(backend, input(inputs, 'x'), attributes as unknown as ReverseAttrs),
  ),

  FlipLeftRight: (backend, inputs) => reverse(backend, input(inputs, 'image'), { dims: [2] }),
};
