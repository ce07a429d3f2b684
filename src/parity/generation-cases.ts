import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { gather, tensor1d, tidy } from '@tensorflow/tfjs-core';
import * as z from 'zod/mini';
import { generate } from '../generation/generate.js';
import type { GenerateOptions } from '../generation/options.js';
import {
  type DecoderSession,
  type GeneratedSequence,
  padRows,
  type SessionSource,
  type VocabularyFacts,
} from '../generation/session.js';
import { textMask } from '../layers/attention.js';
import { decodeText, disposeCache, type Git, gatherCache, type ImageCache, vocabularyLogits } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import {
  type CaseKind,
  type Folder,
  firstOf,
  type HostTensor,
  needTensor,
  notRun,
  type ParityCase,
  type ParityRow,
  type ParityScope,
  readJsonFile,
  readTensors,
  sniffJson,
} from './cases.js';
import { compareIdRows, compareNumbers, takeRows } from './compare.js';
import { tiledCache, toChannelsLast } from './forward.js';

export const idRows = z.array(z.array(z.int()));

/** A call of Hugging Face's `generate` and what it gave; `sequences` with the prompt, filled up with the pad token. */
export const generationGolden = z.object({
  input_ids: idRows,
  attention_mask: z.optional(idRows),
  args: z.record(z.string(), z.unknown()),
  sequences: idRows,
  sequences_scores: z.optional(z.array(z.number())),
  sequences_scores_f64: z.optional(z.array(z.number())),
});
type GenerationGolden = z.infer<typeof generationGolden>;

/** Scores are sums of float32 log-probabilities. */
const SCORE_TOLERANCE = 1e-4;

/** Hugging Face's arguments by their names here. `null` is not an option of ours: it changes nothing, or is handled apart. */
const ARGUMENTS: Readonly<Record<string, string | null>> = {
  num_beams: null,
  do_sample: null,
  use_cache: null,
  max_length: 'maxLength',
  max_new_tokens: 'maxNewTokens',
  min_length: 'minLength',
  min_new_tokens: 'minNewTokens',
  repetition_penalty: 'repetitionPenalty',
  no_repeat_ngram_size: 'noRepeatNgramSize',
  bad_words_ids: 'badWords',
  num_return_sequences: 'numReturnSequences',
  length_penalty: 'lengthPenalty',
  early_stopping: 'earlyStopping',
};
/** What greedy search does not look at. */
const BEAMS_ONLY: ReadonlySet<string> = new Set(['num_return_sequences', 'length_penalty', 'early_stopping']);

