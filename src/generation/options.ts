/**
 * The options of generation, declared once. Names are Hugging Face's in camel case and mean what they mean there; every strategy has its own,
 * so that a contradiction (beams with a temperature) does not compile, and `checkGenerateOptions` says the same at run time.
 */
import { quote } from '../errors.js';
import {
  asObject,
  type CheckedFor,
  checkOptions,
  choice,
  fail,
  functionOf,
  integer,
  listOf,
  number,
  type OptionsFor,
  showValue,
  signal,
  texts,
} from '../options.js';
import {
  checkIds,
  type LogitsProcessor,
  type StoppingCriterion,
  type TokenEvent,
  type VocabularyFacts,
} from './session.js';

/** Receives each token as it comes, and is awaited; returning `false` ends that row with finish `stopped`. */
export type TokenListener = (event: TokenEvent) => unknown;

/** A choice of how to search; `original` is the default. */
export const STRATEGIES = ['original', 'beam', 'greedy', 'sample', 'original-autoregressive'] as const;
export type Strategy = (typeof STRATEGIES)[number];

/** Rows that one image may grow into, and the rows of all images together. */
const MAX_ROWS = 1024;
/** `numBeams` x `perNode`: candidates of one image in one step. */
const MAX_CANDIDATES = 4096;

/** The same default for every strategy. */
const every = <const Value>(value: Value) => ({
  original: value,
  beam: value,
  greedy: value,
  sample: value,
  'original-autoregressive': value,
});

