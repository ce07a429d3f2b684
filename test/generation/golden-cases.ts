import assert from 'node:assert/strict';
import { generate } from '../../src/generation/generate.js';
import type { GenerateOptions } from '../../src/generation/options.js';
import type { GeneratedSequence, SessionSource, VocabularyFacts } from '../../src/generation/session.js';
import { padRows } from '../../src/generation/session.js';
import { REFERENCE, readJson } from '../support/fixtures.js';
import { peekSafetensors } from '../support/peek-safetensors.js';

/** One case of generation.json. */
export interface HuggingFaceCase {
  readonly name: string;
  readonly images: readonly number[];
  readonly input_ids: readonly (readonly number[])[];
  readonly attention_mask?: readonly (readonly number[])[];
  readonly args: Readonly<Record<string, unknown>>;
  readonly sequences: readonly (readonly number[])[];
  readonly sequences_scores?: readonly number[];
}

/** One case of original_beam.json; `predictions` is one level deeper when several sentences are kept. */
export interface OriginalCase {
  readonly model: string;
  readonly kind: 'beam' | 'autoregressive_greedy' | 'autoregressive_beam';
  readonly max_steps: number;
  readonly beam_size: number;
  readonly per_node_beam_size: number;
  readonly length_penalty?: number;
  readonly repetition_penalty?: number;
  readonly num_keep_best?: number;
  readonly images: readonly number[];
  readonly prefix?: readonly (readonly number[])[];
  readonly predictions: readonly (readonly number[] | readonly (readonly number[])[])[];
  readonly logprobs: readonly (number | readonly number[])[];
}

export const MODELS = ['tiny-a', 'tiny-b', 'tiny-video'] as const;

export const huggingFaceCases = (model: string): readonly HuggingFaceCase[] =>
  readJson<{ cases: HuggingFaceCase[] }>(`${REFERENCE}${model}/generation.json`).cases;

export const originalCases = (): readonly OriginalCase[] =>
  readJson<{ cases: OriginalCase[] }>(`${REFERENCE}tiny-original-beam/original_beam.json`).cases;

export function vocabularyOf(model: string): VocabularyFacts {
  const config = readJson<Record<string, number>>(`${REFERENCE}${model}/config.json`);
  return { size: config['vocab_size']!, bosId: config['bos_token_id']!, eosIds: [config['eos_token_id']!] };
}

/** The images of a model's generation cases: for each, its frames of [3, size, size]. */
export function imagesOf(model: string): Float64Array[][] {
  const { shape, values } = peekSafetensors(`${REFERENCE}${model}/generation.safetensors`).get('pixel_values')!;
  const frames = shape.length === 5 ? shape[1]! : 1;
  const pixels = values.length / shape[0]! / frames;
  return Array.from({ length: shape[0]! }, (_, b) =>
    Array.from({ length: frames }, (_, f) => values.subarray((b * frames + f) * pixels, (b * frames + f + 1) * pixels)),
  );
}

/** The arguments of Hugging Face's `generate` as our options. */
export function optionsOf(args: Readonly<Record<string, unknown>>): GenerateOptions {
  const { use_cache: _, num_beams, ...rest } = args;
  const camel = Object.entries(rest).map(([name, value]) => [
    name === 'bad_words_ids' ? 'badWords' : name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ]);
  const strategy = num_beams === 1 ? { strategy: 'greedy' } : { strategy: 'beam', numBeams: num_beams };
  return { ...strategy, ...Object.fromEntries(camel) } as GenerateOptions;
}

export function originalOptionsOf(c: OriginalCase): GenerateOptions {
  const common = { numBeams: c.beam_size, perNode: c.per_node_beam_size, maxLength: c.max_steps };
  if (c.kind !== 'beam') return { strategy: 'original-autoregressive', ...common };
  return {
    strategy: 'original',
    ...common,
    lengthPenalty: c.length_penalty ?? 1,
    repetitionPenalty: c.repetition_penalty ?? 1,
    numReturnSequences: c.num_keep_best ?? 1,
  };
}

/** Scores of the goldens are float32 sums; the reference says 1e-4. */
const ATOL = 1e-4;

/** Opens a session over the images of a case. `padding`: leading pad tokens of each prompt, masked for good or once. */
export type OpenImages = (images: readonly number[], padding?: readonly number[], forgets?: boolean) => SessionSource;

/** Runs a case of generation.json; returns the largest score error. */
export async function checkHuggingFace(open: OpenImages, model: string, c: HuggingFaceCase): Promise<number> {
  const padding = c.attention_mask?.map((row) => row.filter((seen) => seen === 0).length);
  const source = open(c.images, padding, padding !== undefined && c.args['use_cache'] === true);
  const rows = (await generate(source, vocabularyOf(model), optionsOf(c.args), c.input_ids)).flat();
  assert.deepEqual(
    padRows(
      rows.map((row) => row.ids),
      0,
    ),
    c.sequences,
    `${model} ${c.name}`,
  );
  return scoreError(rows, c.sequences_scores ?? rows.map((row) => row.score), `${model} ${c.name}`);
}

/** Runs a case of original_beam.json; returns the largest score error. */
export async function checkOriginal(open: OpenImages, c: OriginalCase): Promise<number> {
  const vocabulary = vocabularyOf(c.model);
  const prompts = c.prefix === undefined ? undefined : c.images.map((_, row) => c.prefix![row]!);
  const rows = (await generate(open(c.images), vocabulary, originalOptionsOf(c), prompts)).flat();
  const cut = c.prefix === undefined ? 0 : c.prefix[0]!.length;
  // The original fills up with end tokens: to max_steps, or (the other decoder) for as long as any beam of the batch was still open.
  const width = c.kind === 'beam' ? c.max_steps : (c.predictions[0] as readonly number[]).length;
  const matrix = padRows(
    rows.map((row) => row.ids),
    vocabulary.eosIds[0]!,
    width,
  ).map((row) => row.slice(cut));
  const depth = c.num_keep_best === undefined ? 1 : 2;
  assert.deepEqual(matrix, depth === 1 ? c.predictions : c.predictions.flat(), `${c.model} ${c.kind} ${c.max_steps}`);
  return scoreError(rows, c.logprobs.flat(), `${c.model} ${c.kind}`);
}

function scoreError(rows: readonly GeneratedSequence[], expected: readonly number[], what: string): number {
  assert.equal(rows.length, expected.length, `${what}: number of scores`);
  const worst = Math.max(...rows.map((row, r) => Math.abs(row.score - expected[r]!)));
  assert.ok(worst <= ATOL, `${what}: a score is off by ${worst}`);
  return worst;
}
