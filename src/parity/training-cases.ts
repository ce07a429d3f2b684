import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Tensor, tensor, transpose } from '@tensorflow/tfjs-core';
import { z } from 'zod/mini';
import { ConfigError } from '../errors.js';
import { type Git, plainForward, storedLayouts, toStoredLayout } from '../model/git.js';
import type { LoraAdapter } from '../model/lora.js';
import type { TrainingBatch } from '../training/backward.js';
import { type Optimization, type OptimizationOptions, startOptimization } from '../training/optimizer.js';
import type { CaseFile, CaseKind, Folder, HostTensor, ParityCase, ParityRow } from './cases.js';
import { exactRow, needTensor, notRun, readCaseFile, readJsonFile, sniffJson } from './cases.js';
import { compareNumbers, compareTensor, largestError } from './compare.js';
import { outputNames, pixelTensor, readForwardInput } from './forward.js';

/** Key biases have no true gradient (softmax does not see a shift), so that what rounding leaves is judged by the norm of all. */
const KEY_BIAS = /\.(key|k_proj)\.bias$/;

const plainRun: Omit<OptimizationOptions, 'steps'> = {
  schedule: 'constant',
  warmupSteps: 0,
  learningRate: 1e-3,
  visionLearningRate: 1e-3,
  weightDecay: () => 0.01, // of every parameter, as these cases state
  labelSmoothing: 0,
  betas: [0.9, 0.999],
  epsilon: 1e-8,
  recompute: false,
  freeze: [],
};

/** A tensor of a model in the checkpoint's layout, on the host. Disposes of nothing. */
async function stored(git: Git, name: string, parameter: Tensor): Promise<HostTensor> {
  const layout = storedLayouts(git.config).get(name) ?? 'as-is';
  const stored = toStoredLayout(layout, parameter);
  try {
    return { shape: stored.shape, values: await stored.data() };
  } finally {
    stored.dispose();
  }
}

const rowsOf = ({ shape, values }: HostTensor): number[][] =>
  Array.from({ length: shape[0]! }, (_, row) =>
    Array.from({ length: shape[1]! }, (_, column) => values[row * shape[1]! + column]!),
  );

/**
 * A model's `training` case: the plain pass, and three AdamW steps on one batch, with the losses before and after, the first gradients and
 * some parameters.
 */
export async function* runTraining(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const input = readForwardInput(file, git.config);
  const labels = rowsOf(needTensor(file, 'labels'));
  const pixels = input.pixels && pixelTensor(input.pixels);
  const batch: TrainingBatch = { pixels, ids: input.ids, labels, attentionMask: input.attentionMask };
  const ours = new Map<string, HostTensor>();
  const optimization = startOptimization(git, { ...plainRun, steps: 4 });
  const losses: number[] = [];
  try {
    ours.set('logits', await plainLogits(git, batch));
    ours.set('loss_label_smoothing_kl', scalar(await lossOnly(git, batch, 0.1)));
    for (let step = 0; step < 4; step++) {
      const report = await optimization.step([batch], {
        async onGradients(gradients) {
          if (step > 0) return;
          for (const [name, gradient] of gradients) ours.set(`grad.${name}`, await stored(git, name, gradient));
        },
      });
      losses.push(report.loss);
      if (step === 0) ours.set('grad_l2_norm_all', scalar(report.gradNorm));
      if (step === 0 || step === 2)
        for (const [name, parameter] of optimization.state().parameters)
          ours.set(`step${step + 1}.${name}`, await stored(git, name, parameter));
    }
  } finally {
    optimization.dispose();
    pixels?.dispose();
  }
  ours.set('loss', { shape: [losses.length], values: losses });
  for (const name of outputNames(file)) {
    const found = ours.get(name);
    if (found === undefined) yield notRun(caseName, name, 'no such tensor of a training run');
    else yield compareTensor(caseName, name, { shape: file.tensors.get(name)!.shape, values: found.values }, file);
  }
}

const scalar = (value: number): HostTensor => ({ shape: [1], values: [value] });

async function plainLogits(git: Git, { pixels, ids, attentionMask }: TrainingBatch): Promise<HostTensor> {
  const logits = plainForward(git, pixels, ids, attentionMask);
  try {
    return { shape: logits.shape, values: await logits.data() };
  } finally {
    logits.dispose();
  }
}

/** The loss with label smoothing, without an update. */
async function lossOnly(git: Git, batch: TrainingBatch, labelSmoothing: number): Promise<number> {
  const optimization = startOptimization(git, {
    ...plainRun,
    steps: 1,
    learningRate: 0,
    visionLearningRate: 0,
    labelSmoothing,
  });
  try {
    return (await optimization.step([batch])).loss;
  } finally {
    optimization.dispose();
  }
}