export const generationOptions = {
  /** How to search: the original's beam search, Hugging Face's, the most likely token at every step, or a random one. */
  strategy: choice(STRATEGIES, {
    defaults: every('original' as Strategy),
    flag: '--strategy',
    help: "How to search: the original's beam search, Hugging Face's beam search, the likeliest word each time, or a random one.",
  }),
  /** How long a text may get, the prompt included. Not together with `maxNewTokens`. */
  maxLength: integer({
    least: 2,
    defaults: { original: 1024, 'original-autoregressive': 1024, beam: 20, greedy: 20, sample: 20 },
    huggingFace: 'max_length',
    help: 'Most tokens of a text, the prompt and the end token included.',
  }),
  /** How many tokens may be added to the prompt. Not together with `maxLength`. */
  maxNewTokens: integer({
    least: 1,
    defaults: every(undefined),
    flag: '--max-new-tokens',
    huggingFace: 'max_new_tokens',
    help: 'Most tokens added to the prompt, the end token included.',
  }),
  /** No end token before the row, prompt included, has this many tokens. */
  minLength: integer({
    least: 0,
    defaults: every(0),
    flag: '--min-length',
    huggingFace: 'min_length',
    help: 'The text does not end before it has this many tokens, the prompt included.',
  }),
  /** No end token before this many new tokens. */
  minNewTokens: integer({
    least: 0,
    defaults: every(0),
    flag: '--min-new-tokens',
    huggingFace: 'min_new_tokens',
    help: 'The text does not end before this many tokens were added to the prompt.',
  }),
  /** How many beams: unfinished texts that are kept at each step. */
  numBeams: integer({
    least: 1,
    most: MAX_ROWS,
    defaults: { original: 4, beam: 4, 'original-autoregressive': 1 },
    flag: '--num-beams',
    huggingFace: 'num_beams',
    help: 'How many unfinished texts a beam search keeps at each step.',
  }),
  /** How many continuations of each beam are considered at each step. */
  perNode: integer({
    least: 1,
    most: MAX_ROWS,
    defaults: { original: 2, 'original-autoregressive': 2 },
    flag: '--per-node',
    help: "How many continuations the original's searches consider for each beam.",
  }),
  /** beam: score = sum of log-probabilities / new tokens ^ lengthPenalty; original: sum / ((5 + tokens) / 6) ^ lengthPenalty. */
  lengthPenalty: number({
    least: -100,
    most: 100,
    defaults: { original: 0.6, beam: 1 },
    flag: '--length-penalty',
    huggingFace: 'length_penalty',
    help: 'Above 0 favors longer texts in a beam search, below 0 shorter ones.',
  }),
  /** When `numBeams` texts have ended: stop at once, when no better one is likely, or when none is possible. */
  earlyStopping: choice([true, false, 'never'], {
    defaults: { beam: false },
    flag: '--early-stopping',
    huggingFace: 'early_stopping',
    help: 'When as many texts as beams have ended: stop at once, when no better one is likely, or when none is possible.',
  }),
  /** How many texts of each image to return: the best of a beam search, or as many samples. */
  numReturnSequences: integer({
    least: 1,
    most: MAX_ROWS,
    defaults: { original: 1, beam: 1, sample: 1 },
    flag: '--num-return-sequences',
    huggingFace: 'num_return_sequences',
    help: 'How many texts of each image to return.',
  }),
  /** Divides the scores before a token is drawn: below 1 sharper, above 1 flatter. */
  temperature: number({
    least: 1e-4,
    most: 1e4,
    defaults: { sample: 1 },
    flag: '--temperature',
    huggingFace: 'temperature',
    help: 'Below 1 keeps sampling closer to the likeliest words, above 1 makes it more random.',
  }),
  /** Only the k most likely tokens; 0: all. */
  topK: integer({
    least: 0,
    defaults: { sample: 50 },
    flag: '--top-k',
    huggingFace: 'top_k',
    help: 'Sampling draws from this many of the likeliest tokens only; 0: from all.',
  }),
  /** Only the most likely tokens that together reach this probability. */
  topP: number({
    above: 0,
    most: 1,
    defaults: { sample: 1 },
    flag: '--top-p',
    huggingFace: 'top_p',
    help: 'Sampling draws from the likeliest tokens that together reach this probability.',
  }),
  /** Only tokens at least this many times as likely as the likeliest; 0: all. */
  minP: number({
    least: 0,
    most: 1,
    defaults: { sample: 0 },
    flag: '--min-p',
    huggingFace: 'min_p',
    help: 'Sampling draws only words at least this many times as likely as the likeliest; 0: from all.',
  }),
  /** The same seed, image and options give the same tokens, alone or in any batch. */
  seed: integer({
    least: 0,
    defaults: { sample: 0 },
    flag: '--seed',
    help: 'The same seed draws the same words again.',
  }),
  /** Above 1: tokens of the row so far, prompt included, get less likely. */
  repetitionPenalty: number({
    least: 1e-4,
    most: 1e4,
    defaults: every(1),
    flag: '--repetition-penalty',
    huggingFace: 'repetition_penalty',
    help: 'Above 1 makes words that are there already less likely.',
  }),
  /** No n-gram of this size twice, prompt included; 0: off. */
  noRepeatNgramSize: integer({
    least: 0,
    defaults: every(0),
    flag: '--no-repeat-ngram-size',
    huggingFace: 'no_repeat_ngram_size',
    help: 'No sequence of this many tokens comes twice; 0: off.',
  }),
  /** Token sequences that must not appear. */
  badWords: listOf<readonly (readonly number[])[]>()({
    expected: 'a list of lists of token ids',
    defaults: every(undefined),
    flag: '--stop-words',
    huggingFace: 'bad_words_ids',
    help: 'Words and phrases that must not appear.',
  }),
  /** Added to the score of a sequence's last token where the row ends with its other tokens; below 0 less likely. */
  sequenceBias: listOf<readonly (readonly [ids: readonly number[], bias: number])[]>()({
    expected: 'a list of pairs of token ids and a number',
    defaults: every(undefined),
    huggingFace: 'sequence_bias',
    help: 'Makes sequences of tokens likelier (above 0) or less likely (below 0).',
    check: (pairs, name) => {
      const odd = pairs.findIndex((pair) => !Array.isArray(pair) || pair.length !== 2 || !isBias(pair[1]));
      if (odd >= 0) fail(`${name}[${odd}]`, 'wrong-type', 'expected a pair of token ids and a number below Infinity');
    },
  }),
  /** A row ends with the token that completes one of these texts; the text stays. Needs `textOf` of the vocabulary. */
  stopStrings: texts({
    defaults: every(undefined),
    flag: '--stop-strings',
    huggingFace: 'stop_strings',
    help: 'A text ends as soon as it contains one of these; it is not cut off.',
    check: (strings, name) => {
      const empty = strings.indexOf('');
      if (empty >= 0) fail(`${name}[${empty}]`, 'empty', 'an empty text would end every text at once');
    },
  }),
  /** The caller's own rules on scores, after all others but those of sampling. */
  logitsProcessors: listOf<readonly LogitsProcessor[]>()({
    expected: 'a list of functions',
    defaults: every(undefined),
    huggingFace: 'logits_processor',
    help: 'Functions that change the scores of the next token in place.',
    check: checkFunctions,
  }),
  /** The caller's own reasons to end a row. */
  stoppingCriteria: listOf<readonly StoppingCriterion[]>()({
    expected: 'a list of functions',
    defaults: every(undefined),
    huggingFace: 'stopping_criteria',
    help: 'Functions of the tokens so far; a text ends where one of them returns true.',
    check: checkFunctions,
  }),
  /** Receives each token as it comes; returning `false` ends that row. */
  onToken: functionOf<TokenListener>()({
    defaults: { greedy: undefined, sample: undefined },
    help: 'Is called with each token as it comes; returning false ends that text.',
  }),
  /** Checked before and after every step; generation then throws `signal.reason`. */
  signal: signal({
    defaults: every(undefined),
    help: 'Stops the call, which then throws the reason of the signal.',
  }),
} as const;

