/** How a pipeline's options of generation become those of a model's methods. */
import { unsupportedGeneration } from '../generation/generation-config.js';
import { generationOptions, type Strategy } from '../generation/options.js';
import type { CaptionOptions } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import { methodOptions } from '../image2text/method-options.js';
import { type OptionDeclaration, type OptionTable, optionNames, takersOf } from '../options.js';
import {
  checkSignal,
  contradiction,
  type Given,
  readOptions,
  type Spellings,
  snakeCase,
  spellingsOf,
  withoutNulls,
  wrongType,
} from './options.js';
import { type Criterion, readCriteria } from './streaming.js';

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
