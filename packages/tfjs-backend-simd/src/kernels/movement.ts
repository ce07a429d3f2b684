import {
  type BatchToSpaceNDAttrs,
  backend_util,
  type CastAttrs,
  type ConcatAttrs,
  type DepthToSpaceAttrs,
  type ExpandDimsAttrs,
  type MirrorPadAttrs,
  type PackAttrs,
  type PadV2Attrs,
  type ReshapeAttrs,
  type ReverseAttrs,
  type SliceAttrs,
  type SpaceToBatchNDAttrs,
  type SplitVAttrs,
  type StridedSliceAttrs,
  slice_util,
  type TensorInfo,
  type TileAttrs,
  type TransposeAttrs,
  type UnpackAttrs,
  util,
} from '@tensorflow/tfjs-core';
import { COPY_RANK, CopyParam, Job } from '../abi.js';
import { BackendError } from '../errors.js';
import {
  fault,
  type Inputs,
  input,
  type Kernel,
  type KernelContext,
  type KernelTable,
  listOf,
  sizeOf,
  stridesOf,
} from '../kernel-context.js';
import { bytesOf } from '../tensor-memory.js';
import { parametersOf } from '../thread-pool.js';

/** Elements of any shape, moved from one stride pattern to another; addresses in bytes, strides in elements. */
export interface Copy {
  readonly from: number;
  readonly to: number;
  readonly elementBytes: number;
  readonly dims: readonly number[];
  readonly fromStrides: readonly number[];
  readonly toStrides: readonly number[];
}

interface Dimension {
  readonly size: number;
  readonly from: number;
  readonly to: number;
}

/** Drops dimensions of one element and joins neighbors that run through both sides without a gap. */
function collapse({ dims, fromStrides, toStrides }: Copy): Dimension[] {
  const result: Dimension[] = [];
  dims.forEach((size, d) => {
    if (size === 1) return;
    const [from, to] = [fromStrides[d]!, toStrides[d]!];
    const outer = result.at(-1);
    if (outer !== undefined && outer.from === from * size && outer.to === to * size) {
      result[result.length - 1] = { size: outer.size * size, from, to };
    } else result.push({ size, from, to });
  });
  return result.length > 0 ? result : [{ size: 1, from: 1, to: 1 }];
}

/** Copies tensors of any shape. */
export function copyStrided(backend: KernelContext, copy: Copy): void {
  if (sizeOf(copy.dims) > 0) run(backend, copy.from, copy.to, copy.elementBytes, collapse(copy));
}

/** One copy job, or one for each index of an outer dimension that its parameters have no room for. */
function run(backend: KernelContext, from: number, to: number, bytes: number, dims: readonly Dimension[]): void {
  if (dims.length > COPY_RANK) {
    const [outer, ...inner] = dims as [Dimension, ...Dimension[]];
    for (let i = 0; i < outer.size; i++) {
      run(backend, from + i * outer.from * bytes, to + i * outer.to * bytes, bytes, inner);
    }
    return;
  }
  const parameters = parametersOf(CopyParam, {
    source: from,
    target: to,
    elementBytes: bytes,
    rank: dims.length,
    dims: 0,
    sourceStrides: 0,
    targetStrides: 0,
  });
  dims.forEach((dim, d) => {
    parameters[CopyParam.dims + d] = dim.size;
    parameters[CopyParam.sourceStrides + d] = dim.from * bytes;
    parameters[CopyParam.targetStrides + d] = dim.to * bytes;
  });
  backend.pool.run(Job.copy, dims.length > 2 ? dims[0]!.size : 1, parameters);
}

/**
 * Lets a kernel that only moves elements work on strings too: it moves their numbers in the list of all strings, and these then
 * say which string goes where.
 */
