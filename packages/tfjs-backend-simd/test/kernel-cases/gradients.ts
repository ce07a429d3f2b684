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

const ADAMW = {
  ...{ scale: 0.5, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
  ...{ learningRate: 0.1, weightDecay: 0.1, step: 3 },
};

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
  GitAttentionGradient: {
    draw: fc
      .tuple(
        few,
        few,
        fc.oneof(few, fc.constantFrom(59, 60, 61, 130)),
        sizes(2),
        fc.constantFrom('no', 'shared', 'rows'),
      )
      .chain(([R, H, T, [S, K], masked]) =>
        fc.record({
          ...{ q: specs([R, H, T, K!]), key: specs([R, H, S!, K!]), value: specs([R, H, S!, K!]) },
          dy: specs([R, H, T, K!]),
          ...(masked === 'no' ? {} : { mask: specs(masked === 'rows' ? [R, T, S!] : [T, S!]) }),
        }),
      )
      .map((inputs) => ({ inputs })),
    tolerance: 5e-5,
    reference: ({ q, key, value, mask, dy }) => {
      const scale = 1 / Math.sqrt(q!.shape[3]!);
      const scores = tf.mul(tf.matMul(q!, key!, false, true), scale);
      const weights = tf.softmax(
        mask === undefined ? scores : tf.add(scores, mask.rank === 3 ? tf.expandDims(mask, 1) : mask),
      );
      const slopes = tf.matMul(dy!, value!, false, true);
      const ofScores = tf.mul(weights, tf.sub(slopes, tf.sum(tf.mul(slopes, weights), -1, true)));
      return [
        tf.mul(tf.matMul(ofScores, key!), scale),
        tf.mul(tf.matMul(ofScores, q!, true, false), scale),
        tf.matMul(weights, dy!, true, false),
      ];
    },
  },
  GitCrossEntropyGradient: {
    draw: fc
      .tuple(sizes(2), fc.constantFrom(0, 0.1))
      .chain(([[m, n], smoothing]) =>
        fc
          .record({ logits: specs([m!, n! + 1]), labels: specs([m!], 'int32', { min: 0, max: n! }) })
          .map((inputs) => ({ inputs, attributes: { smoothing, total: 5 } })),
      ),
    tolerance: 2e-6,
    reference: ({ logits, labels }, attributes) => {
      const { smoothing, total } = attributes as { smoothing: number; total: number };
      const words = logits!.shape[1]!;
      const elsewhere = smoothing / (words - 1);
      const wanted = tf.add(tf.mul(tf.oneHot(labels!, words), 1 - smoothing - elsewhere), elsewhere);
      const logs = tf.logSoftmax(logits!);
      const entropy = smoothing === 0 ? 0 : (1 - smoothing) * Math.log(1 - smoothing) + smoothing * Math.log(elsewhere);
      const losses = tf.sub(entropy, tf.sum(tf.mul(wanted, logs), 1));
      return [tf.div(losses, total), tf.div(tf.sub(tf.exp(logs), wanted), total)];
    },
  },
  GitEmbeddingGradient: {
    draw: fc.tuple(sizes(3), fc.boolean(), fc.boolean()).chain(([[m, n, rows], again, padded]) =>
      fc
        .record({
          ...{ dy: specs([1, m!, n!]), ids: specs([m!], 'int32', { min: 0, max: rows! - 1 }) },
          ...(again ? { sum: specs([rows!, n!]) } : {}),
        })
        .map((inputs) => ({ inputs, attributes: { rows, ...(padded ? { padding: 0 } : {}) } })),
    ),
    tolerance: 1e-6,
    reference: ({ dy, ids, sum }, attributes) => {
      const { rows, padding } = attributes as { rows: number; padding?: number };
      const kept =
        padding === undefined ? dy! : tf.mul(dy!, tf.expandDims(tf.cast(tf.notEqual(ids!, padding), 'float32'), 1));
      return plus(sum, tf.unsortedSegmentSum(rowsOf(kept), ids as tf.Tensor1D, rows));
    },
  },
  GitLayerNormGradient: {
    draw: fc.tuple(groups, sizes(1), fc.boolean()).chain(([all, [n], again]) =>
      fc
        .record({
          ...{ x: specs([1, total(all), n! + 2]), dy: specs([1, total(all), n! + 2]), gamma: specs([n! + 2]) },
          ...(again ? { gammaSum: specs([n! + 2]), betaSum: specs([n! + 2]) } : {}),
        })
        .map((inputs) => ({ inputs, attributes: { groups: all, epsilon: 1e-2 } })),
    ),
    tolerance: 1e-4,
    reference: ({ x, dy, gamma, gammaSum, betaSum }) => {
      const { mean, variance } = tf.moments(x!, -1, true);
      const scale = tf.rsqrt(tf.add(variance, 1e-2));
      const normed = tf.mul(tf.sub(x!, mean), scale);
      const weighted = tf.mul(dy!, gamma!);
      const along = tf.mul(normed, tf.mean(tf.mul(weighted, normed), -1, true));
      const dx = tf.mul(scale, tf.sub(tf.sub(weighted, tf.mean(weighted, -1, true)), along));
      const ofGamma = plus(gammaSum, tf.sum(rowsOf(tf.mul(dy!, normed)), 0));
      return [dx, ofGamma, plus(betaSum, tf.sum(rowsOf(dy!), 0))];
    },
  },
  GitActivation: {
    draw: sizes(2)
      .chain(([m, n]) => fc.record({ x: specs([m!, n!]) }))
      .map((inputs) => ({ inputs, attributes: { activation: 'gelu' } })),
    tolerance: 2e-6,
    reference: ({ x }) => tf.mul(tf.mul(x!, 0.5), tf.add(tf.erf(tf.mul(x!, Math.SQRT1_2)), 1)),
  },
  GitActivationGradient: {
    draw: fc
      .tuple(sizes(2), fc.constantFrom('gelu', 'quick_gelu'))
      .chain(([[m, n], activation]) =>
        fc
          .record({ x: specs([m!, n!]), dy: specs([m!, n!]) })
          .map((inputs) => ({ inputs, attributes: { activation } })),
      ),
    tolerance: 5e-6,
    reference: ({ x, dy }, { activation }) => {
      const gate = tf.sigmoid(tf.mul(x!, 1.702));
      const below = tf.mul(tf.add(tf.erf(tf.mul(x!, Math.SQRT1_2)), 1), 0.5);
      const density = tf.mul(tf.exp(tf.mul(tf.square(x!), -0.5)), 1 / Math.sqrt(2 * Math.PI));
      const quick = tf.mul(gate, tf.add(tf.mul(tf.mul(x!, 1.702), tf.sub(1, gate)), 1));
      return tf.mul(dy!, activation === 'gelu' ? tf.add(below, tf.mul(x!, density)) : quick);
    },
  },
  GitAdamW: {
    draw: fc.tuple(sizes(2), fc.boolean()).chain(([shape, again]) =>
      fc
        .record({
          ...{ parameter: specs(shape), gradient: specs(shape) },
          ...(again ? { first: specs(shape), second: specs(shape, 'float32', { min: 0, max: 4 }) } : {}),
        })
        .map((inputs) => ({ inputs, attributes: ADAMW })),
    ),
    tolerance: 2e-6,
    reference: ({ parameter, gradient, first, second }) => {
      const { scale, beta1, beta2, epsilon, learningRate, weightDecay, step } = ADAMW;
      const g = tf.mul(gradient!, scale);
      const m = tf.add(tf.mul(first ?? tf.zerosLike(g), beta1), tf.mul(g, 1 - beta1));
      const v = tf.add(tf.mul(second ?? tf.zerosLike(g), beta2), tf.mul(tf.square(g), 1 - beta2));
      const [hat1, hat2] = [tf.div(m, 1 - beta1 ** step), tf.div(v, 1 - beta2 ** step)];
      const next = tf.sub(
        tf.mul(parameter!, 1 - learningRate * weightDecay),
        tf.mul(learningRate, tf.div(hat1, tf.add(tf.sqrt(hat2), epsilon))),
      );
      return [next, m, v];
    },
  },
  GitSquaredNorm: {
    draw: sizes(2)
      .chain((shape) => fc.record({ x: specs(shape) }))
      .map((inputs) => ({ inputs })),
    tolerance: 1e-5,
    reference: ({ x }) => tf.sum(tf.square(x!)),
  },
};
