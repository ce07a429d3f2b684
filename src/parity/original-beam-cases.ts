import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { generate } from '../generation/generate.js';
import type { GenerateOptions } from '../generation/options.js';
import { padRows } from '../generation/session.js';
import type { Git } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import { disposeCache } from '../model/kv-cache.js';
import {
  type CaseKind,
  type Folder,
  firstOf,
  notRun,
  type ParityCase,
  type ParityRow,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { compareIdRows } from './compare.js';
import { tiledCache } from './forward.js';
import { caseImages, idRows, scoreRow, vocabularyOf } from './generation-cases.js';

/** By these a file is known. */
const sign = z.object({
  cases: firstOf(z.object({ per_node_beam_size: z.unknown(), predictions: z.unknown() })),
});

const goldenSchema = z.object({
  /** A folder beside this one, or inside it. */
  model: z.string(),
  kind: z.string(),
  max_steps: z.int(),
  beam_size: z.int(),
  per_node_beam_size: z.int(),
  length_penalty: z.optional(z.number()),
  repetition_penalty: z.optional(z.number()),
  /** With this, predictions are one level deeper: several sentences for each image. */
  num_keep_best: z.optional(z.int()),
  images: z.array(z.int().check(z.minimum(0))),
  prefix: z.optional(idRows),
  predictions: z.union([idRows, z.array(idRows)]),
  logprobs: z.union([z.array(z.number()), z.array(z.array(z.number()))]),
});
const schema = z.object({ cases: z.array(goldenSchema) });
type OriginalGolden = z.infer<typeof goldenSchema>;

/** Outputs of the original project's decoders, on the models of other folders and the images of their `generation.safetensors`. */
export const originalBeamCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, sign))) continue;
      const { cases: goldens } = await readJsonFile(folder.path, file, schema);
      cases.push(...goldens.map((golden, index) => originalCase(folder, file, golden, index)));
      claims.push(file);
    }
    return { cases, claims };
  },
};

const IMAGES = 'generation.safetensors';

function originalCase(folder: Folder, file: string, golden: OriginalGolden, index: number): ParityCase {
  const number = String(index).padStart(2, '0');
  const name = `${folder.label}/${file.replace(/\.json$/, '')}/${number}-${golden.model}-${golden.kind}`;
  return {
    name,
    async *run({ models, signal }) {
      const path = await modelFolder(folder.path, golden.model);
      if (path === undefined) {
        yield notRun(name, 'sequences', `the model "${golden.model}" is neither in this folder nor beside it`);
        return;
      }
      const options = optionsOf(golden);
      if (options === undefined) {
        yield notRun(name, 'sequences', `no decoder here of the kind "${golden.kind.slice(0, 60)}"`);
        return;
      }
      const git = await models.get(path);
      const pixels = await caseImages(git, path, IMAGES, golden.images);
      yield* runOriginal(git, pixels, golden, { ...options, ...(signal && { signal }) }, name);
    },
  };
}

async function modelFolder(path: string, model: string): Promise<string | undefined> {
  for (const candidate of [join(path, model), join(path, '..', model)]) {
    if ((await stat(join(candidate, 'config.json')).catch(() => undefined))?.isFile()) return candidate;
  }
  return undefined;
}

/** `length_penalty` and `repetition_penalty` default to what the original's inference always uses. */
function optionsOf(golden: OriginalGolden): GenerateOptions | undefined {
  const common = { numBeams: golden.beam_size, perNode: golden.per_node_beam_size, maxLength: golden.max_steps };
  if (golden.kind.startsWith('autoregressive')) return { strategy: 'original-autoregressive', ...common };
  if (golden.kind !== 'beam') return undefined;
  return {
    strategy: 'original',
    ...common,
    lengthPenalty: golden.length_penalty ?? 0.6,
    repetitionPenalty: golden.repetition_penalty ?? 1,
    numReturnSequences: golden.num_keep_best ?? 1,
  };
}

async function* runOriginal(
  git: Git,
  pixels: Awaited<ReturnType<typeof caseImages>>,
  golden: OriginalGolden,
  options: GenerateOptions,
  caseName: string,
): AsyncGenerator<ParityRow> {
  const image = tiledCache(git, pixels, golden.images.length);
  try {
    const prompts = golden.prefix && golden.images.map((_, row) => golden.prefix![row] ?? golden.prefix![0]!);
    const found = (await generate(() => startSession(git, image), vocabularyOf(git), options, prompts)).flat();
    const expected = (
      golden.num_keep_best === undefined ? golden.predictions : golden.predictions.flat()
    ) as number[][];
    // The original drops the prefix and fills with end tokens as long as its batch needs.
    const prefix = golden.prefix?.[0]?.length ?? 0;
    const rows = found.map((row) => row.ids.slice(prefix));
    const ours = padRows(rows, git.config.eosTokenIds[0]!, expected[0]?.length ?? 0);
    yield compareIdRows(caseName, 'sequences', ours, expected);
    yield scoreRow(caseName, 'scores', found, golden.logprobs.flat());
  } finally {
    disposeCache(image);
  }
}
