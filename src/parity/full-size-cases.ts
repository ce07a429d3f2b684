import { getBackend } from '@tensorflow/tfjs-core';
import { z } from 'zod/mini';
import { defaultImageConfig } from '../image/image-config.js';
import { preprocess } from '../image/preprocess.js';
import type { Git } from '../model/git.js';
import { disposeCache } from '../model/kv-cache.js';
import type { CaseFile } from './case-file.js';
import { needTensor, readCaseFile, readJsonFile, sniffJson } from './case-file.js';
import type { CaseKind, ParityCase, ParityScope } from './case-kind.js';
import type { HostTensor } from './compare.js';
import { compareNumbers, compareTensor } from './compare.js';
import { compareIdRows } from './compare-sequences.js';
import type { Folder } from './folders.js';
import { readForwardInput } from './forward-input.js';
import type { Stages } from './forward-stages.js';
import { forwardStages, tiledCache } from './forward-stages.js';
import { checkGeneratedWeights, generateGit, readGitConfig, WEIGHTS_FILE, weightsSign } from './generated-model.js';
import { generationGolden, runGolden } from './generation-golden.js';
import { channelsLast, readImage } from './image-rows.js';
import { compareLayer, layerFacts } from './layer-statistics.js';
import type { ParityRow } from './parity-row.js';
import { notRun } from './parity-row.js';

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
