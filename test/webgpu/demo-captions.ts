/**
 * The demo on tfjs's webgpu backend with our kernels, its weights in the formats that are named. Prints a line of JSON for each.
 * `node --import tsx test/webgpu/demo-captions.ts IMAGES FORMAT…`
 */
import * as tf from '@tensorflow/tfjs-core';
import type { WeightFormat } from 'tfjs-backend-simd';
import { loadImage2Text, quietTensorflow, startBackend } from '../../src/node.js';
import { DEMO, ROOT, readJson } from '../support/fixtures.js';

export interface DemoRun {
  readonly format: WeightFormat;
  /** What was said of each image, greedily, and what the reference says. */
  readonly captions: readonly { readonly text: string; readonly wanted: string }[];
  /** Largest difference of a token's log-probability from the reference's, where the words are the same. */
  readonly error: number;
  /** How often each kernel of ours ran. */
  readonly runs: Readonly<Record<string, number>>;
  /** Tensors that are left when the model is disposed of. */
  readonly left: number;
}

interface Expected {
  readonly images: readonly {
    readonly file: string;
    readonly greedy: { readonly text: string; readonly token_logprobs: readonly number[] };
  }[];
}

const [count, ...formats] = process.argv.slice(2) as [string, ...WeightFormat[]];
const { images } = readJson<Expected>(`${DEMO}expected.json`);

quietTensorflow();
await startBackend('webgpu');
const runs: Record<string, number> = {};
for (const kernel of tf.getKernelsForBackend('webgpu').filter(({ kernelName }) => kernelName.startsWith('Git'))) {
  const { kernelFunc } = kernel;
  kernel.kernelFunc = (given) => {
    runs[kernel.kernelName] = (runs[kernel.kernelName] ?? 0) + 1;
    return kernelFunc(given);
  };
}

for (const format of formats) {
  for (const name in runs) runs[name] = 0;
  const before = tf.memory().numTensors;
  const model = await loadImage2Text(DEMO, { weights: format });
  const captions: { text: string; wanted: string }[] = [];
  let error = 0;
  for (const { file, greedy } of images.slice(0, Number(count))) {
    const said = await model.caption(`${ROOT}${file}`, { strategy: 'greedy', maxLength: 20 });
    captions.push({ text: said.text, wanted: greedy.text });
    if (said.text !== greedy.text) continue;
    const logProbs = said.tokens.map(({ logProb }) => logProb);
    greedy.token_logprobs.forEach((wanted, i) => {
      error = Math.max(error, Math.abs(wanted - (logProbs[i] ?? Number.NaN)));
    });
  }
  model.dispose();
  const left = tf.memory().numTensors - before;
  console.log(JSON.stringify({ format, captions, error, runs: { ...runs }, left } satisfies DemoRun));
}
