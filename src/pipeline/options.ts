import { OptionError, quote } from '../errors.js';
import { unsupportedGeneration } from '../generation/generation-config.js';
import { generationOptions, type Strategy } from '../generation/options.js';
import type { CaptionOptions } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import { methodOptions } from '../image2text/method-options.js';
import { type OptionDeclaration, type OptionTable, optionNames, takersOf } from '../options.js';
import { type Criterion, readCriteria } from './streaming.js';

/** How a pipeline reads its options: transformers.js's names and ours, in either case, made from the declarations. */

/** `maxNewTokens` → `max_new_tokens`. */
export type SnakeCase<S extends string> = S extends `${infer First}${infer Rest}`
  ? `${First extends Uppercase<First> ? `_${Lowercase<First>}` : First}${SnakeCase<Rest>}`
  : S;

/** The options of `T` in camelCase and in snake_case; null is as good as not given. */
export type EitherCase<T> = { readonly [K in keyof T]?: T[K] | null | undefined } & {
  readonly [K in keyof T & string as SnakeCase<K>]?: T[K] | null | undefined;
};

/** Options by our names, of types not checked yet. */
export type Given = Readonly<Record<string, unknown>>;

/** Every accepted spelling of some options, and the name that it stands for. */
export type Spellings = ReadonlyMap<string, string>;

const camelCase = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
export const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Names in both cases, and Hugging Face's names for those that a table declares. */
export function spellingsOf(names: Iterable<string>, table: OptionTable = {}): Spellings {
  const spellings = new Map<string, string>();
  for (const name of names) {
    const { huggingFace = name } = (table[name] ?? {}) as { readonly huggingFace?: string };
    for (const spelling of [name, huggingFace]) {
      spellings.set(camelCase(spelling), name).set(snakeCase(spelling), name);
    }
  }
  return spellings;
}

/**
 * Options by our names, whichever spelling they were given in; what is undefined is left out.
 *
 * @param neutral options that are not supported, by their snake_case names, with the values that they may have all the same.
 * @throws OptionError `not-an-object`; `unknown-option`, `unsupported-option` and `given-twice`, naming the option as the caller wrote it.
 */
export function readOptions(
  options: unknown,
  spellings: Spellings,
  whose: string,
  neutral: Readonly<Record<string, readonly unknown[]>> = {},
): Given {
  if (options === undefined || options === null) return {};
  if (typeof options !== 'object' || Array.isArray(options)) {
    const detail = `the options of ${whose} are an object, not ${Array.isArray(options) ? 'a list' : typeof options}`;
    throw new OptionError({ path: 'options', code: 'not-an-object', detail });
  }
  const given: Record<string, unknown> = {};
  for (const [written, value] of Object.entries(options)) {
    const name = spellings.get(written);
    if (name === undefined) {
      checkUnsupported(written, value, whose, spellings, neutral);
      continue;
    }
    if (value === undefined) continue;
    if (name in given) {
      throw new OptionError({ path: written, code: 'given-twice', detail: `${name} is there under another name too` });
    }
    given[name] = value;
  }
  return given;
}

function checkUnsupported(
  written: string,
  value: unknown,
  whose: string,
  spellings: Spellings,
  neutral: Readonly<Record<string, readonly unknown[]>>,
): void {
  const path = quote(written).slice(1, -1);
  const values = Object.hasOwn(neutral, snakeCase(written)) ? neutral[snakeCase(written)] : undefined;
  if (values === undefined) {
    const known = [...new Set(spellings.values())].join(', ');
    throw new OptionError({ path, code: 'unknown-option', detail: `${whose} has no such option; it has ${known}` });
  }
  if (value === undefined || value === null || values.includes(value) || isEmpty(value)) return;
  const detail = `not supported; leave it out${values.length > 0 ? ` or give ${values.map((one) => JSON.stringify(one)).join(' or ')}` : ''}`;
  throw new OptionError({ path, code: 'unsupported-option', detail, unsupported: true });
}

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

/** Options without those that are null. */
export const withoutNulls = (given: Given): Given =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));

export function contradiction(path: string, detail: string): never {
  throw new OptionError({ path, code: 'contradiction', detail });
}

export function wrongType(path: string, expected: string, value: unknown): never {
  const found = typeof value === 'string' ? quote(value) : Array.isArray(value) ? 'a list' : String(typeof value);
  throw new OptionError({ path, code: 'wrong-type', detail: `expected ${expected}, found ${found}` });
}

/** An AbortSignal of whatever realm, or nothing. */
export function checkSignal({ signal }: Given): void {
  if (signal === undefined || signal === null) return;
  if (typeof signal !== 'object' || !('throwIfAborted' in signal)) wrongType('signal', 'an AbortSignal', signal);
}

/** How a pipeline's options of generation become those of a model's methods. */

/** Options of generation in transformers that never change a text here, whatever their value. */
const WITHOUT_EFFECT = new Set([
  'bos_token_id',
  'decoder_start_token_id',
  'eos_token_id',
  'output_attentions',
  'output_hidden_states',
  'output_scores',
  'pad_token_id',
  'return_dict_in_generate',
  'use_cache',
]);

/** Objects of options within the options; what is said beside them wins. */
const NESTED = ['generation_config', 'generate_kwargs'];

