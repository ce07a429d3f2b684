import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { getBackend } from '@tensorflow/tfjs-core';
import * as z from 'zod/mini';
import { generatedStore, generatedTensor, type WeightRecipe } from '../checkpoint/generated-weights.js';
import { readJson } from '../checkpoint/json.js';
import { defaultImageConfig } from '../image/image-config.js';
import { preprocess } from '../image/preprocess.js';
import { specEntries } from '../layers/param-spec.js';
import { disposeCache, type Git, gitSpec } from '../model/git.js';
import { type GitConfig, parseGitConfig } from '../model/git-config.js';
import { loadGitParams } from '../model/load-git.js';
import type { HostTensor } from './cases.js';
import {
  type CaseFile,
  type CaseKind,
  exactRow,
  type Folder,
  failed,
  needTensor,
  notRun,
  type ParityCase,
  type ParityRow,
  type ParityScope,
  readCaseFile,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { compareIdRows, compareNumbers, compareTensor } from './compare.js';
import { forwardStages, readForwardInput, type Stages, tiledCache } from './forward.js';
import { generationGolden, runGolden } from './generation-cases.js';
import { channelsLast, readImage } from './image-cases.js';

/** The recipe of a model whose weights are a formula (docs/parity.md), and what the formula should give. */
const WEIGHTS_FILE = 'weights.json';

/** By this a file is known. */
const weightsSign = z.object({ salt: z.string(), rules: z.array(z.unknown()) });

const weightsSchema = z.catchall(
  z.object({
    salt: z.string(),
    /** Suffix of a name, offset, scale; the first that fits counts. */
    rules: z.array(z.tuple([z.string(), z.number(), z.number()])),
    tensors: z._default(
      z.array(
        z.object({
          name: z.string(),
          shape: z.array(z.int().check(z.minimum(1))),
          first8: z.array(z.number()),
          last: z.number(),
          sha256_f32le: z.optional(z.string()),
        }),
      ),
      [],
    ),
  }),
  z.unknown(),
);
type Weights = z.infer<typeof weightsSchema>;

const readWeightsFile = (folder: string): Promise<Weights> => readJsonFile(folder, WEIGHTS_FILE, weightsSchema);

async function readGitConfig(folder: string): Promise<GitConfig> {
  const json = readJson(new Uint8Array(await readFile(join(folder, 'config.json'))), 'config.json');
  return parseGitConfig(json, 'config.json');
}

/** The model of config.json with weights by the formula. */
async function generateGit(folder: string, signal: AbortSignal | undefined): Promise<Git> {
  const config = await readGitConfig(folder);
  const store = generatedStore(gitSpec(config), recipeOf(await readWeightsFile(folder)));
  return { config, params: await loadGitParams(config, store, WEIGHTS_FILE, signal === undefined ? {} : { signal }) };
}

/** `eos_bias_added_to_output_bias_102: 5.5` adds to one element of the output bias. */
function recipeOf(weights: Weights): WeightRecipe {
  const add = Object.entries(weights).flatMap(([key, value]) => {
    const [, index] = /^eos_bias_added_to_output_bias_(\d+)$/.exec(key) ?? [];
    return index === undefined ? [] : [{ name: 'output.bias', index: Number(index), value: Number(value) }];
  });
  return { salt: weights.salt, rules: weights.rules, add };
}

/** The formula itself: names and shapes against the model's, values and hashes of all tensors, bit for bit. */
async function* checkGeneratedWeights(
  folder: string,
  caseName: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<ParityRow> {
  const weights = await readWeightsFile(folder);
  const recipe = recipeOf(weights);
  const shapes = new Map(specEntries(gitSpec(await readGitConfig(folder))).map(({ name, spec }) => [name, spec.shape]));
  const misfits = weights.tensors.filter(({ name, shape }) => shapes.get(name)?.join() !== shape.join());
  const missing = shapes.size - (weights.tensors.length - misfits.length);
  yield exactRow(
    caseName,
    'names and shapes',
    misfits.length + missing,
    `${misfits[0]?.name ?? 'a tensor'} does not fit`,
  );
  const wrong: string[] = [];
  for (const tensor of weights.tensors) {
    signal?.throwIfAborted();
    const bytes = await generatedTensor(tensor.name, tensor.shape, recipe).read();
    const values = new Float32Array(bytes.buffer);
    const ends = tensor.first8.every((value, i) => values[i] === value) && values.at(-1) === tensor.last;
    const hash = tensor.sha256_f32le;
    if (!ends || (hash !== undefined && createHash('sha256').update(bytes).digest('hex') !== hash))
      wrong.push(tensor.name);
  }
  yield exactRow(caseName, `values of ${weights.tensors.length} tensors`, wrong.length, wrong[0]);
}

const statistics = z.object({
  mean: z.number(),
  std: z.number(),
  l2: z.number(),
  min: z.number(),
  max: z.number(),
  first8: z.array(z.number()),
  last8: z.array(z.number()),
});
type Statistics = z.infer<typeof statistics>;

/** What a case says of a stage that is too large to be stored. */
const layerFacts = z.object({
  shape: z.array(z.int()),
  f64: statistics,
  /** Largest over the whole stage. */
  f32_vs_f64_max_abs: z.number(),
  suggested_atol: z.number(),
});
type LayerFacts = z.infer<typeof layerFacts>;

/**
 * Compares a stage with what is known of it: its first and last values, extremes, mean, standard deviation and root mean square. If
 * no element is off by more than the tolerance, none of these is, so one tolerance judges them all. The error is over these few
 * numbers, the reference's own over the whole stage, so the ratio is less than that of whole stages would be.
 */
function compareLayer(caseName: string, layer: string, ours: HostTensor, facts: LayerFacts): ParityRow {
  if (ours.shape.join() !== facts.shape.join()) {
    return failed(caseName, layer, `ours has shape [${ours.shape}], the reference [${facts.shape}]`);
  }
  const size = ours.values.length;
  const [truth, found] = [facts.f64, statisticsOf(ours.values)].map((s) => numbersOf(s, size));
  const host = (values: readonly number[]): HostTensor => ({ shape: [values.length], values });
  return compareNumbers(caseName, layer, host(found!), {
    expected: host(truth!),
    referenceError: facts.f32_vs_f64_max_abs,
    isTruth: true,
    tolerance: facts.suggested_atol,
  });
}

const numbersOf = ({ first8, last8, min, max, mean, std, l2 }: Statistics, size: number): number[] => [
  ...first8,
  ...last8,
  min,
  max,
  mean,
  std,
  l2 / Math.sqrt(size),
];

function statisticsOf(values: ArrayLike<number>): Statistics {
  const size = values.length;
  let [sum, squares, min, max] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < size; i++) {
    const x = values[i]!;
    sum += x;
    squares += x * x;
    if (x < min) min = x;
    if (x > max) max = x;
  }
  const mean = sum / size;
  let spread = 0;
  for (let i = 0; i < size; i++) spread += (values[i]! - mean) ** 2;
  const at = (from: number) => Array.from({ length: Math.min(8, size) }, (_, i) => values[from + i]!);
  const l2 = Math.sqrt(squares);
  return { mean, std: Math.sqrt(spread / size), l2, min, max, first8: at(0), last8: at(Math.max(0, size - 8)) };
}

/** By this the case of a generated model is known. */
const sign = z.object({ layers: z.record(z.string(), z.unknown()) });

const caseSchema = z.object({
  /** What `pixel_values` was made from. */
  picture: z.optional(z.string()),
  layers: z.record(z.string(), layerFacts),
  top5: z.optional(z.object({ ids: z.array(z.int()), logits_f64: z.array(z.number()) })),
  generation: z._default(z.record(z.string(), generationGolden), {}),
});
type FullCase = z.infer<typeof caseSchema>;

/** A model of real size whose weights are a formula: config.json, weights.json, and cases with statistics instead of whole tensors. */
export const fullSizeCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!folder.files.includes('config.json') || !unclaimed.includes(WEIGHTS_FILE)) return undefined;
    if (!(await sniffJson(folder.path, WEIGHTS_FILE, weightsSign))) return undefined;
    const cases: ParityCase[] = [weightsCase(folder)];
    const claims = [WEIGHTS_FILE];
    for (const file of unclaimed.filter((name) => name.endsWith('.json') && name !== WEIGHTS_FILE)) {
      if (!(await sniffJson(folder.path, file, sign))) continue;
      const base = file.replace(/\.json$/, '');
      const full = await readJsonFile(folder.path, file, caseSchema);
      cases.push(
        ...imageCase(folder, base, full),
        forwardCase(folder, base, full),
        ...Object.keys(full.generation).map((key) => goldenCase(folder, base, full, key)),
      );
      claims.push(file, `${base}.safetensors`);
    }
    return { cases, claims };
  },
};

