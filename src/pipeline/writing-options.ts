import type { TokenListener } from '../generation/options.js';
import type { CaptionOptions } from '../image2text/captions.js';
import { checkSignal, contradiction, type Given, withoutNulls, wrongType } from './option-names.js';
import type { Interruptable } from './types.js';

/** Names of what decides how a text is written. */
export const WRITING_OPTIONS: readonly string[] = (
  'maxNewTokens maxLength minNewTokens minLength doSample temperature topK topP seed numBeams lengthPenalty earlyStopping ' +
  'numReturnSequences repetitionPenalty noRepeatNgramSize badWordsIds strategy perNode streamer onToken stoppingCriteria batchSize trace signal'
).split(' ');

/** Options that do something with one kind of search only; with these values, Hugging Face's defaults, they do nothing anyway. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  temperature: [1],
  topK: [0, 50],
  topP: [1],
  seed: [],
  numBeams: [1],
  lengthPenalty: [1],
  earlyStopping: [false],
  numReturnSequences: [1],
};

/** What each search leaves without effect, and what to ask for to give it one. */
const IDLE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  greedy: {
    ...Object.fromEntries(['temperature', 'topK', 'topP', 'seed'].map((name) => [name, 'do_sample: true'])),
    ...Object.fromEntries(['lengthPenalty', 'earlyStopping'].map((name) => [name, 'num_beams above 1'])),
    numBeams: 'a number above 1',
    numReturnSequences: 'num_beams above 1 or do_sample: true',
  },
  sample: Object.fromEntries(
    ['numBeams', 'lengthPenalty', 'earlyStopping'].map((name) => [name, 'num_beams above 1 without do_sample']),
  ),
  beam: Object.fromEntries(
    ['temperature', 'topK', 'topP', 'seed'].map((name) => [name, 'do_sample: true without num_beams']),
  ),
};

/**
 * Hugging Face's options as this library's. The search is greedy; with `numBeams` above 1 Hugging Face's beam search; with `doSample` sampling;
 * or the one that `strategy` names. Values are checked by generation itself.
 *
 * @throws OptionError `contradiction` for options that the search would ignore, `wrong-type`.
 */
export function writingOptions(options: Given): CaptionOptions {
  const { doSample, strategy, badWordsIds, stoppingCriteria, ...given } = withoutNulls(options);
  checkSignal(given);
  if (doSample !== undefined && typeof doSample !== 'boolean') wrongType('do_sample', 'true or false', doSample);
  if (strategy !== undefined && doSample !== undefined)
    contradiction('do_sample', 'strategy says already whether to sample');
  const search = strategy ?? chooseSearch(doSample === true, given['numBeams']);
  const idle = strategy === undefined ? IDLE[search as string]! : {};
  const used: Record<string, unknown> = { strategy: search };
  for (const [name, value] of Object.entries(given)) {
    const remedy = idle[name];
    if (remedy === undefined) used[name] = value;
    else if (!NEUTRAL[name]!.includes(value)) contradiction(name, `it does nothing here; it needs ${remedy}`);
  }
  if (badWordsIds !== undefined) used['badWords'] = badWordsIds;
  if (stoppingCriteria !== undefined) used['onToken'] = untilInterrupted(stoppingCriteria, search, used['onToken']);
  return used as unknown as CaptionOptions;
}

function chooseSearch(doSample: boolean, numBeams: unknown): 'greedy' | 'sample' | 'beam' {
  const beams = numBeams !== undefined && numBeams !== 1;
  if (beams && doSample)
    contradiction('do_sample', 'sampling within beam search is not offered; give num_beams or do_sample, not both');
  return beams ? 'beam' : doSample ? 'sample' : 'greedy';
}

/** A listener that ends the text once the criteria are interrupted. */
function untilInterrupted(criteria: unknown, search: unknown, inner: unknown): TokenListener {
  const known = (typeof criteria === 'object' || typeof criteria === 'function') && criteria !== null;
  if (!known || typeof (criteria as Partial<Interruptable>).interrupted !== 'boolean')
    wrongType('stopping_criteria', 'an InterruptableStoppingCriteria', criteria);
  if (search !== 'greedy' && search !== 'sample')
    contradiction('stopping_criteria', 'it can end greedy search and sampling only; signal ends every search');
  return async (event) => {
    const answer: unknown = await (inner as TokenListener | undefined)?.(event);
    return (criteria as Interruptable).interrupted ? false : answer;
  };
}
