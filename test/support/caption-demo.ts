/**
 * Captions of the demo on each binary, number of threads and weight format, told as lines of JSON: a program of its own, to be run by
 * any Node. `node --import tsx test/support/caption-demo.ts [number of images]`
 */
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, type SimdBackendOptions, setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { loadImage2Text } from '../../src/node.js';
import { DEMO, ROOT, readJson } from './fixtures.js';

export interface DemoRun {
  readonly binary: string;
  readonly threads: number;
  readonly format: WeightFormat;
  readonly captions: number;
  /** As many as the reference said, word for word. */
  readonly same: number;
  /** The logarithm of every token's probability, for comparisons bit by bit. */
  readonly logProbs: readonly number[];
}

interface Expected {
  readonly images: readonly { file: string; greedy: { text: string } }[];
}

const BINARIES: readonly (SimdBackendOptions & { readonly name: string })[] = [
  { name: 'relaxed-shared', relaxed: true, shared: true, threads: 1 },
  { name: 'relaxed-unshared', relaxed: true, shared: false },
  { name: 'plain-shared', relaxed: false, shared: true, threads: 1 },
  { name: 'plain-unshared', relaxed: false, shared: false },
];

const images = readJson<Expected>(`${DEMO}expected.json`).images.slice(0, Number(process.argv[2] ?? 12));

async function run(binary: string, format: WeightFormat, counts: readonly number[]): Promise<void> {
  const model = await loadImage2Text(DEMO, { weights: format });
  for (const threads of counts) {
    setThreads(threads, binary);
    let same = 0;
    const logProbs: number[] = [];
    for (const { file, greedy } of images) {
      const said = await model.caption(`${ROOT}${file}`, { strategy: 'greedy', maxLength: 20 });
      if (said.text === greedy.text) same++;
      logProbs.push(...said.tokens.map(({ logProb }) => logProb));
    }
    console.log(JSON.stringify({ binary, threads, format, captions: images.length, same, logProbs } satisfies DemoRun));
  }
  model.dispose();
}

for (const options of BINARIES) {
  registerSimdBackend(options);
  if (!(await tf.setBackend(options.name))) throw new Error(`${options.name} does not start`);
  for (const format of ['f32', 'bf16', 'f16', 'int8', 'int8-fast'] as const) {
    await run(options.name, format, options.shared ? [1, 2, 4] : [1]);
  }
}
