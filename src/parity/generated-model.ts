import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod/mini';
import type { WeightRecipe } from '../checkpoint/generated-weights.js';
import { generatedStore, generatedTensor } from '../checkpoint/generated-weights.js';
import { readJson } from '../checkpoint/json.js';
import { specEntries } from '../layers/param-spec.js';
import type { Git } from '../model/git.js';
import { gitSpec } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import { parseGitConfig } from '../model/git-config.js';
import { loadGitParams } from '../model/load-git.js';
import { readJsonFile } from './case-file.js';
import type { ParityRow } from './parity-row.js';
import { exactRow } from './parity-row.js';

/** The recipe of a model whose weights are a formula (docs/parity.md), and what the formula should give. */
export const WEIGHTS_FILE = 'weights.json';

/** By this a file is known. */
export const weightsSign = z.object({ salt: z.string(), rules: z.array(z.unknown()) });

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

export async function readGitConfig(folder: string): Promise<GitConfig> {
  const json = readJson(new Uint8Array(await readFile(join(folder, 'config.json'))), 'config.json');
  return parseGitConfig(json, 'config.json');
}

/** The model of config.json with weights by the formula. */
export async function generateGit(folder: string, signal: AbortSignal | undefined): Promise<Git> {
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
export async function* checkGeneratedWeights(
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
