/**
 * `node --import tsx bench/throughput.ts [--size base|tiny] [--weights f32] [--batches 1,4] [--threads 1,2] [--runs 3] [--tokens 20] [--photos FOLDER]`
 *
 * Images a second: encoded, and captioned greedily, several at once and one after the other, on each number of threads, in turns, by the clock.
 * With a folder of photos, files are captioned in place of random pixels: read in threads while the model works, as the command does for
 * many images, and each in its turn; `npm run build` first. Generated weights. Where `npm i --no-save onnxruntime-node` has been run, its encoder of the same weights stands beside ours (onnx-model.ts).
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { randomUniform, type Tensor4D } from '@tensorflow/tfjs-core';
import { availableThreads, setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { generatedStore } from '../src/checkpoint/generated-weights.js';
import {
  createImage2Text,
  encodeImage,
  type Git,
  generate,
  gitSpec,
  imageFeatures,
  parseGitConfig,
  startSession,
} from '../src/index.js';
import { disposeCache } from '../src/model/git.js';
import { loadGitParams } from '../src/model/load-git.js';
import { type Image2Text, loadImage2Text, openImage, quietTensorflow, startBackend } from '../src/node.js';
import { SIZES } from './measure-model.js';
import { onnxEncoder } from './onnx-model.js';
import { ENDLESS_RECIPE, load, machine, median, table, timeTogether, wordsOf } from './support.js';

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: 'base' },
    weights: { type: 'string', default: 'f32' },
    batches: { type: 'string', default: '1,4' },
    threads: { type: 'string' },
    runs: { type: 'string', default: '3' },
    tokens: { type: 'string', default: '20' },
    photos: { type: 'string' },
  },
});
quietTensorflow();
await startBackend('simd');
const cores = availableThreads();
const threads = (values.threads ?? (cores > 1 ? `1,${cores}` : '1')).split(',').map(Number);
const batches = values.batches.split(',').map(Number);
const tokens = Number(values.tokens);

const { vocab_size, text, vision } = SIZES[values.size] ?? SIZES['base']!;
/** Photos are captioned by a whole model, which has the demo's words. */
const demo = values.photos === undefined ? undefined : await loadImage2Text('demo');
const words = demo === undefined ? { vocab_size } : demoWords(demo);
const config = parseGitConfig({ model_type: 'git', ...words, ...text, vision_config: { ...vision, patch_size: 16 } });
const store = generatedStore(gitSpec(config), ENDLESS_RECIPE);
const params = await loadGitParams(config, store, 'generated', { weights: values.weights as WeightFormat });
const git: Git = { config, params };
const side = config.vision.imageSize;
const vocabulary = { size: config.vocabSize, bosId: config.bosTokenId, eosIds: config.eosTokenIds };
const imagesOf = (count: number) => randomUniform([count, side, side, 3], -2, 2, 'float32', 7) as Tensor4D;

async function encode(pixels: Tensor4D): Promise<void> {
  const features = imageFeatures(git, pixels);
  await features.data();
  features.dispose();
}

async function caption(pixels: Tensor4D): Promise<void> {
  const image = encodeImage(git, pixels);
  wordsOf(
    await generate(() => startSession(git, image), vocabulary, { strategy: 'greedy', maxNewTokens: tokens }),
    tokens,
  );
  disposeCache(image);
}

function demoWords({ config }: Image2Text) {
  const {
    vocabSize: vocab_size,
    bosTokenId: bos_token_id,
    eosTokenIds: eos_token_id,
    padTokenId: pad_token_id,
  } = config;
  return { vocab_size, bos_token_id, eos_token_id, pad_token_id };
}

interface Way {
  readonly name: string;
  readonly images: number;
  run(): Promise<void>;
}

/** Two batches at a time are asked for, as the command does, so that there is one to read ahead. */
async function photoWays(folder: string, { tokenizer, imageConfig }: Image2Text): Promise<Way[]> {
  const built: typeof import('../src/cli/image-threads.js') = await import(
    new URL('../dist/cli/image-threads.js', import.meta.url).href
  );
  const { prepareImage } = built.startImageThreads();
  const size = { ...imageConfig, size: { shortestEdge: side }, cropSize: { width: side, height: side } };
  const files = readdirSync(folder).map((name) => join(folder, name));
  return [{}, { prepareImage }].map((options) => {
    const model = createImage2Text(git, tokenizer, size, { maxBatch: 1, openImage, ...options });
    return {
      name: `simd ${values.weights}, ${files.length} files, ${'prepareImage' in options ? 'read in threads' : 'read in turn'}`,
      images: files.length,
      async run() {
        setThreads(threads.at(-1)!);
        await model.caption(files, { strategy: 'greedy', maxNewTokens: tokens });
      },
    };
  });
}

const ways: Way[] = batches.flatMap((images) =>
  threads.flatMap((count) => {
    const pixels = imagesOf(images);
    const what = `${images} at once, ${count} ${count === 1 ? 'thread' : 'threads'}`;
    return [encode, caption].map((work) => ({
      name: `simd ${values.weights}, ${work.name}, ${what}`,
      images,
      async run() {
        setThreads(count);
        await work(pixels);
      },
    }));
  }),
);

/** onnxruntime-node has the interface of onnxruntime-web; its name is no literal, because it need not be there. */
async function nativeWay(count: number): Promise<Way | undefined> {
  const name = 'onnxruntime-node';
  const ort = (await import(name).catch(() => undefined)) as typeof import('onnxruntime-web') | undefined;
  if (ort === undefined) return undefined;
  const model = await onnxEncoder(config.vision, store, 'f32');
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: count });
  const pixels = new ort.Tensor('float32', new Float32Array(3 * side * side).fill(0.5), [1, 3, side, side]);
  const run = async () => void (await session.run({ pixels }));
  return { name: `onnxruntime-node f32, encode, ${count} ${count === 1 ? 'thread' : 'threads'}`, images: 1, run };
}
if (demo !== undefined) ways.splice(0, ways.length, ...(await photoWays(values.photos!, demo)));
else
  for (const count of threads) {
    const native = await nativeWay(count);
    if (native !== undefined) ways.push(native);
  }

const before = load();
const times = await timeTogether(
  Number(values.runs),
  ways.map(({ run }) => run),
  true,
);
console.log(`${machine()}; ${before} before, ${load()} after; ${tokens} tokens a caption, medians of ${values.runs}\n`);
const rate = (i: number) => (1000 * ways[i]!.images) / median(times[i]!);
console.log(table([['', 'images a second'], ...ways.map(({ name }, i) => [name, rate(i).toFixed(2)])]));
process.exit(0); // threads that read images would keep the process
