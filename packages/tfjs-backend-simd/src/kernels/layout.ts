import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { transpose } from './movement.js';

/** Where the channels of images are: in the last dimension, or (`NCHW`) behind the batch. */
export const isChannelsFirst = (dataFormat: string | undefined): boolean => dataFormat?.startsWith('NC') === true;

/** Images with their channels last, as all kernels here want them: a tensor of its own, to be released. */
export function toChannelsLast(backend: SimdBackend, x: TensorInfo, channelsFirst: boolean): TensorInfo {
  if (!channelsFirst) return backend.alias(x, x.shape);
  return transpose(backend, x, [0, ...x.shape.slice(2).map((_, d) => d + 2), 1]);
}

/** The way back; takes `x` over. */
export function fromChannelsLast(backend: SimdBackend, x: TensorInfo, channelsFirst: boolean): TensorInfo {
  if (!channelsFirst) return x;
  const y = transpose(backend, x, [0, x.shape.length - 1, ...x.shape.slice(2).map((_, d) => d + 1)]);
  backend.release(x);
  return y;
}

/** One number a channel, so that it broadcasts where these are first: [C] as [C, 1, 1]. The same data, for this kernel only. */
export function alongChannels(vector: TensorInfo, channelsFirst: boolean): TensorInfo {
  const turned = channelsFirst && vector.shape.length === 1 && vector.shape[0] !== 1;
  return turned ? { ...vector, shape: [vector.shape[0]!, 1, 1] } : vector;
}
