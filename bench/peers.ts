/**
 * `npm run bench:peers [-- --layers 12 --runs 5 --threads 1 --peers simd,simd:int8,simd:int8-fast,wasm,onnx,onnx:int8]`
 *
 * Encodes one image of 224 px with a vision tower of git-base's size (generated weights): ours, tfjs's wasm backend, and onnxruntime-web on an
 * ONNX model that onnx-encoder.ts writes of the same weights. First all must give the same features; then they are timed in turns, by the
 * clock. Ratios are what counts. `--layers 2` is the same comparison in a sixth of the time and memory.
 */
import { parseArgs } from 'node:util';
import type { Tensor4D } from '@tensorflow/tfjs-core';
import { dispose, getBackend, randomUniform, setBackend, tidy, transpose } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-web';
import { setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { GIT_BASE_RECIPE, generatedStore } from '../src/checkpoint/generated-weights.js';
import { loadParams } from '../src/checkpoint/load-params.js';
import { parseGitConfig, type VisionConfig } from '../src/index.js';
import { runSteps } from '../src/layers/tidy.js';
import { type VisionEncoder, visionEncoderSpec, visionSteps } from '../src/model/vision-encoder.js';
import { type NodeBackend, quietTensorflow, startBackend } from '../src/node.js';
import { type OnnxFormat, onnxEncoder } from './onnx-encoder.js';
import { load, machine, median, ms, table, timeTogether } from './support.js';

const { values } = parseArgs({
  options: {
    layers: { type: 'string', default: '12' },
    runs: { type: 'string', default: '5' },
    threads: { type: 'string', default: '1' },
    peers: { type: 'string', default: 'simd,simd:int8,simd:int8-fast,wasm,onnx,onnx:int8' },
  },
});
const [layers, runs, threads] = [values.layers, values.runs, values.threads].map(Number) as [number, number, number];

/** How far features may be apart, of the largest: float32 sums in another order, and weights and activations of 8 bits. */
const TOLERANCE = { f32: 1e-4, bf16: 0.1, f16: 0.02, int8: 0.15, 'int8-fast': 0.15 } as const satisfies Record<
  WeightFormat,
  number
>;

/** One program that encodes the image. */
interface Peer {
  readonly name: string;
  readonly format: WeightFormat;
  encode(): Promise<Float32Array>;
}

const { vision } = parseGitConfig({
  ...{ model_type: 'git', num_hidden_layers: 1 },
  vision_config: { hidden_size: 768, num_hidden_layers: layers, num_attention_heads: 12, intermediate_size: 3072 },
});
const PREFIX = 'git.image_encoder.vision_model.';
const spec = { git: { image_encoder: { vision_model: visionEncoderSpec(vision) } } };
const store = generatedStore(spec, GIT_BASE_RECIPE);
const side = vision.imageSize;

async function tfjsPeer(backend: NodeBackend, format: WeightFormat): Promise<Peer> {
  await startBackend(backend);
  if (getBackend() === 'simd') setThreads(threads);
  const weights = backend === 'simd' ? { weights: format } : {};
  const { git } = await loadParams(spec, store, weights);
  const tower = git.image_encoder.vision_model as VisionEncoder;
  const pixels: Tensor4D = randomUniform([1, side, side, 3], -2, 2, 'float32', 7);
  const encode = async () => {
    await setBackend(backend);
    const features = runSteps(visionSteps(tower, pixels, vision as VisionConfig));
    const numbers = (await features.data()) as Float32Array;
    dispose(features);
    return numbers;
  };
  return { name: `${backend} ${format}`, format, encode };
}

async function onnxPeer(format: OnnxFormat): Promise<Peer> {
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = 'error';
  const model = await onnxEncoder(vision, store, PREFIX, format);
  const session = await ort.InferenceSession.create(model, { graphOptimizationLevel: 'all' });
  const first = tidy(() => transpose(randomUniform([1, side, side, 3], -2, 2, 'float32', 7), [0, 3, 1, 2]));
  const pixels = new ort.Tensor('float32', (await first.data()) as Float32Array, [1, 3, side, side]);
  dispose(first);
  const encode = async () => {
    const { features } = await session.run({ pixels });
    return features!.data as Float32Array;
  };
  return { name: `onnxruntime-web ${format}`, format, encode };
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
  const [name, format = 'f32'] = asked.split(':') as [NodeBackend | 'onnx', WeightFormat?];
  process.stderr.write(`loading ${asked} …\n`);
  peers.push(name === 'onnx' ? await onnxPeer(format as OnnxFormat) : await tfjsPeer(name, format));
}

const reference = (await peers.find(({ format }) => format === 'f32')?.encode()) ?? (await peers[0]!.encode());
const apart: number[] = [];
for (const { name, format, encode } of peers) {
  const far = distance(await encode(), reference);
  if (!(far <= TOLERANCE[format])) throw new Error(`${name}: features differ by ${far} of the largest`);
  apart.push(far);
}

const before = load();
const times = await timeTogether(
  runs,
  peers.map(({ encode }) => encode),
  true,
);
const medians = times.map(median);
const text = `${layers} layers, one image of ${side} px, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
console.log(
  `${machine()}; ${before} before, ${load()} after\n${text}, by the clock, medians of ${runs} runs in turns\n`,
);
console.log(
  table([
    ['encode', 'median', ...peers.map(({ name }) => `/ ${name}`), 'features differ by'],
    ...peers.map(({ name }, row) => [
      name,
      ms(medians[row]!),
      ...medians.map((other) => `${(other / medians[row]!).toFixed(2)}x`),
      apart[row]!.toExponential(1),
    ]),
  ]),
);
console.log('\nA column says how many times as fast as its program each row is.');
if (threads > 1) process.exit(0); // the workers of onnxruntime-web would keep the process
