import {
  type BatchToSpaceNDAttrs,
  type DepthToSpaceAttrs,
  type MirrorPadAttrs,
  type PadV2Attrs,
  type SpaceToBatchNDAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import type { KernelContext } from '../kernel-context.js';
import { bytesOf } from '../tensor-memory.js';
import { fault, input, type Kernel, type KernelTable, sizeOf, stridesOf } from './kernel.js';
import { copyStrided, slice } from './movement.js';

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

export const blockKernels: KernelTable = {
  PadV2: (backend, inputs, attributes) => pad(backend, input(inputs, 'x'), attributes as unknown as PadV2Attrs),

  MirrorPad: (backend, inputs, attributes) =>
    mirrorPad(backend, input(inputs, 'x'), attributes as unknown as MirrorPadAttrs),
  BatchToSpaceND: batchToSpace,
  SpaceToBatchND: spaceToBatch,
  DepthToSpace: depthToSpace,
};