type Table = typeof generationOptions;
type One<Taker extends Strategy> = Omit<OptionsFor<Table, Taker>, 'strategy'>;

/** `maxLength` or `maxNewTokens`; whatever is asked, a row never outgrows the session's `maxLength`. */
export type LengthOptions = { readonly maxNewTokens?: undefined } | { readonly maxLength?: undefined };

export type GreedyOptions = { readonly strategy: 'greedy' } & One<'greedy'>;
export type SampleOptions = { readonly strategy: 'sample' } & One<'sample'>;
export type BeamOptions = { readonly strategy: 'beam' } & One<'beam'>;
export type OriginalOptions = { readonly strategy?: 'original' | undefined } & One<'original'>;
export type AutoregressiveOptions = { readonly strategy: 'original-autoregressive' } & One<'original-autoregressive'>;

/** What a caller may ask of generation. The default, `{}`, is the original's beam search with its own settings. */
export type GenerateOptions = LengthOptions &
  (GreedyOptions | SampleOptions | BeamOptions | OriginalOptions | AutoregressiveOptions);

/** Options of the strategies that produce token by token. */
export type StreamOptions = LengthOptions & (Omit<GreedyOptions, 'onToken'> | Omit<SampleOptions, 'onToken'>);

/** Options of one strategy, checked, defaults filled in; `maxLength` is Infinity where `maxNewTokens` rules, and the other way round. */
export type CheckedOptions<Taker extends Strategy> = Taker extends Strategy
  ? Omit<CheckedFor<Table, Taker>, 'strategy' | 'maxNewTokens'> & {
      readonly strategy: Taker;
      readonly maxNewTokens: number;
    }
  : never;

/**
 * Checks what the types already say, for callers without types, and fills in the defaults.
 *
 * @throws OptionError naming the option (`path`): unknown, not of this strategy, of the wrong type, out of range, or in contradiction.
 */
