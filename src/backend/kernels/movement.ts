import {
  backend_util,
  type ConcatAttrs,
  type MirrorPadAttrs,
  type PackAttrs,
  type PadV2Attrs,
  type ReverseAttrs,
  type SliceAttrs,
  type SplitVAttrs,
  type StridedSliceAttrs,
  slice_util,
  type TensorInfo,
  type TileAttrs,
  type TransposeAttrs,
  type UnpackAttrs,
  util,
} from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { bytesOf } from '../stored.js';
import { copyStrided, movingStrings } from './copy.js';
import { input, type KernelTable, listOf, sizeOf, stridesOf } from './table.js';

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

/** `parts`, alike but for `axis`, behind each other along it. */
function concat(backend: SimdBackend, parts: readonly TensorInfo[], axis: number): TensorInfo {
  const shape = backend_util.computeOutShape(
    parts.map((part) => part.shape),
    axis,
  );
  const output = backend.output(shape, parts[0]!.dtype);
  const elementBytes = bytesOf(output.dtype);
  const toStrides = stridesOf(shape);
  let done = 0;
  for (const part of parts) {
    const to = output.address + done * (toStrides[axis] ?? 1) * elementBytes;
    const from = backend.addressOf(part);
    copyStrided(backend, {
      ...{ from, to, elementBytes, dims: part.shape },
      ...{ fromStrides: stridesOf(part.shape), toStrides },
    });
    done += part.shape[axis]!;
  }
  return output;
}

function split(backend: SimdBackend, x: TensorInfo, sizes: readonly number[], axis: number): TensorInfo[] {
  const begin = new Array<number>(x.shape.length).fill(0);
  return sizes.map((length) => {
    const size = x.shape.map((n, d) => (d === axis ? length : n));
    const part = slice(backend, x, begin, size);
    begin[axis]! += length;
    return part;
  });
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

/** x in the middle of `output`, whose other elements are already there. */
function placeInside(backend: SimdBackend, x: TensorInfo, output: TensorInfo, before: readonly number[]): void {
  const elementBytes = bytesOf(x.dtype);
  const toStrides = stridesOf(output.shape);
  const to = backend.addressOf(output) + dot(before, toStrides) * elementBytes;
  const from = backend.addressOf(x);
  copyStrided(backend, { from, to, elementBytes, dims: x.shape, fromStrides: stridesOf(x.shape), toStrides });
}

export function pad(backend: SimdBackend, x: TensorInfo, { paddings, constantValue }: PadV2Attrs): TensorInfo {
  const shape = x.shape.map((n, d) => n + paddings[d]![0] + paddings[d]![1]);
  const output = backend.output(shape, x.dtype);
  backend.valuesOf(output).fill(constantValue);
  placeInside(
    backend,
    x,
    output,
    paddings.map(([before]) => before),
  );
  return output;
}

/** Index in 0 … n - 1 that stands at `i` when the row is mirrored at its ends, with (`symmetric`) or without its last element. */
function mirrored(i: number, n: number, symmetric: boolean): number {
  const skip = symmetric ? 0 : 1;
  if (i < 0) return -i - 1 + skip;
  return i < n ? i : 2 * n - 1 - i - skip;
}

function mirrorPad(backend: SimdBackend, x: TensorInfo, { paddings, mode }: MirrorPadAttrs): TensorInfo {
  const shape = x.shape.map((n, d) => n + paddings[d]![0] + paddings[d]![1]);
  const output = backend.output(shape, x.dtype);
  const [values, target] = backend.viewsOf(x, output);
  const [from, to] = [stridesOf(x.shape), stridesOf(shape)];
  for (let i = 0; i < target.length; i++) {
    let [rest, at] = [i, 0];
    shape.forEach((_, d) => {
      const place = Math.floor(rest / to[d]!);
      rest -= place * to[d]!;
      at += mirrored(place - paddings[d]![0], x.shape[d]!, mode === 'symmetric') * from[d]!;
    });
    target[i] = values[at]!;
  }
  return output;
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

const axisOf = (axis: number, shape: readonly number[]) => util.parseAxisParam(axis, [...shape])[0]!;

/** Kernels that move elements without changing them; strings included. */
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

  Concat: movingStrings((backend, inputs, attributes) => {
    const parts = listOf(inputs);
    const axis = axisOf((attributes as unknown as ConcatAttrs).axis, parts[0]!.shape);
    backend_util.assertParamsConsistent(
      parts.map((part) => part.shape),
      axis,
    );
    return concat(backend, parts, axis);
  }),

  Pack: movingStrings((backend, inputs, attributes) => {
    const { axis } = attributes as unknown as PackAttrs;
    const [first, ...others] = listOf(inputs);
    util.assert(
      others.every(({ shape, dtype }) => dtype === first!.dtype && util.arraysEqual(shape, first!.shape)),
      () => `Pack: all tensors must have the shape [${first!.shape}] and the type ${first!.dtype} of the first`,
    );
    const parts = listOf(inputs).map(({ dataId, dtype, shape }) => {
      const at = axis < 0 ? axis + shape.length + 1 : axis;
      return { dataId, dtype, shape: [...shape.slice(0, at), 1, ...shape.slice(at)] };
    });
    return concat(backend, parts, axis < 0 ? axis + parts[0]!.shape.length : axis);
  }),

  Unpack: movingStrings((backend, inputs, attributes) => {
    const x = input(inputs, 'value');
    const axis = axisOf((attributes as unknown as UnpackAttrs).axis, x.shape);
    const parts = split(backend, x, new Array<number>(x.shape[axis]!).fill(1), axis);
    return parts.map((part) => ({ ...part, shape: part.shape.filter((_, d) => d !== axis) }));
  }),

  SplitV: movingStrings((backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const { numOrSizeSplits, axis } = attributes as unknown as SplitVAttrs;
    const at = axisOf(axis, x.shape);
    return split(backend, x, backend_util.prepareSplitSize(x as never, numOrSizeSplits, at), at);
  }),

  PadV2: (backend, inputs, attributes) => pad(backend, input(inputs, 'x'), attributes as unknown as PadV2Attrs),
  MirrorPad: (backend, inputs, attributes) =>
    mirrorPad(backend, input(inputs, 'x'), attributes as unknown as MirrorPadAttrs),
  Tile: movingStrings((backend, inputs, attributes) =>
    tile(backend, input(inputs, 'x'), attributes as unknown as TileAttrs),
  ),
  Reverse: movingStrings((backend, inputs, attributes) =>
    reverse(backend, input(inputs, 'x'), attributes as unknown as ReverseAttrs),
  ),
  FlipLeftRight: (backend, inputs) => reverse(backend, input(inputs, 'image'), { dims: [2] }),
};
