// The gradients of a small transformer's loss on the backend `simd` and on tfjs's cpu backend: a program of its own, bundled by
// run-suite.ts, because tfjs-core's entry point for Node brings no gradients. Arguments: the options of the backend as JSON, and the file
// for the results: the largest difference, relative to the largest slope, for each parameter.

import { writeFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
import '@tensorflow/tfjs-backend-cpu';
import { registerSimdBackend, type SimdBackendOptions } from '../../src/index.js';

const [, , variant = '{}', results = ''] = process.argv;

const gelu = (x: tf.Tensor) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.div(x, Math.SQRT2)), 1));

function layerNorm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor): tf.Tensor {
  const { mean, variance } = tf.moments(x, -1, true);
  return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-3))), gamma), beta);
}

/** Patches and words through one small transformer: every operation that training one needs. */
function loss(
  [image, filter, table, weight, gamma, beta]: readonly tf.Tensor[],
  ids: tf.Tensor,
  targets: tf.Tensor,
): tf.Scalar {
  const patches = tf.conv2d(image as tf.Tensor4D, filter as tf.Tensor4D, 2, 'valid');
  const tokens = tf.reshape(patches, [1, -1, 8]);
  const words = tf.gather(table!, ids as tf.Tensor1D);
  const h = tf.concat([tokens, tf.expandDims(words, 0)], 1);
  const scores = tf.softmax(tf.mul(tf.matMul(h, h, false, true), 0.35));
  const mixed = tf.add(h, tf.matMul(scores, h));
  const x = gelu(tf.matMul(tf.reshape(layerNorm(mixed, gamma!, beta!), [-1, 8]), weight as tf.Tensor2D));
  const logits = tf.matMul(tf.slice(x, [4, 0], [3, 8]), table as tf.Tensor2D, false, true);
  const picked = tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(targets as tf.Tensor1D, 5)), -1);
  return tf.neg(tf.mean(picked)) as tf.Scalar;
}

/** Parameters of the loss, from sines: the same at every run. */
const SHAPES = { image: [1, 4, 4, 3], filter: [2, 2, 3, 8], table: [5, 8], weight: [8, 8], gamma: [8], beta: [8] };

async function slopes(backend: string): Promise<Float32Array[]> {
  await tf.setBackend(backend);
  const parameters = Object.values(SHAPES).map((shape, at) => {
    const size = shape.reduce((product, n) => product * n, 1);
    return tf.tensor(
      Float32Array.from({ length: size }, (_, i) => Math.sin(37 * at + 11 * i)),
      shape,
    );
  });
  const [ids, targets] = [tf.tensor1d([1, 4, 1], 'int32'), tf.tensor1d([4, 1, 0], 'int32')];
  const f = (...own: tf.Tensor[]) => loss(own, ids, targets);
  const all = tf.grads(f as (x: tf.Tensor) => tf.Scalar)(parameters);
  return Promise.all(all.map(async (gradient) => (await gradient.data()) as Float32Array));
}

async function compare(): Promise<Record<string, number>> {
  registerSimdBackend(JSON.parse(variant) as SimdBackendOptions);
  const [expected, got] = [await slopes('cpu'), await slopes('simd')];
  const errors = Object.keys(SHAPES).map((name, i): [string, number] => {
    const largest = Math.max(...expected[i]!.map(Math.abs));
    const difference = Math.max(...expected[i]!.map((slope, j) => Math.abs(slope - got[i]![j]!)));
    return [name, largest > 0 ? difference / largest : Number.POSITIVE_INFINITY];
  });
  return Object.fromEntries(errors);
}

void compare().then((errors) => writeFileSync(results, JSON.stringify(errors)));