export function checkGenerateOptions(options: unknown, vocabulary: VocabularyFacts): CheckedOptions<Strategy> {
  const given = asObject(options, 'options');
  const strategy = (given['strategy'] ?? 'original') as Strategy;
  if (!STRATEGIES.includes(strategy)) {
    fail('strategy', 'unknown-strategy', `${showValue(strategy)} is none of ${STRATEGIES.map(quote).join(', ')}`);
  }
  const checked = checkOptions(given, generationOptions, strategy) as CheckedFor<Table, Strategy>;
  const counts = checked.maxNewTokens !== undefined;
  if (counts && given['maxLength'] !== undefined && given['maxLength'] !== null) {
    fail('maxNewTokens', 'contradiction', 'give maxLength (with the prompt) or maxNewTokens (without), not both');
  }
  const lengths = {
    maxLength: counts ? Number.POSITIVE_INFINITY : checked.maxLength,
    maxNewTokens: checked.maxNewTokens ?? Number.POSITIVE_INFINITY,
  };
  checkTogether({ ...checked, ...lengths, strategy });
  for (const [at, ids] of (checked.badWords ?? []).entries()) checkIds(ids, `badWords[${at}]`, vocabulary);
  for (const [at, [ids]] of (checked.sequenceBias ?? []).entries()) checkIds(ids, `sequenceBias[${at}]`, vocabulary);
  if (checked.stopStrings !== undefined && vocabulary.textOf === undefined) {
    fail('stopStrings', 'no-text', 'the vocabulary needs textOf, which gives the text of a token');
  }
  return { ...checked, ...lengths, strategy } as CheckedOptions<Strategy>;
}

const isBias = (value: unknown): boolean =>
  typeof value === 'number' && !Number.isNaN(value) && value !== Number.POSITIVE_INFINITY;

function checkFunctions(list: readonly unknown[], name: string): void {
  const odd = list.findIndex((item) => typeof item !== 'function');
  if (odd >= 0) fail(`${name}[${odd}]`, 'wrong-type', `expected a function, found ${showValue(list[odd])}`);
}

/**
 * The rows that these options make of `images` images.
 *
 * @throws OptionError `too-many-rows` where they are more than one session may hold.
 */
export function checkRows(options: CheckedOptions<Strategy>, images: number): void {
  const each =
    'numBeams' in options ? options.numBeams : 'numReturnSequences' in options ? options.numReturnSequences : 1;
  if (images === 1 || images * each <= MAX_ROWS) return;
  const detail = `${images} prompts at once x ${each} rows each are more than ${MAX_ROWS}; give fewer at once`;
  fail('numBeams' in options ? 'numBeams' : 'numReturnSequences', 'too-many-rows', detail);
}

/** What no single declaration says. */
function checkTogether(options: {
  readonly strategy: Strategy;
  readonly maxLength: number;
  readonly maxNewTokens: number;
  readonly minLength: number;
  readonly minNewTokens: number;
  readonly numBeams?: number | undefined;
  readonly perNode?: number | undefined;
  readonly numReturnSequences?: number | undefined;
}): void {
  const { strategy, maxLength, maxNewTokens, minLength, minNewTokens, numBeams = 1, perNode } = options;
  if (minLength > maxLength) {
    fail('minLength', 'contradiction', `minLength ${minLength} is more than maxLength ${maxLength}`);
  }
  const most = Math.min(maxNewTokens, maxLength);
  if (minNewTokens > most) {
    fail('minNewTokens', 'contradiction', `minNewTokens ${minNewTokens} does not fit into ${most}`);
  }
  if (perNode === 1 && (strategy === 'original' || numBeams > 1)) {
    fail('perNode', 'out-of-range', 'expected at least 2: with 1 an end token would leave a beam without continuation');
  }
  if (perNode !== undefined && numBeams * perNode > MAX_CANDIDATES) {
    const detail = `numBeams ${numBeams} x perNode ${perNode} is more than ${MAX_CANDIDATES} candidates a step`;
    fail('perNode', 'too-many-candidates', detail);
  }
  if (strategy === 'beam' && (options.numReturnSequences ?? 1) > numBeams) {
    const detail = `${options.numReturnSequences} sequences are more than the ${numBeams} of numBeams`;
    fail('numReturnSequences', 'contradiction', detail);
  }
}