function weightsCase(folder: Folder): ParityCase {
  const name = `${folder.label}/weights`;
  return { name, run: ({ signal }) => checkGeneratedWeights(folder.path, name, signal) };
}

/** The model input from the image, exactly. */
function imageCase(folder: Folder, base: string, { picture: image }: FullCase): ParityCase[] {
  if (image === undefined) return [];
  const name = `${folder.label}/${base}/${image}`;
  return [
    {
      name,
      async *run() {
        const { vision } = await readGitConfig(folder.path);
        const { data, shape } = preprocess([await readImage(folder.path, image)], defaultImageConfig(vision.imageSize));
        const expected = needTensor(await readCaseFile(folder.path, base, false), 'pixel_values');
        const values = channelsLast(expected.values, expected.shape.slice(1));
        yield compareNumbers(
          name,
          'pixel_values',
          { shape, values: data },
          {
            expected: { shape: [1, ...expected.shape.slice(2), 3], values },
            isTruth: false,
            tolerance: 0,
          },
        );
      },
    },
  ];
}

const tooSlow = ({ asked }: ParityScope): boolean => getBackend() === 'cpu' && !asked;
const WHY_SLOW = 'a model of real size takes too long on the cpu backend; run it on wasm, or name it with --only';

const modelOf = ({ models, signal }: ParityScope, folder: Folder): Promise<Git> =>
  models.get(folder.path, () => generateGit(folder.path, signal));

