/**
 * Trains the demo checkpoint from random numbers, on scenes that it draws itself:
 *
 *     npx tsx examples/train-demo/train.ts FOLDER [--steps 20000] [--batch 16] [--videos 4] [--threads 1] [--seed 1]
 *
 * FOLDER gets `state.safetensors` every few minutes, `log.jsonl`, and the checkpoint in `last/`. The same line goes on after a kill.
 */
import { parseArgs } from 'node:util';
import { memory, type Tensor, type Tensor4D, tensor } from '@tensorflow/tfjs-core';
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
import { createReadingClassifiers } from './reading.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    steps: { type: 'string', default: '20000' },
    batch: { type: 'string', default: '16' },
    videos: { type: 'string', default: '4' },
    threads: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    'learning-rate': { type: 'string', default: '1e-3' },
    'save-minutes': { type: 'string', default: '3' },
    'check-every': { type: 'string', default: '500' },
  },
});
const steps = Number(flags.steps);
const seed = Number(flags.seed);
const learningRate = Number(flags['learning-rate']);
const checkEvery = Number(flags['check-every']);
const folder = await trainingFolder(positionals[0] ?? 'train-demo');

quietTensorflow();
await startBackend('simd');
setThreads(Number(flags.threads));

// The demo's config, vocabulary and preprocessing, and weights of random numbers.
const files = await fromDirectory(new URL('../../weights/demo/', import.meta.url).pathname);
const model = await loadImage2Text(await withInitialWeights(files, { scheme: 'fan-in', seed }));
const optimization = startOptimization(model.git, {
  ...{
    steps,
    schedule: 'cosine',
    warmupSteps: 100,
    learningRate,
    visionLearningRate: learningRate,
  },
  ...{ weightDecay: 0.02, maxGradNorm: 1, labelSmoothing: 0, betas: [0.9, 0.98], epsilon: 1e-8 },
  ...{ recompute: false, freeze: [] },
});
const { hiddenSize, numHiddenLayers, grid, patchSize } = model.config.vision;
const { imageMean: mean, imageStd: std } = model.imageConfig;
const plan = {
  ...{ seed, steps, images: Number(flags.batch), videos: Number(flags.videos) },
  ...{ grid, patchSize, mean, std },
};
const reading = createReadingClassifiers(hiddenSize, numHiddenLayers);

// The state: parameters and moments of the model and, under names of their own, of the classifiers.
const OWN = 'reading.';
const identity = { steps, seed, batch: plan.images, videos: plan.videos, learningRate };

async function save(): Promise<void> {
  const [state, own] = [optimization.state(), reading.state()];
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
  reading.restore(step, part(parameters, true), part(moments, true));
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
  const batches = new Map(drawn.map((one) => [toBatch(one), one.printed] as const));
  const report = await optimization.step([...batches.keys()], {
    visionLoss: (outputs, batch) => {
      const printed = batches.get(batch);
      return printed === undefined ? new Map() : reading.gradients(outputs, batch, printed);
    },
  });
  reading.update(learningRate * report.rateFactor);
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
      ...(await reading.report()),
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
    const accuracy = await measureAccuracy(optimization.current().git, model, whole ? 300 : 100, whole ? 30 : 10);
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
