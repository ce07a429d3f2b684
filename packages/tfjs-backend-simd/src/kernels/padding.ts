import type { MirrorPadAttrs, PadV2Attrs, TensorInfo } from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { bytesOf } from '../stored.js';
import { copyStrided } from './copy.js';
import { input, type KernelTable, stridesOf } from './table.js';

/** x in the middle of `output`, whose other elements are already there. */
function placeInside(backend: SimdBackend, x: TensorInfo, output: TensorInfo, before: readonly number[]): void {
  const elementBytes = bytesOf(x.dtype);
  const toStrides = stridesOf(output.shape);
  const to = backend.addressOf(output) + before.reduce((sum, n, d) => sum + n * toStrides[d]!, 0) * elementBytes;
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

/** Kernels that put something around a tensor. */
export const paddingKernels: KernelTable = {
  PadV2: (backend, inputs, attributes) => pad(backend, input(inputs, 'x'), attributes as unknown as PadV2Attrs),

  MirrorPad: (backend, inputs, attributes) =>
    mirrorPad(backend, input(inputs, 'x'), attributes as unknown as MirrorPadAttrs),
};
