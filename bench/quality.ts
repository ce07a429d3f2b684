/**
 * `node --import tsx bench/quality.ts [--formats bf16,f16,int8,int8-fast] [--merging 4,8,13,16] [--tokens 20]`
 *
 * What rounding the weights, and merging tokens of the image, does to a model of git-base's size: the reference case `full-b16`, whose weights are a formula. Features and logits are
 * compared with those of float32, with the words that float32 chooses, as parts of the largest; then each format chooses its own words. Made-up
 * weights have closer calls between words than trained ones: the demo's captions (test/simd/formats.test.ts; here for merging) are the other half of
 * the answer. Of merged tokens the class token's features are compared, since the others are not the same ones; and their speed, in turns.
 */
import { readdir, readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { dispose, type Tensor4D, tensor4d, tidy, transpose } from '@tensorflow/tfjs-core';
import { setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { GIT_BASE_RECIPE, generatedStore } from '../src/checkpoint/generated-weights.js';
import { type Git, gitSpec, imageFeatures, parseGitConfig, prefillImage, startSession } from '../src/index.js';
import { disposeCache, disposeGit } from '../src/model/git.js';
import { loadGitParams } from '../src/model/load-git.js';
import { withTokenMerging } from '../src/model/token-merging.js';
import { loadImage2Text, quietTensorflow, startBackend } from '../src/node.js';
import { readTensors } from '../src/parity/cases.js';
import { machine, median, ms, table, timeTogether } from './support.js';

const { values } = parseArgs({
  options: {
    formats: { type: 'string', default: 'bf16,f16,int8,int8-fast' },
    merging: { type: 'string', default: '4,8,13,16' },
    runs: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '20' },
    folder: { type: 'string', default: 'test/fixtures/reference/full-b16/' },
  },
});
quietTensorflow();
await startBackend('simd');
setThreads(1);
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

const load = async (format: WeightFormat): Promise<Git> => {
  const loading = { weights: format };
  return {
    config,
    params: await loadGitParams(config, generatedStore(gitSpec(config), GIT_BASE_RECIPE), 'generated', loading),
  };
};

/** Greedy words, or the logits behind `words`. */
async function run(git: Git, words?: readonly number[]): Promise<Found> {
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
  return { features: numbers, logits, words: chosen };
}

const largest = (x: Float32Array): number => x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const apart = (a: Float32Array, b: Float32Array): number => largest(a.map((x, i) => x - b[i]!)) / largest(b);

const plain = await load('f32');
const exact = await run(plain);

/** Beside float32 and every token: features (of the class token alone where tokens were merged), logits, words. */
async function compare(name: string, git: Git): Promise<string[]> {
  const [forced, own] = [await run(git, exact.words), await run(git)];
  const first = own.words.findIndex((id, t) => id !== exact.words[t]);
  const compared = git.config.vision.tokenMerging === undefined ? exact.features.length : config.vision.hiddenSize;
  return [
    name,
    apart(forced.features.subarray(0, compared), exact.features.subarray(0, compared)).toExponential(1),
    Math.max(...forced.logits.map((row, t) => apart(row, exact.logits[t]!))).toExponential(1),
    `${forced.words.filter((id, t) => id === exact.words[t]).length} of ${values.tokens}`,
    first < 0 ? 'the same' : `differ from word ${first + 1} on`,
  ];
}

const rows: string[][] = [['', 'features', 'logits', 'same choice behind the same words', 'own words']];
for (const format of values.formats.split(',').filter(Boolean) as WeightFormat[]) {
  const git = await load(format);
  rows.push(await compare(format, git));
  disposeGit(git);
}
const merging = values.merging.split(',').filter(Boolean).map(Number);
const merged = merging.map((r): Git => ({ ...plain, config: withTokenMerging(config, r) }));
for (const [i, git] of merged.entries()) rows.push(await compare(`f32, ${merging[i]} tokens merged a layer`, git));
console.log(table(rows));

/** Captions of the demo's images. */
async function demoCaptions(tokenMerging: number): Promise<string[]> {
  const model = await loadImage2Text('demo', { tokenMerging });
  const files = (await readdir('examples')).filter((name) => /\.(jpg|png)$/.test(name)).sort();
  const found: string[] = [];
  for (const file of files) found.push((await model.caption(`examples/${file}`)).text);
  model.dispose();
  return found;
}

if (merging.length > 0) {
  const encode = async (git: Git) => {
    const features = imageFeatures(git, pixels);
    await features.data();
    features.dispose();
  };
  const prefilled = (git: Git) => {
    const features = imageFeatures(git, pixels);
    return async () => {
      const image = prefillImage(git, features);
      await image.at(-1)!.value.data();
      disposeCache(image);
    };
  };
  const models = [plain, ...merged];
  const encodes = models.map((git) => () => encode(git));
  const times = (await timeTogether(Number(values.runs), [...encodes, ...models.map(prefilled)])).map(median);
  const said = await demoCaptions(0);
  const speed: string[][] = [['', 'image tokens', 'encode', 'prefill', 'demo captions as without']];
  for (const [i, git] of models.entries()) {
    const features = imageFeatures(git, pixels);
    const other = await demoCaptions(merging[i - 1] ?? 0);
    const faster = (at: number, from: number) => `${ms(times[at]!)}, ${(times[from]! / times[at]!).toFixed(2)}x`;
    speed.push([
      i === 0 ? 'every token' : `${merging[i - 1]} merged a layer`,
      String(features.shape[1]),
      faster(i, 0),
      faster(models.length + i, models.length),
      `${other.filter((text, n) => text === said[n]).length} of ${said.length}`,
    ]);
    features.dispose();
  }
  console.log(`\n${machine()}; one thread, processor time, medians of ${values.runs} in turns\n${table(speed)}`);
}
disposeGit(plain);
