import { quote } from '../errors.js';
import { asGiven, checkIds, checkSignal, fail, type Given, integer, number, show } from './check-values.js';
import type { ProcessorSettings } from './logits-processors.js';
import type { GenerateOptions, TokenListener } from './options.js';
import type { VocabularyFacts } from './types.js';

/** Rows per image: a guard against a slip of the hand, not a limit of the algorithms. */
const MOST_ROWS = 1024;

/** Token rules and length, checked, with every default filled in. */
export interface CheckedRules extends ProcessorSettings {
  /** Prompt included; Infinity where `maxNewTokens` rules. */
  readonly maxLength: number;
  readonly maxNewTokens: number;
  readonly signal: AbortSignal | undefined;
}

export interface SingleSettings {
  readonly strategy: 'greedy' | 'sample';
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly numReturnSequences: number;
  readonly onToken: TokenListener | undefined;
}

export interface BeamSettings {
  readonly strategy: 'beam';
  readonly numBeams: number;
  readonly numReturnSequences: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean | 'never';
}

export interface OriginalSettings {
  readonly strategy: 'original';
  readonly numBeams: number;
  readonly perNode: number;
  readonly lengthPenalty: number;
  readonly numReturnSequences: number;
}

export interface AutoregressiveSettings {
  readonly strategy: 'original-autoregressive';
  readonly numBeams: number;
  readonly perNode: number;
}

export interface CheckedOptions {
  readonly rules: CheckedRules;
  readonly search: SingleSettings | BeamSettings | OriginalSettings | AutoregressiveSettings;
}

const COMMON =
  'strategy maxLength maxNewTokens repetitionPenalty noRepeatNgramSize badWords minLength minNewTokens signal';
const OWN: Readonly<Record<string, string>> = {
  greedy: 'onToken',
  sample: 'temperature topK topP seed numReturnSequences onToken',
  beam: 'numBeams numReturnSequences lengthPenalty earlyStopping',
  original: 'numBeams perNode lengthPenalty numReturnSequences',
  'original-autoregressive': 'numBeams perNode',
};

/**
 * Checks what the types already say, for callers without types, and fills in the defaults.
 *
 * @throws OptionError naming the option (`place`): unknown for the strategy, of the wrong type, out of range, or in contradiction.
 */
export function checkOptions(options: GenerateOptions, vocabulary: VocabularyFacts): CheckedOptions {
  const given = asGiven(options, 'options');
  const strategy = given['strategy'] ?? 'original';
  const own = typeof strategy === 'string' && Object.hasOwn(OWN, strategy) ? OWN[strategy] : undefined;
  if (own === undefined)
    return fail('strategy', 'unknown-strategy', `${show(strategy)} is none of ${Object.keys(OWN).join(', ')}`);
  const known = new Set(`${COMMON} ${own}`.split(' '));
  for (const name of Object.keys(given)) {
    if (given[name] !== undefined && !known.has(name)) {
      fail(
        name,
        'unknown-option',
        `strategy ${quote(String(strategy))} has no option ${quote(name)}; it has ${[...known].join(', ')}`,
      );
    }
  }
  return { rules: checkRules(given, String(strategy), vocabulary), search: checkSearch(given, String(strategy)) };
}

function checkRules(given: Given, strategy: string, vocabulary: VocabularyFacts): CheckedRules {
  const counts = given['maxNewTokens'] !== undefined;
  if (counts && given['maxLength'] !== undefined) {
    fail('maxNewTokens', 'contradiction', 'give maxLength (with the prompt) or maxNewTokens (without), not both');
  }
  const byDefault = strategy.startsWith('original') ? 1024 : 20;
  const rules: CheckedRules = {
    maxLength: counts ? Number.POSITIVE_INFINITY : integer(given, 'maxLength', byDefault, 2),
    maxNewTokens: counts ? integer(given, 'maxNewTokens', 1, 1) : Number.POSITIVE_INFINITY,
    repetitionPenalty: number(given, 'repetitionPenalty', 1, 1e-4, 1e4),
    noRepeatNgramSize: integer(given, 'noRepeatNgramSize', 0, 0),
    badWords: checkBadWords(given['badWords'], vocabulary),
    minLength: integer(given, 'minLength', 0, 0),
    minNewTokens: integer(given, 'minNewTokens', 0, 0),
    signal: checkSignal(given['signal']),
  };
  if (rules.minLength > rules.maxLength) {
    fail('minLength', 'contradiction', `minLength ${rules.minLength} is more than maxLength ${rules.maxLength}`);
  }
  const room = Math.min(rules.maxNewTokens, rules.maxLength);
  if (rules.minNewTokens > room)
    fail('minNewTokens', 'contradiction', `minNewTokens ${rules.minNewTokens} does not fit into ${room}`);
  return rules;
}

function checkSearch(given: Given, strategy: string): CheckedOptions['search'] {
  if (strategy === 'greedy' || strategy === 'sample') return checkSingle(given, strategy);
  const numBeams = integer(given, 'numBeams', strategy === 'original-autoregressive' ? 1 : 4, 1, MOST_ROWS);
  if (strategy === 'original-autoregressive') {
    return {
      strategy,
      numBeams,
      perNode: integer(given, 'perNode', numBeams === 1 ? 1 : 2, numBeams === 1 ? 1 : 2, MOST_ROWS),
    };
  }
  const numReturnSequences = integer(given, 'numReturnSequences', 1, 1, MOST_ROWS);
  if (strategy === 'original') {
    const perNode = integer(given, 'perNode', 2, 2, MOST_ROWS); // with 1 an end token would leave a beam without continuation
    return {
      strategy,
      numBeams,
      perNode,
      lengthPenalty: number(given, 'lengthPenalty', 0.6, -100, 100),
      numReturnSequences,
    };
  }
  if (numReturnSequences > numBeams) {
    fail(
      'numReturnSequences',
      'contradiction',
      `${numReturnSequences} sequences are more than the ${numBeams} of numBeams`,
    );
  }
  const earlyStopping = given['earlyStopping'] ?? false;
  if (earlyStopping !== true && earlyStopping !== false && earlyStopping !== 'never') {
    return fail('earlyStopping', 'wrong-type', `expected true, false or 'never', found ${show(earlyStopping)}`);
  }
  const lengthPenalty = number(given, 'lengthPenalty', 1, -100, 100);
  return { strategy: 'beam', numBeams, numReturnSequences, lengthPenalty, earlyStopping };
}

function checkSingle(given: Given, strategy: 'greedy' | 'sample'): SingleSettings {
  const onToken = given['onToken'];
  if (onToken !== undefined && typeof onToken !== 'function') {
    fail('onToken', 'wrong-type', `expected a function, found ${show(onToken)}`);
  }
  return {
    strategy,
    temperature: number(given, 'temperature', 1, 1e-4, 1e4),
    topK: integer(given, 'topK', strategy === 'sample' ? 50 : 0, 0),
    topP: number(given, 'topP', 1, Number.MIN_VALUE, 1),
    seed: integer(given, 'seed', 0, 0),
    numReturnSequences: integer(given, 'numReturnSequences', 1, 1, MOST_ROWS),
    onToken: onToken as TokenListener | undefined,
  };
}

function checkBadWords(value: unknown, vocabulary: VocabularyFacts): readonly (readonly number[])[] {
  if (value === undefined) return [];
  if (!Array.isArray(value))
    return fail('badWords', 'wrong-type', `expected a list of lists of token ids, found ${show(value)}`);
  return value.map((sequence: unknown, at) => checkIds(sequence, `badWords[${at}]`, vocabulary));
}
