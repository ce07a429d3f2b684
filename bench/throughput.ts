/**
 * `node --import tsx bench/throughput.ts [--size base|tiny] [--weights f32] [--batches 1,4] [--threads 1,2] [--runs 3] [--tokens 20]`
 *
 * Images a second: encoded, and captioned greedily, several at once and one after the other, on each number of threads, in turns, by the clock.
 * Generated weights. Where `npm i --no-save onnxruntime-node` has been run, its encoder of the same weights stands beside ours (onnx-model.ts).
 */
import { parseArgs } from 'node:util';
import { randomUniform, type Tensor4D } from '@tensorflow/tfjs-core';
import { availableThreads, setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { generatedStore } from '../src/checkpoint/generated-weights.js';
import { encodeImage, type Git, generate, gitSpec, imageFeatures, parseGitConfig, startSession } from '../src/index.js';
import { disposeCache } from '../src/model/kv-cache.js';
import { loadGitParams } from '../src/model/load-git.js';
import { quietTensorflow, startBackend } from '../src/node.js';
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
  },
});
quietTensorflow();
await startBackend('simd');
const cores = availableThreads();
const threads = (values.threads ?? (cores > 1 ? `1,${cores}` : '1')).split(',').map(Number);
const batches = values.batches.split(',').map(Number);
const tokens = Number(values.tokens);

const { vocab_size, text, vision } = SIZES[values.size] ?? SIZES['base']!;
const config = parseGitConfig({ model_type: 'git', vocab_size, ...text, vision_config: { ...vision, patch_size: 16 } });
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

interface Way {
  readonly name: string;
  readonly images: number;
  run(): Promise<void>;
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
