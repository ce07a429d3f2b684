import type { GenerateOptions } from '../../src/generation/options.js';
import type { VocabularyFacts } from '../../src/generation/types.js';
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
  return { size: config['vocab_size']!, bosId: config['bos_token_id']!, eosId: config['eos_token_id']! };
}

/** The pictures of a model's generation cases: for each, its frames of [3, size, size]. */
export function picturesOf(model: string): Float64Array[][] {
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
