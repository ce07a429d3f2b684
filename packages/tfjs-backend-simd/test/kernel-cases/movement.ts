import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { type Spec, specs } from '../support.js';
import {
  ALL,
  type Dtype,
  FLOAT,
  filled,
  indices,
  int32,
  type KernelCases,
  kernelCase,
  NUMBERS,
  sizeOf,
  tensors,
  withAxis,
} from './case.js';

/** As many small numbers as a tensor of rank 6 can need. */
const numbers = (max: number, min = 0) => fc.array(fc.integer({ min, max }), { minLength: 12, maxLength: 12 });

/** Tensors that are alike but for one axis, and this axis. */
const parts = withAxis(filled(ALL, { minRank: 1 })).chain(([first, axis]) =>
  fc
    .array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 })
    .chain((sizes) => {
      const shapes = sizes.map((size) => first.shape.map((n, d) => (d === axis ? size : n)));
      return fc.tuple(...shapes.map((shape) => specs(shape, first.dtype)));
    })
    .map((others) => ({ inputs: Object.fromEntries([first, ...others].entries()), attributes: { axis } })),
);

const alike = withAxis(filled(ALL, { minRank: 1, maxRank: 5 })).chain(([first, axis]) =>
  specs(first.shape, first.dtype).map((second) => ({
    inputs: Object.fromEntries([first, second].entries()),
    attributes: { axis },
  })),
);

/** Sizes whose sum is that of the axis. */
const divided = (x: Spec, axis: number, cut: number) => {
  const n = x.shape[axis]!;
  return [cut % (n + 1), n - (cut % (n + 1))];
};

/** A tensor cut into blocks: [blocks * N, h, w, …] and its crops. */
const blocks = fc
  .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 2, max: 4 }), numbers(1))
  .chain(([a, b, n, r]) =>
    filled(NUMBERS, { maxRank: 2 }).chain(({ shape, dtype }) => {
      const batched = specs([a * b * 2, n, n + 1, ...shape], dtype);
      return batched.map((x) => ({ x, blockShape: [a, b], crops: [r.slice(0, 2), r.slice(2, 4)] }));
    }),
  );

export const movementCases: KernelCases = {
  Transpose: kernelCase(
    tensors(ALL).chain((x) => {
      const all = x.shape.map((_, d) => d);
      const order = fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length });
      return order.map((perm) => ({ inputs: { x }, attributes: { perm } }));
    }),
  ),
  Slice: kernelCase(
    fc.tuple(filled(ALL, { minRank: 1 }), numbers(9)).map(([x, r]) => {
      const begin = x.shape.map((n, d) => r[d]! % n);
      return { inputs: { x }, attributes: { begin, size: x.shape.map((n, d) => r[d + 6]! % (n - begin[d]! + 1)) } };
    }),
  ),
  StridedSlice: kernelCase(
    fc
      .tuple(
        filled(ALL, { minRank: 2, maxRank: 5 }),
        numbers(5, -5),
        numbers(3, 1),
        fc.nat(3),
        fc.nat(31),
        fc.boolean(),
      )
      .map(([x, ends, steps, mask, shrink, dropping]) => {
        // Axes are dropped only where no stride is left: cpu mixes up its axes otherwise (beyond-cpu.test.ts has both).
        const shrinkAxisMask = dropping ? shrink & ((1 << x.shape.length) - 1) : 0;
        const begin = x.shape.map((n, d) => ((ends[d]! % n) + n) % n);
        const end = x.shape.map((_, d) => ends[d + 5]!);
        const strides = x.shape.map((_, d) => (dropping ? 1 : steps[d]! * (ends[d]! < 0 ? -1 : 1)));
        const masks = { beginMask: mask, endMask: mask >> 1, ellipsisMask: 0, newAxisMask: 0, shrinkAxisMask };
        return { inputs: { x }, attributes: { begin, end, strides, ...masks } };
      }),
  ),
  Concat: kernelCase(parts),
  Pack: kernelCase(alike),
  Unpack: kernelCase(
    withAxis(filled(ALL, { minRank: 1 })).map(([value, axis]) => ({ inputs: { value }, attributes: { axis } })),
  ),
  SplitV: kernelCase(
    fc.tuple(withAxis(filled(ALL, { minRank: 1 })), fc.nat(9)).map(([[x, axis], cut]) => ({
      inputs: { x },
      attributes: { numOrSizeSplits: divided(x, axis, cut), axis },
    })),
  ),
  PadV2: kernelCase(
    fc.tuple(filled(NUMBERS), numbers(3), fc.nat(3)).map(([x, r, constantValue]) => ({
      inputs: { x },
      attributes: { paddings: x.shape.map((_, d) => [r[d], r[d + 6]]), constantValue },
    })),
  ),
  MirrorPad: kernelCase(
    fc.tuple(filled(NUMBERS), numbers(3), fc.constantFrom('reflect', 'symmetric')).map(([x, r, mode]) => ({
      inputs: { x },
      attributes: { paddings: x.shape.map((n, d) => [r[d]! % n, r[d + 6]! % n]), mode },
    })),
  ),
  Tile: kernelCase(
    fc.tuple(tensors(ALL, { maxRank: 5 }), numbers(3)).map(([x, r]) => ({
      inputs: { x },
      attributes: { reps: x.shape.map((_, d) => r[d]!) },
    })),
  ),
  Reverse: kernelCase(
    fc.tuple(filled(ALL, { minRank: 1 }), numbers(1)).map(([x, r]) => ({
      inputs: { x },
      attributes: { dims: x.shape.flatMap((_, d) => (r[d] === 1 ? [d] : [])) },
    })),
  ),
  FlipLeftRight: kernelCase(filled(NUMBERS, { minRank: 4, maxRank: 4 }).map((image) => ({ inputs: { image } }))),
  Reshape: kernelCase(tensors(ALL).map((x) => ({ inputs: { x }, attributes: { shape: [1, sizeOf(x.shape)] } }))),
  ExpandDims: kernelCase(
    fc.tuple(tensors(ALL, { maxRank: 5 }), fc.nat(5), fc.boolean()).map(([input, r, fromEnd]) => {
      const at = r % (input.shape.length + 1);
      return { inputs: { input }, attributes: { dim: fromEnd ? at - input.shape.length - 1 : at } };
    }),
  ),
  BatchToSpaceND: kernelCase(
    blocks.map(({ x, blockShape, crops }) => ({ inputs: { x }, attributes: { blockShape, crops } })),
  ),
  SpaceToBatchND: kernelCase(
    blocks.map(({ x, blockShape, crops }) => {
      // What is left over of each axis is padded in front.
      const paddings = crops.map(([before], d) => {
        const n = x.shape[d + 1]! + before!;
        return [before, (blockShape[d]! - (n % blockShape[d]!)) % blockShape[d]!];
      });
      return { inputs: { x }, attributes: { blockShape, paddings } };
    }),
  ),
  DepthToSpace: kernelCase(
    fc.tuple(fc.integer({ min: 2, max: 3 }), filled(FLOAT, { minRank: 4, maxRank: 4 })).chain(([blockSize, like]) => {
      const [batch, height, width, channels] = like.shape as [number, number, number, number];
      return specs([batch, height, width, channels * blockSize ** 2]).map((x) => ({
        inputs: { x },
        attributes: { blockSize, dataFormat: 'NHWC' },
      }));
    }),
  ),
};

