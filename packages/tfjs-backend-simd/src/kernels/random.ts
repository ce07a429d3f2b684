import type { MultinomialAttrs, TensorInfo } from '@tensorflow/tfjs-core';
import { reduceKernels } from './reduce.js';
import { input, type Kernel, type KernelTable } from './table.js';

/** Evenly spread numbers in [0, 1), the same for the same seed: a counter, mixed as in MurmurHash3. */
function randomNumbers(seed: number): () => number {
  let state = Math.imul(Math.floor(seed * 2 ** 32) ^ Math.floor(seed), 0x9e3779b1) | 0;
  const next = () => {
    state = (state + 0x9e3779b9) | 0;
    let x = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return (x ^ (x >>> 16)) >>> 0;
  };
  return () => (next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53;
}

/** Draws from each row's probabilities: exp(logits), or `logits` themselves where they are normalized. Rows share the seed. */
const multinomial: Kernel = (backend, inputs, attributes) => {
  const logits = input(inputs, 'logits');
  const { numSamples, seed, normalized } = attributes as unknown as MultinomialAttrs;
  const [rows = 0, events = 0] = logits.shape;
  const odds = normalized ? logits : (reduceKernels['Softmax']!(backend, { logits }, { dim: -1 }) as TensorInfo);
  const output = backend.output([rows, numSamples], 'int32');
  const [shares, target] = backend.viewsOf(odds, output);
  for (let row = 0; row < rows; row++) {
    const random = randomNumbers(seed);
    for (let i = 0; i < numSamples; i++) {
      let [left, event] = [random(), 0];
      while (event < events - 1) {
        left -= shares[row * events + event]!;
        if (left < 0) break;
        event++;
      }
      target[row * numSamples + i] = event;
    }
  }
  if (odds !== logits) backend.release(odds);
  return output;
};

export const randomKernels: KernelTable = { Multinomial: multinomial };