export function movingStrings(kernel: Kernel): Kernel {
  return (backend, inputs, attributes) => {
    const all: Uint8Array[] = [];
    const indices: TensorInfo[] = [];
    const replaced = Object.entries(inputs).map(([name, tensor]): [string, TensorInfo] => {
      const strings = backend.stringsOf(tensor);
      if (strings === undefined) return [name, tensor];
      const first = all.length;
      all.push(...strings);
      const numbers = backend.output(tensor.shape, 'int32');
      backend.valuesOf(numbers).set(strings.map((_, i) => first + i));
      indices.push(numbers);
      return [name, numbers];
    });
    if (indices.length === 0) return kernel(backend, inputs, attributes);
    const moved = kernel(backend, Object.fromEntries(replaced), attributes);
    const named = [moved].flat().map((tensor) => {
      const strings = Array.from(backend.valuesOf(tensor), (i) => all[i]!);
      backend.release(tensor);
      return backend.stringOutput(tensor.shape, strings);
    });
    for (const tensor of indices) backend.release(tensor);
    return Array.isArray(moved) ? named : named[0]!;
  };
}

/** The numbers of `x` as another type; NaN becomes 0 and fractions are cut where the type is int32, as in JavaScript. */
export function cast(backend: KernelContext, x: TensorInfo, dtype: CastAttrs['dtype']): TensorInfo {
  if (dtype === x.dtype) return backend.alias(x, x.shape);
  if (x.dtype === 'string') {
    const detail = `a string tensor cannot become ${dtype}`;
    throw new BackendError({ path: 'simd: Cast', code: 'unsupported-dtype', detail, unsupported: true });
  }
  const output = backend.output(x.shape, dtype);
  const [values, target] = backend.viewsOf(x, output);
  if (dtype === 'bool') for (let i = 0; i < values.length; i++) target[i] = values[i] !== 0 ? 1 : 0;
  else target.set(values);
  return output;
}

/** A new tensor of shape `dims`, read from x at `offset` with `strides` (elements). */
function gathered(
  backend: KernelContext,
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
    from,
    to: output.address,
    elementBytes,
    dims,
    fromStrides: strides,
    toStrides: stridesOf(dims),
  });
  return output;
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

/** Part of x from `begin` on. */
function slice(backend: KernelContext, x: TensorInfo, begin: readonly number[], size: readonly number[]): TensorInfo {
  const strides = stridesOf(x.shape);
  return gathered(backend, x, size, strides, sizeOf(size) === 0 ? 0 : dot(begin, strides));
}

/** x with its dimensions in another order. */
export function transpose(backend: KernelContext, x: TensorInfo, order: readonly number[]): TensorInfo {
  const strides = stridesOf(x.shape);
  return gathered(
    backend,
    x,
    order.map((d) => x.shape[d]!),
    order.map((d) => strides[d]!),
  );
}