const reportsSchema = z.array(
  z.object({ loss: z.number(), grad_norm: z.number(), lr_factor: z.number(), tokens: z.int() }),
);
const schema = z.object({
  /** A folder beside this one. */
  model: z.string(),
  options: z.object({
    steps: z.int(),
    accumulate: z.int(),
    label_smoothing: z.number(),
    lr: z.number(),
    vision_lr: z.number(),
    warmup_steps: z.int(),
    schedule: z.enum(['constant', 'linear', 'cosine']),
    max_grad_norm: z.number(),
    weight_decay: z.number(),
    freeze: z.array(z.string()),
    lora: z.nullable(z.object({ r: z.int(), alpha: z.number(), targets: z.array(z.string()) })),
    betas: z.tuple([z.number(), z.number()]),
    eps: z.number(),
  }),
  f64: reportsSchema,
  final_l2: z.record(z.string(), z.number()),
});
type Run = z.infer<typeof schema>;

/** Relative tolerance of losses, norms and rates; absolute of final parameters; of gradients beside the largest of their parameter. */
const TOLERANCE = { report: 4e-6, final: 2e-6, gradient: 1e-5, keyBias: 1e-6 };

/** Fine-tuning runs of a model in another folder: NAME.json with the options and the reports of each step, NAME.safetensors with batches. */
export const finetuneCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      const name = file.slice(0, -'.json'.length);
      if (!folder.files.includes(`${name}.safetensors`) || !(await sniffJson(folder.path, file, schema))) continue;
      cases.push(finetuneCase(folder, name));
      claims.push(file, `${name}.safetensors`);
    }
    return { cases, claims };
  },
};

function finetuneCase(folder: Folder, name: string): ParityCase {
  const caseName = `${folder.label}/${name}`;
  return {
    name: caseName,
    async *run({ models, signal }) {
      const run = await readJsonFile(folder.path, `${name}.json`, schema);
      const { tensors } = await readCaseFile(folder.path, name, false);
      const git = await models.get(await modelFolder(folder, run.model));
      const optimization = startOptimization(git, optionsOf(run, tensors));
      try {
        yield* runSteps(git, optimization, run, tensors, caseName, signal);
        yield* finalRows(git, optimization, run, tensors, caseName);
      } finally {
        optimization.dispose();
      }
    },
  };
}

/** The model's folder: beside the runs, or inside their folder. */
async function modelFolder({ path }: Folder, model: string): Promise<string> {
  for (const candidate of [join(path, '..', model), join(path, model)])
    if ((await stat(candidate).catch(() => undefined))?.isDirectory() === true) return candidate;
  throw new ConfigError({
    file: path,
    path: 'model',
    code: 'case-layout',
    detail: `there is no folder ${model} beside it`,
  });
}

function optionsOf({ options: o }: Run, tensors: ReadonlyMap<string, HostTensor>): OptimizationOptions {
  return {
    steps: o.steps,
    schedule: o.schedule,
    warmupSteps: o.warmup_steps,
    learningRate: o.lr,
    visionLearningRate: o.vision_lr,
    weightDecay: o.weight_decay,
    maxGradNorm: o.max_grad_norm,
    labelSmoothing: o.label_smoothing,
    betas: o.betas,
    epsilon: o.eps,
    recompute: true,
    freeze: o.freeze,
    adapter: o.lora === null ? undefined : initialAdapter(o.lora, tensors),
  };
}

/** The adapter that the run began with, `init.NAME.lora_A` and `init.NAME.lora_B`. */
function initialAdapter(
  { r, alpha, targets }: { r: number; alpha: number; targets: readonly string[] },
  tensors: ReadonlyMap<string, HostTensor>,
): LoraAdapter {
  const layers = new Map<string, { a: never; b: never; scale: number }>();
  const matrix = ({ shape, values }: HostTensor) => tensor(Array.from(values), [...shape], 'float32') as never;
  for (const [name, a] of tensors) {
    const layer = /^init\.(.+)\.lora_A$/.exec(name)?.[1];
    if (layer === undefined) continue;
    layers.set(layer, { a: matrix(a), b: matrix(tensors.get(`init.${layer}.lora_B`)!), scale: alpha / r });
  }
  return { rank: r, alpha, targets, layers };
}

