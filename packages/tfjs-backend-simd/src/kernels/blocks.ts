import {
  type BatchToSpaceNDAttrs,
  type DepthToSpaceAttrs,
  type SpaceToBatchNDAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { bytesOf } from '../stored.js';
import { copyStrided } from './copy.js';
import { slice } from './movement.js';
import { pad } from './padding.js';
import { fault, input, type Kernel, type KernelTable, sizeOf, stridesOf } from './table.js';

/** x read as shape `parts`, its dimensions in another order, as a tensor of shape `shape`. */
function rearranged(
  backend: SimdBackend,
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

/** Kernels between blocks of pixels and batches or channels. */
export const blockKernels: KernelTable = {
  BatchToSpaceND: batchToSpace,
  SpaceToBatchND: spaceToBatch,
  DepthToSpace: depthToSpace,
};
