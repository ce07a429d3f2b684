/**
 * Trains the demo checkpoint from random numbers, on scenes that it draws itself:
 *
 *     npx tsx examples/train-demo/train.ts FOLDER [--steps 20000] [--batch 16] [--videos 4] [--threads 1] [--seed 1]
 *     npx tsx examples/train-demo/train.ts FOLDER --videos-from CHECKPOINT [--steps 3000] [--videos 8] …
 *
 * The second line goes on from a checkpoint of the first, whose images it keeps, and learns what videos show. FOLDER gets `state.safetensors` every few minutes, `log.jsonl`, and the checkpoint in `last/`. The same line goes on after a kill.
 */
import { parseArgs } from 'node:util';
import { memory, type Tensor, type Tensor3D, type Tensor4D, tensor } from '@tensorflow/tfjs-core';
import { setThreads } from 'tfjs-backend-simd';
import { fromDirectory, loadImage2Text, quietTensorflow, startBackend, trainingFolder } from '../../src/node.js';
import {
  loadRun,
  type Moments,
  padBatch,
  saveModel,
  saveRun,
  startOptimization,
  subfolder,
  type TrainingBatch,
  tokenizePair,
  withInitialWeights,
} from '../../src/training/index.js';
import { type DrawnBatch, startDrawing } from './batches.js';
import { measureAccuracy } from './evaluate.js';
import { createClassifiers } from './reading.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'videos-from': { type: 'string' },
    steps: { type: 'string' },
    batch: { type: 'string', default: '16' },
    videos: { type: 'string' },
    threads: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    'learning-rate': { type: 'string' },
    'save-minutes': { type: 'string', default: '3' },
    'check-every': { type: 'string', default: '500' },
  },
});
const before = flags['videos-from'];
const defaults =
  before === undefined ? { steps: 20_000, videos: 4, rate: 1e-3 } : { steps: 3000, videos: 8, rate: 4e-4 };
const steps = Number(flags.steps ?? defaults.steps);
const seed = Number(flags.seed);
const learningRate = Number(flags['learning-rate'] ?? defaults.rate);
const checkEvery = Number(flags['check-every']);
const folder = await trainingFolder(positionals[0] ?? 'train-demo');

quietTensorflow();
await startBackend('simd');
setThreads(Number(flags.threads));

// The demo's config, vocabulary and preprocessing, and weights of random numbers.
const files = await fromDirectory(new URL('../../weights/demo/', import.meta.url).pathname);
const model = await loadImage2Text(before ?? (await withInitialWeights(files, { scheme: 'fan-in', seed })));
if (before !== undefined) {
  // Frames begin as waves: embeddings of zeros stay so, since which frame it is says nothing without where the object is, nor the other way round.
  const temporal = model.git.params.git.img_temperal_embedding as Tensor3D[];
  for (const [n, zero] of temporal.entries()) {
    const { shape, size } = zero;
    temporal[n] = tensor(
      Float32Array.from({ length: size }, (_, i) => 0.5 * Math.sin((n / 5) * Math.PI * (1 + (i % 8)) + i)),
      shape,
    );
    zero.dispose();
  }
}
const optimization = startOptimization(model.git, {
  ...{
    steps,
    schedule: 'cosine',
    warmupSteps: 100,
    learningRate,
    visionLearningRate: before === undefined ? learningRate : learningRate / 2,
  },
  ...{ weightDecay: 0.02, maxGradNorm: 1, labelSmoothing: 0, betas: [0.9, 0.98], epsilon: 1e-8 },
  ...{ recompute: false, freeze: [] },
});
const { hiddenSize, numHiddenLayers, grid, patchSize } = model.config.vision;
const { imageMean: mean, imageStd: std } = model.imageConfig;
const plan = {
  part: before === undefined ? ('images' as const) : ('videos' as const),
  ...{ seed, steps, images: Number(flags.batch), videos: Number(flags.videos ?? defaults.videos) },
  ...{ grid, patchSize, mean, std },
};
const kinds = ['letters', 'words', ...(before === undefined ? [] : ['places' as const])] as const;
const classifiers = createClassifiers(hiddenSize, numHiddenLayers, kinds);

