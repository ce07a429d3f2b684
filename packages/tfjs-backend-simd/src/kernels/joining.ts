import {
  backend_util,
  type ConcatAttrs,
  type PackAttrs,
  type SplitVAttrs,
  type TensorInfo,
  type UnpackAttrs,
  util,
} from '@tensorflow/tfjs-core';
import type { KernelContext } from '../kernel-context.js';
import { bytesOf } from '../tensor-memory.js';
import { type Inputs, input, type KernelTable, listOf, stridesOf } from './kernel.js';
import { cast, copyStrided, movingStrings, slice } from './movement.js';

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
};
