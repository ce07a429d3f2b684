import * as z from 'zod/mini'; // its export `z` would keep bundlers from leaving out what is not used: 400 kB
import { ConfigError, OptionError, quote } from '../errors.js';
import { optionNames, showValue, takersOf } from '../options.js';
import { generationOptions, STRATEGIES, type Strategy } from './options.js';

/** What a checkpoint's generation_config.json asks for. */
export interface GenerationConfig {
  /** The search that its num_beams and do_sample name, where it has one of the two. */
  readonly strategy: 'greedy' | 'sample' | 'beam' | undefined;
  /** Values by our names, as they are in the file. */
  readonly options: Readonly<Record<string, unknown>>;
  /** What ends a row, where the file says so: it wins over config.json. */
  readonly eosTokenIds: readonly number[] | undefined;
}

/** Keys with an effect that is not ours to give, and the values with which they have none. Null never has one. */
export const unsupportedGeneration: Readonly<Record<string, readonly unknown[]>> = {
  begin_suppress_tokens: [],
  constraints: [],
  diversity_penalty: [0],
  dola_layers: [],
  encoder_no_repeat_ngram_size: [0],
  encoder_repetition_penalty: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  exponential_decay_length_penalty: [],
  force_words_ids: [],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
  guidance_scale: [1],
  max_time: [],
  num_beam_groups: [1],
  penalty_alpha: [0],
  prompt_lookup_num_tokens: [],
  remove_invalid_values: [false],
  renormalize_logits: [false],
  suppress_tokens: [],
  top_h: [],
  typical_p: [1],
  watermarking_config: [],
};

const schema = z.looseObject({
  do_sample: z.nullish(z.boolean()),
  num_beams: z.nullish(z.int().check(z.minimum(1))),
  eos_token_id: z.nullish(z.union([z.int(), z.array(z.int())])),
});

/**
 * Reads a parsed generation_config.json; unknown keys are ignored, as transformers ignores them. Values are checked when a call uses them.
 *
 * @throws ConfigError with the key: a wrong type, an end token outside the vocabulary, or a setting that would change the texts and that this library does not have.
 */
export function parseGenerationConfig(
  json: unknown,
  file = 'generation_config.json',
  vocabSize = Number.POSITIVE_INFINITY,
): GenerationConfig {
  const parsed = z.safeParse(schema, json);
  if (!parsed.success) {
    const { path = [], message = 'is wrong' } = parsed.error.issues[0] ?? {};
    const found = path.length === 0 ? json : (json as Record<string, unknown>)[String(path[0])];
    const detail = `${message}, found ${showValue(found)}`;
    throw new ConfigError({ file, path: path.join('.') || undefined, code: 'wrong-type', detail });
  }
  const given = parsed.data as Readonly<Record<string, unknown>>;
  for (const [key, neutral] of Object.entries(unsupportedGeneration)) {
    const value = given[key] ?? undefined;
    if (value === undefined || neutral.includes(value) || (Array.isArray(value) && value.length === 0)) continue;
    throw unsupported(file, key, value);
  }
  const { do_sample: sample, num_beams: beams, eos_token_id: eos } = parsed.data;
  if (sample === true && (beams ?? 1) > 1) throw unsupported(file, 'do_sample', 'beam search with sampling');
  const ends = typeof eos === 'number' ? [eos] : (eos ?? []);
  for (const id of ends) {
    if (id >= 0 && id < vocabSize) continue;
    const detail = `${id} is outside the vocabulary of ${vocabSize}`;
    throw new ConfigError({ file, path: 'eos_token_id', code: 'token-outside-vocabulary', detail });
  }
  const named = sample !== undefined && sample !== null;
  const options: Record<string, unknown> = {};
  for (const [name, { huggingFace }] of Object.entries(generationOptions) as [string, { huggingFace?: string }][]) {
    const value = huggingFace === undefined ? undefined : given[huggingFace];
    if (value !== undefined && value !== null) options[name] = value;
  }
  if (typeof options['stopStrings'] === 'string') options['stopStrings'] = [options['stopStrings']];
  return {
    strategy: (beams ?? 1) > 1 ? 'beam' : sample === true ? 'sample' : named || beams === 1 ? 'greedy' : undefined,
    options,
    eosTokenIds: ends.length === 0 ? undefined : ends,
  };
}

function unsupported(file: string, path: string, value: unknown): ConfigError {
  const detail = `${typeof value === 'string' ? value : quote(JSON.stringify(value))} is not supported; delete it from the file to go without`;
  return new ConfigError({ file, path, code: 'unsupported-generation', detail, unsupported: true });
}

/** Rules that mean the same in every strategy. The other settings of the file are about Hugging Face's searches. */
const COMMON: readonly string[] = Object.entries(generationOptions)
  .filter(([name, declaration]) => name !== 'strategy' && takersOf(declaration).length === STRATEGIES.length)
  .map(([name]) => name);

/**
 * A caller's options with what the file adds: an explicit option wins over the file, the file over our defaults. The caller's strategy wins over
 * the file's, that over `fallback`. Settings of the file that the strategy does not use have no effect, as in transformers; the original's searches
 * take the lengths and the rules on tokens only. Either length of the caller replaces both of the file; in the file max_new_tokens wins.
 */
export function withGenerationConfig(
  given: Readonly<Record<string, unknown>>,
  config: GenerationConfig,
  fallback: Strategy,
): Readonly<Record<string, unknown>> {
  const has = (name: string): boolean => given[name] !== undefined && given[name] !== null;
  const strategy = has('strategy') ? given['strategy'] : (config.strategy ?? fallback);
  if (!STRATEGIES.includes(strategy as Strategy)) return given; // the check of the options says so
  const taken = String(strategy).startsWith('original') ? COMMON : optionNames(generationOptions, String(strategy));
  const all: Record<string, unknown> = { ...given, strategy };
  for (const name of taken) if (!has(name) && config.options[name] !== undefined) all[name] = config.options[name];
  if (has('maxLength') || has('maxNewTokens')) {
    for (const name of ['maxLength', 'maxNewTokens']) if (!has(name)) delete all[name];
  } else if (all['maxNewTokens'] !== undefined) delete all['maxLength'];
  fit(all, 'minLength', all['maxLength'], has);
  fit(all, 'minNewTokens', all['maxNewTokens'] ?? all['maxLength'], has);
  return all;
}

/** The refusal of a value that is the file's and not the caller's, by the key that the file has; any other error as it is. */
export function withSource(
  error: unknown,
  given: Readonly<Record<string, unknown>>,
  { options }: GenerationConfig,
): unknown {
  if (!(error instanceof OptionError)) return error;
  const { path: place = '', code, detail } = error;
  const [path = ''] = /^\w*/.exec(place) ?? []; // without the place in a list
  const { huggingFace } = (generationOptions as Record<string, { huggingFace?: string }>)[path] ?? {};
  const isOfFile = huggingFace !== undefined && options[path] !== undefined && (given[path] ?? undefined) === undefined;
  if (!isOfFile) return error;
  return new ConfigError({ file: 'generation_config.json', path: huggingFace, code, detail, cause: error });
}

/** A minimum of the file that does not fit the caller's maximum: transformers warns, and the text gets as long as it may. */
function fit(options: Record<string, unknown>, name: string, most: unknown, has: (name: string) => boolean): void {
  const least = options[name];
  if (!has(name) && typeof least === 'number' && typeof most === 'number' && least > most) options[name] = most;
}