// The state: parameters and moments of the model and, under names of their own, of the classifiers.
const OWN = 'reading.';
const identity = { steps, seed, batch: plan.images, videos: plan.videos, learningRate, part: plan.part };

async function save(): Promise<void> {
  const [state, own] = [optimization.state(), classifiers.state()];
  const named = <T>(map: ReadonlyMap<string, T>) => [...map].map(([name, value]) => [OWN + name, value] as const);
  const parameters = new Map([...state.parameters, ...named(own.parameters)]);
  const moments = new Map([...state.moments, ...named(own.moments)]);
  const position = { epoch: 0, drawn: 0, best: null, firstLoss: null };
  await saveRun(folder, { step: state.step, parameters, moments }, position, identity);
  await saveModel(model, subfolder(folder, 'last'), { git: optimization.current().git });
}

async function resume(): Promise<number> {
  const found = await loadRun(folder, identity);
  if (found === undefined) return 0;
  const { step, parameters, moments } = found.state;
  const part = <T>(map: ReadonlyMap<string, T>, own: boolean) =>
    new Map(
      [...map].flatMap(([name, value]) =>
        name.startsWith(OWN) === own ? [[own ? name.slice(OWN.length) : name, value] as const] : [],
      ),
    );
  optimization.restore({ step, parameters: part<Tensor>(parameters, false), moments: part<Moments>(moments, false) });
  classifiers.restore(step, part(parameters, true), part(moments, true));
  return step;
}

async function log(line: Readonly<Record<string, unknown>>): Promise<void> {
  const text = JSON.stringify(line, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value));
  await folder.append('log.jsonl', `${text}\n`);
  console.log(text);
}

let isStopped = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => (isStopped = true));

const started = Date.now();
const from = await resume();
await log({ from, ...identity, threads: flags.threads, at: new Date().toISOString() });
let saved = Date.now();
let losses: number[] = [];
let counted = Date.now();
const { draw } = startDrawing(plan);
let drawing = draw(from);

/** What the model learns of what was drawn. */
function toBatch({ pixels, shape, patches, texts }: DrawnBatch): TrainingBatch {
  const pairs = texts.map((pair) => tokenizePair(model.tokenizer, { ...pair, image: '' }, 'a drawn scene', 40));
  const tokens = pairs.length === 0 ? { ids: [], labels: [] } : padBatch(pairs, model.tokenizer.padId);
  return { pixels: tensor(pixels, shape as [number, number, number, number]) as Tensor4D, patches, ...tokens };
}

for (let step = from; step < steps; step++) {
  const drawn = await drawing;
  drawing = draw(step + 1); // while this step is learned
  const batches = new Map(drawn.map((one) => [toBatch(one), one.known] as const));
  const report = await optimization.step([...batches.keys()], {
    visionLoss: (outputs, batch) => {
      const known = batches.get(batch);
      return known === undefined ? new Map() : classifiers.gradients(outputs, batch, known);
    },
  });
  classifiers.update(learningRate * report.rateFactor);
  for (const { pixels } of batches.keys()) pixels!.dispose();
  losses.push(report.loss);
  const done = step + 1;
  if (done % 50 === 0) {
    const seconds = (Date.now() - counted) / 1000 / losses.length;
    const { user, system } = process.cpuUsage();
    const processor = (user + system) / 1e6; // seconds of processor time since the start
    const loss = losses.reduce((a, b) => a + b, 0) / losses.length;
    const { numTensors } = memory();
    await log({
      step: done,
      loss,
      ...(await classifiers.report()),
      gradNorm: report.gradNorm,
      seconds,
      processor,
      numTensors,
    });
    losses = [];
    counted = Date.now();
  }
  const last = done === steps;
  const speaks = drawn.some(({ texts }) => texts.length > 0);
  if (last || (speaks && done % checkEvery === 0)) {
    const whole = last || done % (10 * checkEvery) === 0;
    const accuracy = await measureAccuracy(optimization.current().git, model, whole ? 300 : 100, 30);
    await log({ step: done, ...accuracy, minutes: (Date.now() - started) / 60_000 });
    counted = Date.now();
  }
  if (last || isStopped || Date.now() - saved > 60_000 * Number(flags['save-minutes'])) {
    await save();
    saved = Date.now();
    if (isStopped) break;
  }
}
process.exit(0);
