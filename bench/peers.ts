/**
 * `npm run bench:peers [-- --layers 12 --tokens 20 --runs 5 --threads 1 --peers simd,simd:int8,simd:int8-fast,wasm,onnx,onnx:int8]`
 *
 * Encodes one image of 224 px with a vision tower of git-base's size (generated weights), and captions it greedily with so many tokens (0: encodes
 * only): ours, tfjs's wasm backend, and onnxruntime-web on ONNX models that onnx-model.ts writes of the same weights. First all must give the same
 * features, and in float32 the same words; then they are timed in turns, by the clock. Ratios are what counts. `--layers 2 --tokens 0` is the same
 * comparison in a sixth of the time and memory. `onnx-native` is onnxruntime-node, where `npm i --no-save onnxruntime-node` has been run.
 */
import { parseArgs } from 'node:util';
import type { Tensor4D } from '@tensorflow/tfjs-core';
import { dispose, getBackend, randomUniform, setBackend, tidy, transpose } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-web';
import { setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { generatedStore } from '../src/checkpoint/generated-weights.js';
import { encodeImage, type Git, generate, gitSpec, imageFeatures, parseGitConfig, startSession } from '../src/index.js';
import { disposeCache } from '../src/model/git.js';
import { loadGitParams } from '../src/model/load-git.js';
import { type NodeBackend, quietTensorflow, startBackend } from '../src/node.js';
import { type OnnxRuntime, openOnnx } from './onnx-caption.js';
import { type OnnxFormat, onnxEncoder } from './onnx-model.js';
import { ENDLESS_RECIPE, load, machine, median, ms, table, timeTogether, wordsOf } from './support.js';

const { values } = parseArgs({
  options: {
    layers: { type: 'string', default: '12' },
    tokens: { type: 'string', default: '20' },
    runs: { type: 'string', default: '5' },
    threads: { type: 'string', default: '1' },
    peers: { type: 'string', default: 'simd,simd:int8,simd:int8-fast,wasm,onnx,onnx:int8' },
  },
});
const [layers, tokens, runs, threads] = [values.layers, values.tokens, values.runs, values.threads].map(Number) as [
  number,
  number,
  number,
  number,
];

/** How far features may be apart, of the largest: float32 sums in another order, and weights and activations of 8 bits. */
const TOLERANCE = { f32: 1e-4, bf16: 0.1, f16: 0.02, int8: 0.15, 'int8-fast': 0.15 } as const satisfies Record<
  WeightFormat,
  number
>;

/** One program that encodes and captions the image. */
interface Peer {
  readonly name: string;
  readonly format: WeightFormat;
  encode(): Promise<Float32Array>;
  /** Ids of exactly `tokens` words. */
  caption(): Promise<readonly number[]>;
}

const config = parseGitConfig({
  ...{ model_type: 'git', num_hidden_layers: tokens > 0 ? 6 : 1, vocab_size: tokens > 0 ? 30522 : 200 },
  vision_config: { hidden_size: 768, num_hidden_layers: layers, num_attention_heads: 12, intermediate_size: 3072 },
});
const store = generatedStore(gitSpec(config), ENDLESS_RECIPE);
const side = config.vision.imageSize;

async function tfjsPeer(backend: NodeBackend, format: WeightFormat): Promise<Peer> {
  await startBackend(backend);
  if (getBackend() === 'simd') setThreads(threads);
  const weights = backend === 'simd' ? { weights: format } : {};
  const git: Git = { config, params: await loadGitParams(config, store, 'generated', weights) };
  const pixels: Tensor4D = randomUniform([1, side, side, 3], -2, 2, 'float32', 7);
  const vocabulary = { size: config.vocabSize, bosId: config.bosTokenId, eosIds: config.eosTokenIds };
  return {
    name: `${backend} ${format}`,
    format,
    async encode() {
      await setBackend(backend);
      const features = imageFeatures(git, pixels);
      const numbers = (await features.data()) as Float32Array;
      dispose(features);
      return numbers;
    },
    async caption() {
      await setBackend(backend);
      const image = encodeImage(git, pixels);
      const options = { strategy: 'greedy', maxNewTokens: tokens } as const;
      const found = await generate(() => startSession(git, image), vocabulary, options);
      disposeCache(image);
      return wordsOf(found, tokens);
    },
  };
}

/** onnxruntime-node need not be there, so its name is no literal. */
async function onnxRuntime(name: 'onnx' | 'onnx-native'): Promise<OnnxRuntime> {
  if (name === 'onnx') {
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = 'error';
    return ort;
  }
  const native = 'onnxruntime-node';
  return (await import(native)) as OnnxRuntime;
}

async function onnxPeer(name: 'onnx' | 'onnx-native', format: OnnxFormat): Promise<Peer> {
  const runtime = await onnxRuntime(name);
  const options = name === 'onnx' ? {} : { intraOpNumThreads: threads, interOpNumThreads: 1 };
  const encoder = await runtime.InferenceSession.create(await onnxEncoder(config.vision, store, format), {
    graphOptimizationLevel: 'all',
    ...options,
  });
  const captioner = tokens > 0 ? await openOnnx(runtime, config, store, format, options) : undefined;
  const first = tidy(() => transpose(randomUniform([1, side, side, 3], -2, 2, 'float32', 7), [0, 3, 1, 2]));
  const pixels = new runtime.Tensor('float32', (await first.data()) as Float32Array, [1, 3, side, side]);
  dispose(first);
  return {
    name: `${name === 'onnx' ? 'onnxruntime-web' : 'onnxruntime-node'} ${format}`,
    format,
    async encode() {
      const { features } = await encoder.run({ pixels });
      return features!.data as Float32Array;
    },
    caption: async () => captioner!.caption(pixels, tokens),
  };
}

/** Largest difference, of the largest number of `b`. */
function distance(a: Float32Array, b: Float32Array): number {
  const [apart, most] = [a.map((x, i) => Math.abs(x - b[i]!)), b.map(Math.abs)];
  return a.length === b.length
    ? apart.reduce((x, y) => Math.max(x, y)) / most.reduce((x, y) => Math.max(x, y))
    : Number.NaN;
}

quietTensorflow();
const peers: Peer[] = [];
for (const asked of values.peers.split(',')) {
  const [name, format = 'f32'] = asked.split(':') as [NodeBackend | 'onnx' | 'onnx-native', WeightFormat?];
  process.stderr.write(`loading ${asked} …\n`);
  const isOnnx = name === 'onnx' || name === 'onnx-native';
  peers.push(isOnnx ? await onnxPeer(name, format as OnnxFormat) : await tfjsPeer(name, format));
}

const first = peers.find(({ format }) => format === 'f32') ?? peers[0]!;
const reference = (await first.encode()).slice();
const words = tokens > 0 ? await first.caption() : [];
const apart: string[] = [];
const same: string[] = [];
for (const { name, format, encode, caption } of peers) {
  const far = distance(await encode(), reference);
  if (!(far <= TOLERANCE[format])) throw new Error(`${name}: features differ by ${far} of the largest`);
  apart.push(far.toExponential(1));
  if (tokens === 0) continue;
  const found = await caption();
  const differs = found.findIndex((id, n) => id !== words[n]);
  if (format === 'f32' && differs >= 0) throw new Error(`${name}: word ${differs + 1} is another one`);
  same.push(differs < 0 ? 'all' : String(differs));
}

/** Times one stage in turns and prints how many times as fast each peer is as each other. */
async function compare(stage: string, bodies: readonly (() => Promise<unknown>)[], [title, facts]: [string, string[]]) {
  const before = load();
  const medians = (await timeTogether(runs, bodies, true)).map(median);
  console.log(`\n${before} before, ${load()} after`);
  console.log(
    table([
      [stage, 'median', ...peers.map(({ name }) => `/ ${name}`), title],
      ...peers.map(({ name }, row) => [
        name,
        ms(medians[row]!),
        ...medians.map((other) => `${(other / medians[row]!).toFixed(2)}x`),
        facts[row]!,
      ]),
    ]),
  );
}

const text = `${layers} vision layers, one image of ${side} px, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
console.log(`${machine()}\n${text}, by the clock, medians of ${runs} runs in turns`);
await compare(
  'encode',
  peers.map(({ encode }) => encode),
  ['features differ by', apart],
);
if (tokens > 0) {
  await compare(
    `caption, ${tokens} tokens`,
    peers.map(({ caption }) => caption),
    ['same words', same],
  );
}
console.log('\nA column says how many times as fast as its program each row is.');
process.exit(0); // the workers of onnxruntime-web would keep the process