/** What decides how texts are generated, in the spellings of a task that calls `method`. */
const generationSpellings = (method: 'caption' | 'answer'): Spellings => {
  const own = optionNames(methodOptions, method).filter((name) => name !== 'onError');
  return spellingsOf(['doSample', ...Object.keys(generationOptions), ...own], generationOptions);
};
const SPELLINGS = { caption: generationSpellings('caption'), answer: generationSpellings('answer') };

/**
 * Hugging Face's options of generation as those of a method of the model. As in transformers, `numBeams` and `doSample` choose the search,
 * those of the call first, then those of generation_config.json; without either it is greedy. `strategy` names one of ours. Values
 * are checked by the method itself.
 *
 * @param own further options of the task, by name.
 * @throws OptionError as `readOptions`; `contradiction` for options that the search would ignore; `wrong-type`.
 */
export function readGeneration(
  options: unknown,
  task: string,
  method: 'caption' | 'answer',
  model: Image2Text,
  own: readonly string[] = [],
): { readonly generation: CaptionOptions; readonly own: Given } {
  const spellings = new Map([...SPELLINGS[method], ...spellingsOf(own)]);
  const read = (one: unknown): Given => readOptions(withoutIgnored(one), spellings, task, unsupportedGeneration);
  const isPlain = typeof options === 'object' && options !== null && !Array.isArray(options);
  const entries = isPlain ? Object.entries(options) : [];
  const isNested = ([name]: readonly [string, unknown]): boolean => NESTED.includes(snakeCase(name));
  const inner = entries.filter(isNested).map(([, one]) => read(one));
  const outer = read(isPlain ? Object.fromEntries(entries.filter((entry) => !isNested(entry))) : options);
  const given = withoutNulls(Object.assign({}, ...inner, outer));
  const mine = Object.fromEntries(Object.entries(given).filter(([name]) => own.includes(name)));
  const rest = Object.fromEntries(Object.entries(given).filter(([name]) => !own.includes(name)));
  return { generation: withSearch(rest, model), own: mine };
}

const withoutIgnored = (options: unknown): unknown =>
  typeof options === 'object' && options !== null && !Array.isArray(options)
    ? Object.fromEntries(Object.entries(options).filter(([name]) => !WITHOUT_EFFECT.has(snakeCase(name))))
    : options;

function withSearch(given: Given, { generationConfig }: Image2Text): CaptionOptions {
  const { doSample, strategy, stoppingCriteria, ...options } = given;
  checkSignal(options);
  if (doSample !== undefined && typeof doSample !== 'boolean') wrongType('do_sample', 'true or false', doSample);
  if (strategy !== undefined && doSample !== undefined)
    contradiction('do_sample', 'strategy says already whether to sample');
  const beams = options['numBeams'] ?? generationConfig?.options['numBeams'] ?? 1;
  const sample = doSample ?? generationConfig?.strategy === 'sample';
  const search = strategy ?? chooseSearch(sample, beams !== 1);
  const used: Record<string, unknown> = { ...options, strategy: search };
  if (strategy === undefined) for (const name of Object.keys(options)) dropUnused(used, name, search as Strategy);
  if (stoppingCriteria !== undefined) addCriteria(used, readCriteria(stoppingCriteria));
  return used as unknown as CaptionOptions;
}

function chooseSearch(sample: boolean, beams: boolean): Strategy {
  if (beams && sample)
    contradiction('do_sample', 'sampling within beam search is not offered; give num_beams or do_sample, not both');
  return beams ? 'beam' : sample ? 'sample' : 'greedy';
}

/** An option that this search does not use is no error where its value is one that has no effect in any search of Hugging Face's. */
function dropUnused(options: Record<string, unknown>, name: string, search: Strategy): void {
  const declaration = (generationOptions as OptionTable)[name];
  if (declaration === undefined || takersOf(declaration).includes(search)) return;
  const value = options[name];
  const isNeutral = name === 'numBeams' ? value === 1 : hasNoEffect(value, declaration);
  if (!isNeutral) {
    const remedies = { beam: 'num_beams above 1', sample: 'do_sample: true' } as const;
    const takers = takersOf(declaration).flatMap((taker) => (taker in remedies ? [remedies[taker as 'beam']] : []));
    const remedy = takers.length > 0 ? takers.join(' or ') : `strategy: ${takersOf(declaration).join(' or ')}`;
    contradiction(name, `the search is ${search}, which does not use it; it needs ${remedy}`);
  }
  delete options[name];
}

const hasNoEffect = (value: unknown, { defaults, least }: OptionDeclaration<never>): boolean =>
  ['beam', 'sample'].some((taker) => Object.hasOwn(defaults, taker) && defaults[taker] === value) ||
  (value === 0 && least === 0);

/**
 * Criteria are asked before listeners and streamers receive the token. One that was interrupted by these is asked once more afterwards,
 * so that the text ends with that token, as in transformers.js.
 */
function addCriteria(options: Record<string, unknown>, criteria: readonly Criterion[]): void {
  options['stoppingCriteria'] = criteria.map(({ isOver }) => isOver);
  const interruptable = criteria.filter(({ isInterrupted }) => isInterrupted !== undefined);
  if (interruptable.length === 0 || (options['strategy'] !== 'greedy' && options['strategy'] !== 'sample')) return;
  const inner = options['onToken'] as ((event: unknown) => unknown) | undefined;
  options['onToken'] = async (event: unknown): Promise<unknown> => {
    const answer = await inner?.(event);
    return interruptable.some(({ isInterrupted }) => isInterrupted!()) ? false : answer;
  };
}