/** Runs a golden on images that are in the cache, one for each prompt: rows `sequences`, and `scores` where it has them. */
export async function* runGolden(
  git: Git,
  image: ImageCache,
  golden: GenerationGolden,
  caseName: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<ParityRow> {
  const why = unsuitable(golden);
  if (why !== undefined) {
    yield notRun(caseName, 'sequences', why);
    return;
  }
  const { attention_mask: mask } = golden;
  const open: SessionSource = () => (isPadded(mask) ? paddedSession(git, image, mask) : startSession(git, image));
  const options = { ...optionsOf(golden.args), ...(signal && { signal }) } as GenerateOptions;
  const found = (await generate(open, vocabularyOf(git), options, golden.input_ids)).flat();
  const ids = padRows(
    found.map((row) => row.ids),
    git.config.padTokenId,
  );
  yield compareIdRows(caseName, 'sequences', ids, golden.sequences);
  const { sequences_scores: scores, sequences_scores_f64: truth } = golden;
  if (scores !== undefined) yield scoreRow(caseName, 'scores', found, scores, truth);
}

/**
 * Scores against the reference's; where it ran in float64 too, its own difference stands beside. transformers keeps the scores of a
 * float64 run as float32, so the truth is rounded as coarsely as what it should judge, and a ratio would be of rounding to rounding.
 */
function scoreRow(
  caseName: string,
  tensor: string,
  found: readonly GeneratedSequence[],
  scores: readonly number[],
  truth?: readonly number[],
): ParityRow {
  const host = (values: readonly number[]) => ({ shape: [values.length], values });
  const own = truth === undefined ? undefined : Math.max(...scores.map((score, row) => Math.abs(score - truth[row]!)));
  return compareNumbers(caseName, tensor, host(found.map(({ score }) => score)), {
    expected: host(truth ?? scores),
    referenceError: own,
    isTruth: truth?.some((score) => Math.fround(score) !== score) ?? false,
    tolerance: SCORE_TOLERANCE,
  });
}

const vocabularyOf = ({ config }: Git): VocabularyFacts => ({
  size: config.vocabSize,
  bosId: config.bosTokenId,
  eosIds: config.eosTokenIds,
});

const isPadded = (mask: GenerationGolden['attention_mask']): mask is number[][] =>
  mask?.some((row) => row.includes(0)) ?? false;

/** Why a golden cannot be compared; undefined where it can. */
function unsuitable({ args, attention_mask: mask }: GenerationGolden): string | undefined {
  const unknown = Object.keys(args).find((name) => !Object.hasOwn(ARGUMENTS, name));
  if (unknown !== undefined) return `no option here for the argument "${unknown.slice(0, 60)}"`;
  if (args['do_sample'] === true) return 'random draws differ between programs: see the sampling cases';
  if (isPadded(mask) && args['use_cache'] !== false) {
    return 'records a bug of transformers 4.40, which forgets the attention mask once the cache is used';
  }
  return undefined;
}

function optionsOf(args: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const numBeams = args['num_beams'] ?? 1;
  const greedy = numBeams === 1;
  const options: Record<string, unknown> = greedy ? { strategy: 'greedy' } : { strategy: 'beam', numBeams };
  for (const [name, value] of Object.entries(args)) {
    const ours = ARGUMENTS[name];
    if (typeof ours === 'string' && value !== null && !(greedy && BEAMS_ONLY.has(name))) options[ours] = value;
  }
  return options;
}

/**
 * A session for prompts that carry padding and an attention mask, as Hugging Face runs them without a cache: pad tokens keep their
 * positions and are hidden from every later row. Everything is computed again at each step; the library itself pads no prompt.
 */
function paddedSession(git: Git, image: ImageCache, mask: readonly (readonly number[])[]): DecoderSession {
  let rows = mask.map((columns, imageIndex) => ({ imageIndex, columns, ids: [] as readonly number[] }));
  return {
    get rows() {
      return rows.length;
    },
    maxLength: git.config.maxPositionEmbeddings,
    async step(ids) {
      rows = rows.map((row, r) => ({ ...row, ids: [...row.ids, ...ids[r]!] }));
      const columns = rows.map((row) => row.ids.map((_, t) => row.columns[t] ?? 1));
      const images = gatherCache(
        image,
        rows.map((row) => row.imageIndex),
      );
      try {
        return await lastLogits(
          git,
          rows.map((row) => row.ids),
          columns,
          images,
        );
      } finally {
        disposeCache(images);
      }
    },
    reorder(order) {
      rows = order.map((row) => rows[row]!);
    },
    dispose() {},
  };
}

/** Logits after the last token of each row; all rows are of one length. */
async function lastLogits(
  git: Git,
  ids: readonly (readonly number[])[],
  columns: readonly (readonly number[])[],
  image: ImageCache,
): Promise<Float32Array[]> {
  const tokens = ids[0]!.length;
  const logits = tidy(() => {
    const { hidden } = decodeText(git, { ids, mask: textMask(tokens, 0, columns) }, image);
    return vocabularyLogits(git, gather(hidden, tensor1d([tokens - 1], 'int32'), 1)); // [R, 1, V]
  });
  try {
    const values = (await logits.data()) as Float32Array;
    const { vocabSize } = git.config;
    return ids.map((_, r) => values.slice(r * vocabSize, (r + 1) * vocabSize));
  } finally {
    logits.dispose();
  }
}

/** By these a file is known. */
const sign = z.object({
  cases: firstOf(z.object({ args: z.unknown(), sequences: z.unknown() })),
});

const namedGolden = z.extend(generationGolden, { name: z.string(), images: z.array(z.int().check(z.minimum(0))) });
const schema = z.object({ cases: z.array(namedGolden) });
type NamedGolden = z.infer<typeof namedGolden>;

/** Goldens of `generate`: NAME.json lists them, NAME.safetensors has the images that they name by row. */
export const generationCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!folder.files.includes('config.json')) return undefined;
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, sign))) continue;
      const { cases: goldens } = await readJsonFile(folder.path, file, schema);
      const images = file.replace(/json$/, 'safetensors');
      cases.push(...goldens.map((golden) => goldenCase(folder, images, golden)));
      claims.push(file, images);
    }
    return { cases, claims };
  },
};

function goldenCase(folder: Folder, images: string, golden: NamedGolden): ParityCase {
  const name = `${folder.label}/${images.replace(/\.safetensors$/, '')}/${golden.name}`;
  return {
    name,
    async *run({ models, signal }: ParityScope) {
      const git = await models.get(folder.path);
      const image = tiledCache(git, await caseImages(git, folder.path, images, golden.images), golden.images.length);
      try {
        yield* runGolden(git, image, golden, name, signal);
      } finally {
        disposeCache(image);
      }
    },
  };
}

/** Rows of `pixel_values` of a tensor file, channels last. */
async function caseImages(git: Git, folder: string, file: string, images: readonly number[]): Promise<HostTensor> {
  const name = file.replace(/\.safetensors$/, '');
  const tensors = await readTensors(folder, file);
  const all = needTensor({ folder, name, facts: {}, tensors }, 'pixel_values');
  return toChannelsLast(takeRows(all, images, file), name, git.config);
}

/** By these a file is known. */
const beamSign = z.object({
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
const beamSchema = z.object({ cases: z.array(goldenSchema) });
type OriginalGolden = z.infer<typeof goldenSchema>;

/** Outputs of the original project's decoders, on the models of other folders and the images of their `generation.safetensors`. */
export const originalBeamCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, beamSign))) continue;
      const { cases: goldens } = await readJsonFile(folder.path, file, beamSchema);
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
      const options = beamOptionsOf(golden);
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
function beamOptionsOf(golden: OriginalGolden): GenerateOptions | undefined {
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