export const creationCases: KernelCases = {
  Fill: kernelCase(
    fc.tuple(tensors(ALL), fc.integer({ min: 0, max: 1 })).map(([{ shape, dtype }, value]) => ({
      inputs: {},
      attributes: { shape, value, dtype },
    })),
  ),
  Range: kernelCase(
    fc
      .tuple(fc.integer({ min: -20, max: 20 }), fc.integer({ min: -20, max: 20 }), fc.integer({ min: 1, max: 5 }))
      .chain(([start, stop, step]) =>
        fc.constantFrom<Dtype>(...NUMBERS).map((dtype) => ({
          inputs: {},
          attributes: { start, stop, step: stop < start ? -step : step, dtype },
        })),
      ),
  ),
  LinSpace: kernelCase(
    fc
      .tuple(fc.integer({ min: -20, max: 20 }), fc.integer({ min: -20, max: 20 }), fc.integer({ min: 2, max: 50 }))
      .map(([start, stop, num]) => ({ inputs: {}, attributes: { start, stop, num } })),
  ),
  OneHot: kernelCase(
    filled(FLOAT, { maxRank: 5 })
      .chain(({ shape }) => indices(shape, 5))
      .map((places) => ({
        inputs: { indices: places },
        attributes: { depth: 4, onValue: 2, offValue: -1, dtype: 'int32' },
      })),
  ),
  Diag: kernelCase(filled(NUMBERS, { minRank: 1, maxRank: 3, most: 3 }).map((x) => ({ inputs: { x } }))),
  BroadcastArgs: kernelCase(
    fc.tuple(numbers(9, 1), numbers(1), fc.nat(6)).map(([shape, ones, from]) => ({
      inputs: {
        s0: int32(shape.slice(0, 6)),
        s1: int32(shape.map((n, d) => (ones[d] === 1 ? 1 : n)).slice(from, 6)),
      },
    })),
  ),
  Multinomial: {
    // Which numbers are drawn is a backend's own; a row with one possible event leaves no choice.
    draw: fc
      .tuple(filled(FLOAT, { minRank: 2, maxRank: 2, most: 6 }), fc.boolean(), fc.nat(5))
      .map(([{ shape }, normalized, r]) => {
        const [rows, events] = shape as [number, number];
        const certain = (i: number) => (Math.floor(i / events) + r) % events === i % events;
        const values = Array.from({ length: rows * events }, (_, i) => (certain(i) ? 1 : normalized ? 0 : -200));
        const logits: Spec = { shape, dtype: 'float32', values };
        return { inputs: { logits }, attributes: { numSamples: 7, seed: r / 7, normalized } };
      }),
    tolerance: 0,
    reference: ({ logits }) => tf.tile(tf.expandDims(tf.argMax(logits!, 1), 1), [1, 7]),
  },
};