function forwardCase(folder: Folder, base: string, full: FullCase): ParityCase {
  const name = `${folder.label}/${base}`;
  return {
    name,
    async *run(scope) {
      if (tooSlow(scope)) {
        yield notRun(name, '-', WHY_SLOW);
        return;
      }
      const git = await modelOf(scope, folder);
      const file = await readCaseFile(folder.path, base, false);
      const stages = await forwardStages(git, readForwardInput(file, git.config), false);
      for (const [layer, facts] of Object.entries(full.layers)) {
        const stage = stages.get(layer);
        yield stage === undefined
          ? notRun(name, layer, 'the model has no stage of this name')
          : compareLayer(name, layer, stage(), facts);
      }
      yield* wholeTensors(name, stages, file, full);
    },
  };
}

/** The tensors that the case has as a whole, judged by the tolerance of their stage. */
function* wholeTensors(caseName: string, stages: Stages, file: CaseFile, full: FullCase): Generator<ParityRow> {
  const atol = (stage: string) => full.layers[stage]?.suggested_atol;
  const tolerances = { vision_features: atol('vision.post_layernorm'), logits_last: atol('logits') };
  const suggested = Object.fromEntries(Object.entries(tolerances).filter(([, value]) => value !== undefined));
  const judged: CaseFile = { ...file, facts: { ...file.facts, suggested_atol: suggested as Record<string, number> } };
  const logits = lastRow(stages.get('logits')!());
  if (file.tensors.has('vision_features')) {
    yield compareTensor(caseName, 'vision_features', stages.get('vision.post_layernorm')!(), judged);
  }
  if (file.tensors.has('logits_last')) yield compareTensor(caseName, 'logits_last', logits, judged);
  if (full.top5 === undefined) return;
  const best = Array.from(logits.values, (value, id) => ({ value, id })).sort((a, b) => b.value - a.value);
  const top = best.slice(0, full.top5.ids.length).map(({ id }) => id);
  yield compareIdRows(caseName, 'top5', [top], [full.top5.ids]);
}

/** The last position of logits [1, S, V]: [V]. */
function lastRow({ shape, values }: HostTensor): HostTensor {
  const width = shape.at(-1)!;
  return { shape: [width], values: Array.from({ length: width }, (_, i) => values[values.length - width + i]!) };
}

function goldenCase(folder: Folder, base: string, full: FullCase, key: string): ParityCase {
  const name = `${folder.label}/${base}/${key}`;
  const golden = full.generation[key]!;
  return {
    name,
    async *run(scope) {
      if (tooSlow(scope)) {
        yield notRun(name, 'sequences', WHY_SLOW);
        return;
      }
      const git = await modelOf(scope, folder);
      const file = await readCaseFile(folder.path, base, false);
      const { pixels } = readForwardInput(file, git.config);
      const image = tiledCache(git, pixels ?? needTensor(file, 'pixel_values'), golden.input_ids.length);
      try {
        yield* runGolden(git, image, golden, name, scope.signal);
      } finally {
        disposeCache(image);
      }
    },
  };
}