function stridedSlice(backend: KernelContext, x: TensorInfo, attributes: StridedSliceAttrs): TensorInfo {
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

/** Each axis `reps` times: a pair of dimensions, of which the outer one has stride 0 in x. */
function tile(backend: KernelContext, x: TensorInfo, { reps }: TileAttrs): TensorInfo {
  const strides = stridesOf(x.shape);
  const dims = x.shape.flatMap((n, d) => [reps[d]!, n]);
  const fromStrides = strides.flatMap((stride) => [0, stride]);
  return gathered(
    ...([backend, x, dims, fromStrides, 0] as const),
    x.shape.map((n, d) => n * reps[d]!),
  );
}

function reverse(backend: KernelContext, x: TensorInfo, { dims }: ReverseAttrs): TensorInfo {
  const reversed = util.parseAxisParam(dims, x.shape);
  const strides = stridesOf(x.shape);
  if (sizeOf(x.shape) === 0) return backend.alias(x, x.shape);
  const offset = reversed.reduce((sum, d) => sum + (x.shape[d]! - 1) * strides[d]!, 0);
  const signed = strides.map((stride, d) => (reversed.includes(d) ? -stride : stride));
  return gathered(backend, x, x.shape, signed, offset);
}

export const movementKernels: KernelTable = {
  Identity: (backend, inputs) => backend.alias(input(inputs, 'x'), input(inputs, 'x').shape),

  Reshape(backend, inputs, attributes) {
    const x = input(inputs, 'x');
    const size = sizeOf(x.shape);
    const shape = util.inferFromImplicitShape((attributes as unknown as ReshapeAttrs).shape, size);
    util.assert(
      sizeOf(shape) === size,
      () => `Reshape: [${x.shape}] has ${size} elements, [${shape}] has ${sizeOf(shape)}`,
    );
    return backend.alias(x, shape);
  },

  ExpandDims(backend, inputs, attributes) {
    const x = input(inputs, 'input');
    const { dim } = attributes as unknown as ExpandDimsAttrs;
    const rank = x.shape.length;
    util.assert(dim >= -rank - 1 && dim <= rank, () => `ExpandDims: axis ${dim} is not in [${-rank - 1}, ${rank}]`);
    const at = dim < 0 ? rank + dim + 1 : dim;
    return backend.alias(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
  },

  Cast: (backend, inputs, attributes) => cast(backend, input(inputs, 'x'), (attributes as unknown as CastAttrs).dtype),
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

/** `parts`, alike but for `axis`, behind each other along it. */
function concat(backend: KernelContext, parts: readonly TensorInfo[], axis: number): TensorInfo {
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

function split(backend: KernelContext, x: TensorInfo, sizes: readonly number[], axis: number): TensorInfo[] {
  const begin = new Array<number>(x.shape.length).fill(0);
  return sizes.map((length) => {
    const size = x.shape.map((n, d) => (d === axis ? length : n));
    const part = slice(backend, x, begin, size);
    begin[axis]! += length;
    return part;
  });
}

const axisOf = (axis: number, shape: readonly number[]) => util.parseAxisParam(axis, [...shape])[0]!;

const concatAlike = movingStrings((backend, inputs, attributes) => {
  const parts = listOf(inputs);
  const axis = axisOf((attributes as unknown as ConcatAttrs).axis, parts[0]!.shape);
  backend_util.assertParamsConsistent(
    parts.map((part) => part.shape),
    axis,
  );
  return concat(backend, parts, axis);
});

/** Kernels that join tensors and take them apart; strings included. */

/** x in the middle of `output`, whose other elements are already there. */
function placeInside(backend: KernelContext, x: TensorInfo, output: TensorInfo, before: readonly number[]): void {
  const elementBytes = bytesOf(x.dtype);
  const toStrides = stridesOf(output.shape);
  const to = backend.addressOf(output) + before.reduce((sum, n, d) => sum + n * toStrides[d]!, 0) * elementBytes;
  const from = backend.addressOf(x);
  copyStrided(backend, { from, to, elementBytes, dims: x.shape, fromStrides: stridesOf(x.shape), toStrides });
}

export function pad(backend: KernelContext, x: TensorInfo, { paddings, constantValue }: PadV2Attrs): TensorInfo {
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

function mirrorPad(backend: KernelContext, x: TensorInfo, { paddings, mode }: MirrorPadAttrs): TensorInfo {
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

/** x read as shape `parts`, its dimensions in another order, as a tensor of shape `shape`. */
function rearranged(
  backend: KernelContext,
  x: TensorInfo,
  parts: readonly number[],
  order: readonly number[],
  shape: readonly number[],
): TensorInfo {
  const output = backend.output(shape, x.dtype);
  const [dims, strides] = [order.map((d) => parts[d]!), stridesOf(parts)];
  copyStrided(backend, {
    ...{ from: backend.addressOf(x), to: output.address, elementBytes: bytesOf(x.dtype), dims },
    ...{ fromStrides: order.map((d) => strides[d]!), toStrides: stridesOf(dims) },
  });
  return output;
}

const range = (n: number, first = 0) => Array.from({ length: n }, (_, i) => first + i);

/** [blocks * N, h, w, …] to [N, h * b0, w * b1, …], then cropped. */
const batchToSpace: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const { blockShape, crops } = attributes as unknown as BatchToSpaceNDAttrs;
  const spatial = blockShape.length;
  const batch = x.shape[0]! / sizeOf(blockShape);
  const parts = [...blockShape, batch, ...x.shape.slice(1)];
  const pairs = range(spatial).flatMap((d) => [spatial + 1 + d, d]);
  const order = [spatial, ...pairs, ...range(x.shape.length - 1 - spatial, 2 * spatial + 1)];
  const full = [batch, ...x.shape.slice(1).map((n, d) => n * (blockShape[d] ?? 1))];
  const whole = rearranged(backend, x, parts, order, full);
  const cropOf = (d: number) => (d === 0 ? undefined : crops[d - 1]) ?? [0, 0];
  const size = full.map((n, d) => n - cropOf(d)[0]! - cropOf(d)[1]!);
  const part = slice(
    ...([backend, whole] as const),
    full.map((_, d) => cropOf(d)[0]!),
    size,
  );
  backend.release(whole);
  return part;
};

/** The way back: padded, then [N, h * b0, w * b1, …] to [blocks * N, h, w, …]. */
const spaceToBatch: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const { blockShape, paddings } = attributes as unknown as SpaceToBatchNDAttrs;
  const spatial = blockShape.length;
  const all = x.shape.map((_, d) => (d === 0 ? undefined : (paddings[d - 1] as [number, number])) ?? [0, 0]);
  const padded = pad(backend, x, { paddings: all as [number, number][], constantValue: 0 });
  const [batch = 0, ...rest] = padded.shape;
  const outer = rest.slice(0, spatial).map((n, d) => n / blockShape[d]!);
  util.assert(outer.every(Number.isInteger), () => `SpaceToBatchND: blocks of [${blockShape}] do not fill [${rest}]`);
  const parts = [batch, ...outer.flatMap((n, d) => [n, blockShape[d]!]), ...rest.slice(spatial)];
  const inBlocks = range(spatial).map((d) => 2 * d + 2);
  const order = [...inBlocks, 0, ...inBlocks.map((d) => d - 1), ...range(rest.length - spatial, 2 * spatial + 1)];
  const shape = [batch * sizeOf(blockShape), ...outer, ...rest.slice(spatial)];
  const output = rearranged(backend, padded, parts, order, shape);
  backend.release(padded);
  return output;
};

/** [N, h, w, b * b * c] to [N, h * b, w * b, c]. */
const depthToSpace: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const { blockSize: b, dataFormat } = attributes as unknown as DepthToSpaceAttrs;
  if (dataFormat !== 'NHWC') throw fault('DepthToSpace', 'unsupported-layout', `only NHWC, not ${dataFormat}`);
  const [batch = 0, height = 0, width = 0, depth = 0] = x.shape;
  const channels = depth / (b * b);
  const parts = [batch, height, width, b, b, channels];
  return rearranged(backend, x, parts, [0, 1, 3, 2, 4, 5], [batch, height * b, width * b, channels]);
};

export const joiningKernels: KernelTable = {
  Concat(backend, inputs, attributes) {
    const { dtype } = listOf(inputs)[0]!;
    if (listOf(inputs).every((part) => part.dtype === dtype)) return concatAlike(backend, inputs, attributes);
    const parts = listOf(inputs).map((part) => cast(backend, part, dtype)); // tfjs's op lets other types through
    const joined = concatAlike(backend, { ...parts } as unknown as Inputs, attributes);
    for (const part of parts) backend.release(part);
    return joined;
  },

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
  BatchToSpaceND: batchToSpace,
  SpaceToBatchND: spaceToBatch,
  DepthToSpace: depthToSpace,
};