async function* runSteps(
  git: Git,
  optimization: Optimization,
  { options, f64 }: Run,
  tensors: ReadonlyMap<string, HostTensor>,
  caseName: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<ParityRow> {
  const reports = {
    loss: [] as number[],
    grad_norm: [] as number[],
    lr_factor: [] as number[],
    tokens: [] as number[],
  };
  const gradients: ParityRow[] = [];
  for (let step = 0; step < options.steps; step++) {
    signal?.throwIfAborted();
    const batches = Array.from({ length: options.accumulate }, (_, n) =>
      batchOf(tensors, step * options.accumulate + n),
    );
    try {
      const report = await optimization.step(batches, {
        async onGradients(found) {
          if (step > 0) return;
          const all = f64[0]!.grad_norm;
          for (const [name, gradient] of found) {
            const row = gradientRow(caseName, name, await stored(git, name, gradient), tensors, all);
            if (row !== undefined) gradients.push(row);
          }
        },
      });
      reports.loss.push(report.loss);
      reports.grad_norm.push(report.gradNorm);
      reports.lr_factor.push(report.rateFactor);
      reports.tokens.push(report.tokens);
    } finally {
      for (const { pixels } of batches) pixels?.dispose();
    }
  }
  yield* gradients;
  for (const name of ['loss', 'grad_norm', 'lr_factor'] as const) {
    const expected = f64.map((row) => row[name]);
    const relative = reports[name].map((value, step) => (expected[step] === 0 ? value + 1 : value / expected[step]!));
    yield compareNumbers(
      caseName,
      name,
      { shape: [relative.length], values: relative },
      {
        expected: { shape: [expected.length], values: expected.map(() => 1) },
        isTruth: false,
        tolerance: TOLERANCE.report,
      },
    );
  }
  const wrong = reports.tokens.filter((count, step) => count !== f64[step]!.tokens).length;
  yield exactRow(caseName, 'tokens', wrong, `ours ${reports.tokens}, expected ${f64.map(({ tokens }) => tokens)}`);
}

function batchOf(tensors: ReadonlyMap<string, HostTensor>, n: number): TrainingBatch {
  const need = (name: string): HostTensor => {
    const found = tensors.get(`batch.${n}.${name}`);
    if (found !== undefined) return found;
    throw new ConfigError({ path: `batch.${n}.${name}`, code: 'case-layout', detail: 'this tensor is missing' });
  };
  const { shape, values } = need('pixel_values');
  const channelsFirst = tensor(Array.from(values), [...shape], 'float32');
  const pixels = transpose(channelsFirst, shape.length === 5 ? [0, 1, 3, 4, 2] : [0, 2, 3, 1]);
  channelsFirst.dispose();
  return { pixels: pixels as never, ids: rowsOf(need('input_ids')), labels: rowsOf(need('labels')) };
}

function gradientRow(
  caseName: string,
  name: string,
  ours: HostTensor,
  tensors: ReadonlyMap<string, HostTensor>,
  normOfAll: number,
): ParityRow | undefined {
  const expected = tensors.get(`grad.${name}.f64`);
  if (expected === undefined) return undefined;
  const run = tensors.get(`grad.${name}`);
  const largest = Array.from(expected.values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return compareNumbers(
    caseName,
    `grad.${name}`,
    { shape: expected.shape, values: ours.values },
    {
      expected,
      ...(run === undefined ? {} : { referenceError: largestError(run.values, expected.values).error }),
      isTruth: true,
      tolerance: KEY_BIAS.test(name) ? TOLERANCE.keyBias * normOfAll : TOLERANCE.gradient * largest,
    },
  );
}

/** Every parameter at the end, and the norms of all. */
async function* finalRows(
  git: Git,
  optimization: Optimization,
  { final_l2: norms }: Run,
  tensors: ReadonlyMap<string, HostTensor>,
  caseName: string,
): AsyncGenerator<ParityRow> {
  for (const [name, parameter] of optimization.state().parameters) {
    const expected = tensors.get(`final.${name}.f64`);
    const ours = await stored(git, name, parameter);
    if (expected !== undefined) {
      const run = tensors.get(`final.${name}`);
      yield compareNumbers(caseName, `final.${name}`, ours, {
        expected,
        ...(run === undefined ? {} : { referenceError: largestError(run.values, expected.values).error }),
        isTruth: true,
        tolerance: TOLERANCE.final,
      });
    }
    const norm = norms[name];
    if (norm === undefined || KEY_BIAS.test(name)) continue;
    const found = Math.sqrt(Array.from(ours.values).reduce((sum, value) => sum + value * value, 0));
    yield compareNumbers(
      caseName,
      `final_l2.${name}`,
      { shape: [1], values: [found / norm] },
      {
        expected: { shape: [1], values: [1] },
        isTruth: false,
        tolerance: TOLERANCE.report,
      },
    );
  }
}
