/**
 * `node --import tsx bench/webgpu.ts [--size base|tiny] [--image-size 224] [--weights f32,f16,int8] [--tokens 20] [--runs 5]`
 *
 * Our kernels for tfjs's webgpu backend beside tfjs's own, in turns, on whatever adapter there is: stages of a caption at the git-base size with
 * generated weights, medians by the clock, from the call to the numbers on the host. In Node through the npm package `webgpu`, which is Dawn;
 * VK_DRIVER_FILES names the Vulkan driver. On a software driver (SwiftShader) the ratios say little about a GPU.
 */
import { parseArgs } from 'node:util';
import type { Tensor4D } from '@tensorflow/tfjs-core';
import { backend, getKernelsForBackend, randomUniform, registerKernel, unregisterKernel } from '@tensorflow/tfjs-core';
import type { WeightFormat } from 'tfjs-backend-simd';
import { GIT_BASE_RECIPE, generatedStore } from '../src/checkpoint/generated-weights.js';
import {
  encodeImage,
  type Git,
  gitSpec,
  imageFeatures,
  parseGitConfig,
  prefillImage,
  startSession,
} from '../src/index.js';
import { disposeCache, disposeGit } from '../src/model/git.js';
import { loadGitParams } from '../src/model/load-git.js';
import { quietTensorflow, startBackend } from '../src/node.js';
import { SIZES } from './measure-model.js';
import { load, machine, median, ms, table } from './support.js';

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: 'base' },
    'image-size': { type: 'string', default: '224' },
    weights: { type: 'string', default: 'f32,f16,int8' },
    tokens: { type: 'string', default: '20' },
    runs: { type: 'string', default: '5' },
  },
});
const [side, tokens, runs] = [values['image-size'], values.tokens, values.runs].map(Number) as [number, number, number];

quietTensorflow();
await startBackend('webgpu');
const ours = getKernelsForBackend('webgpu').filter(({ kernelName }) => kernelName.startsWith('Git'));

/** With our kernels registered, or without: then the layers are composed of tfjs's own. */
function useOurs(wanted: boolean): void {
  for (const kernel of ours) {
    const isThere = getKernelsForBackend('webgpu').includes(kernel);
    if (wanted && !isThere) registerKernel(kernel);
    if (!wanted && isThere) unregisterKernel(kernel.kernelName, 'webgpu');
  }
}

const STAGES = {
  encode: 'encode: pixels to features',
  prefill: 'prefill: features to cache',
  step: 'step: one token',
  recording: '  of it until the GPU has its work',
  beamStep: 'step: four beams',
  caption: `caption, greedy, ${tokens} tokens`,
} as const;
type Stage = keyof typeof STAGES;

async function clock(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return performance.now() - start;
}

/** Steps of `rows` beams after the first token: what each took, and how long until it was recorded and submitted. */
async function steps(git: Git, image: Parameters<typeof startSession>[1], rows: number, count: number) {
  const session = startSession(git, image);
  const took: { all: number; recording: number }[] = [];
  try {
    await session.step([[git.config.bosTokenId]]);
    session.reorder(new Array<number>(rows).fill(0));
    for (let i = 0; i < count; i++) {
      const start = performance.now();
      const step = session.step(Array.from({ length: rows }, (_, r) => [200 + r]));
      const recording = performance.now() - start;
      await step;
      took.push({ all: performance.now() - start, recording });
    }
  } finally {
    session.dispose();
  }
  return took.slice(1); // the first compiles
}

/** One turn: each stage once, the steps several times. */
async function turn(git: Git, pixels: Tensor4D): Promise<Record<Stage, number>> {
  const encode = await clock(async () => {
    const made = imageFeatures(git, pixels);
    await made.data();
    made.dispose();
  });
  const features = imageFeatures(git, pixels);
  await features.data();
  const prefill = await clock(async () => {
    const made = prefillImage(git, features);
    await made.at(-1)!.value.data();
    disposeCache(made);
  });
  const image = prefillImage(git, features);
  const [one, four] = [await steps(git, image, 1, 6), await steps(git, image, 4, 4)];
  features.dispose();
  disposeCache(image);
  const caption = await clock(async () => {
    const own = encodeImage(git, pixels);
    await steps(git, own, 1, tokens - 1);
    disposeCache(own);
  });
  const step = median(one.map(({ all }) => all));
  const recording = median(one.map((each) => each.recording));
  return { encode, prefill, step, recording, beamStep: median(four.map(({ all }) => all)), caption };
}

/** Medians of all turns, the first of which compiles and is not counted. */
const medians = (turns: readonly Record<Stage, number>[]): Record<Stage, number> =>
  Object.fromEntries(
    Object.keys(STAGES).map((stage) => [stage, median(turns.slice(1).map((each) => each[stage as Stage]))]),
  ) as Record<Stage, number>;

async function withModel<T>(weights: WeightFormat, body: (git: Git) => Promise<T>): Promise<T> {
  const { vocab_size, text, vision } = SIZES[values.size] ?? SIZES['base']!;
  const config = parseGitConfig({
    ...{ model_type: 'git', vocab_size, ...text },
    vision_config: { ...vision, image_size: side, patch_size: 16 },
  });
  const params = await loadGitParams(config, generatedStore(gitSpec(config), GIT_BASE_RECIPE), 'generated', {
    weights,
  });
  const git = { config, params };
  try {
    return await body(git);
  } finally {
    disposeGit(git);
  }
}

const { adapterInfo } = backend() as unknown as { adapterInfo: { vendor: string; architecture: string } };
console.log(
  `${machine()}, ${load()}; adapter ${adapterInfo.vendor} ${adapterInfo.architecture}\n` +
    `GIT ${values.size}, one image of ${side} px, medians of ${runs} turns by the clock\n`,
);
const pixels = randomUniform([1, side, side, 3], -2, 2, 'float32', 7) as Tensor4D;
const columns: { name: string; took: Record<Stage, number> }[] = [];
for (const format of values.weights.split(',') as WeightFormat[]) {
  await withModel(format, async (git) => {
    const turns: Record<'tfjs' | 'ours', Record<Stage, number>[]> = { tfjs: [], ours: [] };
    for (let run = 0; run <= runs; run++) {
      // tfjs's own kernels know f32 only: other formats would be unpacked for them.
      if (format === 'f32') {
        useOurs(false);
        turns.tfjs.push(await turn(git, pixels));
      }
      useOurs(true);
      turns.ours.push(await turn(git, pixels));
      process.stderr.write(`${format}: turn ${run} of ${runs}\n`);
    }
    if (format === 'f32') columns.push({ name: 'tfjs f32', took: medians(turns.tfjs) });
    columns.push({ name: `ours ${format}`, took: medians(turns.ours) });
  });
}
pixels.dispose();
const stock = columns.find(({ name }) => name.startsWith('tfjs'));
const compared = columns.filter((column) => stock !== undefined && column !== stock);
console.log(
  table([
    ['', ...columns.map(({ name }) => name), ...compared.map(({ name }) => `${name} against tfjs`)],
    ...(Object.keys(STAGES) as Stage[]).map((stage) => [
      STAGES[stage],
      ...columns.map(({ took }) => ms(took[stage])),
      ...compared.map(({ took }) => `${(stock!.took[stage] / took[stage]).toFixed(2)}x`),
    ]),
  ]),
);
console.log(`afterwards ${load()}`);
process.exit(0); // Dawn keeps the process alive
