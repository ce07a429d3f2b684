import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { specs } from '../support.js';
import type { KernelCases } from './case.js';

const few = fc.integer({ min: 1, max: 9 });
const sizes = (count: number) =>
  fc.tuple(...Array.from({ length: count }, () => fc.oneof(few, fc.integer({ max: 70, min: 1 }))));

/** How many rows each of a few samples has. */
const groups = fc
  .array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 4 })
  .filter((all) => all.some((n) => n > 0));
const total = (all: readonly number[]) => all.reduce((a, b) => a + b, 0);
const rowsOf = (x: tf.Tensor) => tf.reshape(x, [-1, x.shape.at(-1)!]);
const plus = (sum: tf.Tensor | undefined, more: tf.Tensor) => (sum === undefined ? more : tf.add(sum, more));

/** The backward pass of the fused kernels, beside what tfjs's operations make of the same. */
export const gradientCases: KernelCases = {
  GitLinearInputGradient: {
    draw: sizes(3)
      .chain(([m, n, k]) => fc.record({ dy: specs([1, m!, n!]), weight: specs([k!, n!]) }))
      .map((inputs) => ({ inputs })),
    tolerance: 5e-5,
    reference: ({ dy, weight }) => tf.expandDims(tf.matMul(rowsOf(dy!), weight as tf.Tensor2D, false, true), 0),
  },
  GitLinearWeightGradient: {
    draw: fc.tuple(groups, sizes(2), fc.boolean()).chain(([all, [k, n], again]) =>
      fc
        .record({
          x: specs([1, total(all), k!]),
          dy: specs([1, total(all), n!]),
          ...(again ? { sum: specs([k!, n!]) } : {}),
        })
        .map((inputs) => ({ inputs, attributes: { groups: all } })),
    ),
    tolerance: 5e-5,
    reference: ({ x, dy, sum }) => plus(sum, tf.matMul(rowsOf(x!), rowsOf(dy!), true, false)),
  },
  GitBiasGradient: {
    draw: fc
      .tuple(groups, sizes(1), fc.boolean())
      .chain(([all, [n], again]) =>
        fc
          .record({ dy: specs([1, total(all), n!]), ...(again ? { sum: specs([n!]) } : {}) })
          .map((inputs) => ({ inputs, attributes: { groups: all } })),
      ),
    tolerance: 1e-5,
    reference: ({ dy, sum }) => plus(sum, tf.sum(rowsOf(dy!), 0)),
  },
};
