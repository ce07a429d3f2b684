/**
 * `node --import tsx bench/quality.ts [--formats bf16,f16,int8,int8-fast] [--tokens 20]`
 *
 * What rounding the weights does to a model of git-base's size: the reference case `full-b16`, whose weights are a formula. Features and logits are
 * compared with those of float32, with the words that float32 chooses, as parts of the largest; then each format chooses its own words. Made-up
 * weights have closer calls between words than trained ones: the demo's captions (test/simd/formats.test.ts) are the other half of the answer.
 */
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { dispose, type Tensor4D, tensor4d, tidy, transpose } from '@tensorflow/tfjs-core';
import type { WeightFormat } from 'tfjs-backend-simd';
import { GIT_BASE_RECIPE, generatedStore } from '../src/checkpoint/generated-weights.js';
import { type Git, gitSpec, imageFeatures, parseGitConfig, prefillImage, startSession } from '../src/index.js';
import { disposeGit } from '../src/model/git.js';
import { disposeCache } from '../src/model/kv-cache.js';
import { loadGitParams } from '../src/model/load-git.js';
import { quietTensorflow, startBackend } from '../src/node.js';
import { readTensors } from '../src/parity/cases.js';
import { table } from './support.js';

const { values } = parseArgs({
  options: {
    formats: { type: 'string', default: 'bf16,f16,int8,int8-fast' },
    tokens: { type: 'string', default: '20' },
    folder: { type: 'string', default: 'test/fixtures/reference/full-b16/' },
  },
});
quietTensorflow();
await startBackend('simd');
const config = parseGitConfig(JSON.parse(await readFile(`${values.folder}config.json`, 'utf8')));
const given = (await readTensors(values.folder, 'case.safetensors')).get('pixel_values')!;
const pixels = tidy(() =>
  transpose(tensor4d(Float32Array.from(given.values), given.shape as Tensor4D['shape']), [0, 2, 3, 1]),
) as Tensor4D;

interface Found {
  readonly features: Float32Array;
  /** Of each step. */
  readonly logits: readonly Float32Array[];
  readonly words: readonly number[];
}

const best = (logits: Float32Array): number => logits.reduce((top, x, id) => (x > logits[top]! ? id : top), 0);

/** Greedy words, or the logits behind `words`. */
async function run(format: WeightFormat, words?: readonly number[]): Promise<Found> {
  const params = await loadGitParams(config, generatedStore(gitSpec(config), GIT_BASE_RECIPE), 'generated', {
    weights: format,
  });
  const git: Git = { config, params };
  const features = imageFeatures(git, pixels);
  const image = prefillImage(git, features);
  const session = startSession(git, image);
  const [logits, chosen]: [Float32Array[], number[]] = [[], []];
  let id = config.bosTokenId;
  for (let t = 0; t < Number(values.tokens); t++) {
    const [row] = await session.step([[id]]);
    logits.push(row!.slice());
    chosen.push(best(row!));
    id = words?.[t] ?? chosen[t]!;
  }
  session.dispose();
  disposeCache(image);
  const numbers = (await features.data()) as Float32Array;
  dispose(features);
  disposeGit(git);
  return { features: numbers, logits, words: chosen };
}

const largest = (x: Float32Array): number => x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const apart = (a: Float32Array, b: Float32Array): number => largest(a.map((x, i) => x - b[i]!)) / largest(b);

const exact = await run('f32');
const rows: string[][] = [];
for (const format of values.formats.split(',') as WeightFormat[]) {
  const forced = await run(format, exact.words);
  const own = await run(format);
  const first = own.words.findIndex((id, t) => id !== exact.words[t]);
  rows.push([
    format,
    apart(forced.features, exact.features).toExponential(1),
    Math.max(...forced.logits.map((row, t) => apart(row, exact.logits[t]!))).toExponential(1),
    `${forced.words.filter((id, t) => id === exact.words[t]).length} of ${values.tokens}`,
    first < 0 ? 'the same' : `differ from word ${first + 1} on`,
  ]);
}
console.log(table([['', 'features', 'logits', 'same choice behind the same words', 'own words'], ...rows]));
