import * as tf from '@tensorflow/tfjs-core';
import { uploadWeight, type WeightFormat } from '../src/index.js';
import { type Case, kernel, random } from './cases.js';

/** Bytes of one number. */
const BYTES: Readonly<Record<WeightFormat, number>> = { f32: 4, bf16: 2, f16: 2, int8: 1, 'int8-fast': 1 };

/** The matrices of a whole decoder step at git-base's size, [in, out]: six layers and the output layer. */
const STEP: readonly (readonly [number, number])[] = [
  ...Array.from({ length: 6 }, (): [number, number][] => [
    ...[[768, 768] as [number, number], [768, 768] as [number, number], [768, 768] as [number, number]],
    ...[[768, 768] as [number, number], [768, 3072] as [number, number], [3072, 768] as [number, number]],
  ]).flat(),
  [768, 30522],
];

const WEIGHTS = STEP.reduce((sum, [k, n]) => sum + k * n, 0);

/** All linear layers of one step, for `rows` beams: what a step must read from memory. */
const step = (format: WeightFormat, rows: number): Case => ({
  name: `decode step, ${format}, ${rows} row${rows > 1 ? 's' : ''}`,
  flops: 2 * rows * WEIGHTS,
  bytes: BYTES[format] * WEIGHTS,
  bound: 'read',
  prepare(backend) {
    if (backend === 'wasm' && format !== 'f32') throw new Error('only float32 there');
    const weights = STEP.map(([k, n], i): [string, tf.Tensor] => {
      const data = Float32Array.from({ length: k * n }, (_, j) => ((j * 7919 + i) % 1999) / 1e5 - 0.01);
      return [`w${i}`, backend === 'simd' ? uploadWeight({ format, data, shape: [k, n] }) : tf.tensor2d(data, [k, n])];
    });
    return { ...Object.fromEntries(weights), narrow: random([rows, 768]), wide: random([rows, 3072]) };
  },
  run(tensors) {
    STEP.forEach(([k], i) => {
      const [x, weight] = [k === 768 ? tensors['narrow']! : tensors['wide']!, tensors[`w${i}`]!];
      if (tf.getBackend() === 'simd') kernel('GitLinear', { x, weight }, { activation: 'none' });
      else tf.dispose(tf.matMul(x as tf.Tensor2D, weight as tf.Tensor2D));
    });
  },
});

export const decodeCases: readonly Case[] = [1, 4].flatMap((rows) =>
  (['f32', 'bf16', 'f16', 'int8', 'int8-fast'] as const).map((format) => step(format, rows)),
);
