/** The options of a model's methods, declared once; the methods that write text take those of generation besides. */
import { OptionError } from '../errors.js';
import type { GenerationConfig } from '../generation/generation-config.js';
import { withGenerationConfig, withSource } from '../generation/generation-config.js';
import { checkGenerateOptions, type GenerateOptions, generationOptions } from '../generation/options.js';
import type { VocabularyFacts } from '../generation/session.js';
import type { Trace } from '../layers/tidy.js';
import { eventSink } from '../load-events.js';
import {
  asObject,
  boolean,
  type CheckedFor,
  checkNames,
  checkOptions,
  choice,
  fail,
  functionOf,
  integer,
  listOf,
  type OptionTable,
  objectOf,
  signal,
  text,
} from '../options.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';

export const METHODS = [
  'caption',
  'answer',
  'stream',
  'explain',
  'generate',
  'encode',
  'classify',
  'score',
  'embed',
] as const;
export type Method = (typeof METHODS)[number];

/** Methods that write text, and the options of generation that have no effect there. */
const WRITING: Readonly<Partial<Record<Method, readonly string[]>>> = {
  caption: [],
  answer: [],
  stream: ['onToken', 'numReturnSequences'],
  explain: ['numReturnSequences'],
  generate: [],
};

/** What transformers.js calls a streamer: the prompt's ids first, then each token, then the end. */
export interface TokenStreamer {
  put(ids: bigint[][]): void;
  end(): void;
}

export const methodOptions = {
  /** Text that the model goes on from; it is not part of the result. */
  prompt: text({
    defaults: { caption: undefined, stream: undefined, explain: undefined, classify: undefined, score: undefined },
    help: 'Text that the model goes on from.',
  }),
  /** Ask instead of caption; not together with `prompt`. */
  question: text({ defaults: { stream: undefined }, help: 'A question to answer in place of a caption.' }),
  /** Explain this text instead of a caption of the model's own. */
  text: text({ defaults: { explain: undefined }, help: "A text to explain in place of the model's own." }),
  /** Attention rollout too, for which the image is encoded once more, watched; without, what `encode` gave is explained as it is. */
  rollout: boolean({ defaults: { explain: true }, help: 'Whether to follow attention down to the input as well.' }),
  /** Ids that each row starts with, [CLS] included; one list for all images, or one for each. Default: [CLS] alone. */
  inputIds: listOf<readonly number[] | readonly (readonly number[])[]>()({
    expected: 'a list of token ids, or one for each image',
    defaults: { generate: undefined },
    help: 'Token ids that each text starts with.',
  }),
  /** How many rows (images, questions) are decoded together. Results do not depend on it. Default: the model's `maxBatch`. */
  batchSize: integer({
    least: 1,
    defaults: { caption: undefined, answer: undefined, generate: undefined },
    help: 'How many images or questions are computed together.',
  }),
  /** Receives the tokens of one row as they come (greedy and sample); transformers.js's streamers fit. */
  streamer: objectOf<TokenStreamer>()({
    expected: 'an object with put() and end()',
    defaults: { caption: undefined, answer: undefined, generate: undefined },
    help: 'Receives the tokens of one text as they come.',
    check: (value, name) => {
      if (typeof value.put === 'function' && typeof value.end === 'function') return;
      fail(name, 'wrong-type', 'expected an object with put() and end()');
    },
  }),
  /** `throw`: the first input that fails ends the call. `collect`: its error is the result at its place, and the others are done. */
  onError: choice(['throw', 'collect'], {
    defaults: { caption: 'throw' },
    help: 'Whether one image that fails ends the call.',
  }),
  /**
   * Adds to every token how much the image changed its log-probability (docs/explain.md says what that means); one more pass over the texts,
   * without an image.
   */
  evidence: boolean({
    defaults: { caption: false, answer: false },
    help: 'How much the image changed the probability of every word.',
  }),
  /** How many names to return. */
  topK: integer({ least: 1, defaults: { classify: 5 }, help: 'How many names to return.' }),
  /**
   * `exact` scores every name, sharing what they have in common. `greedy` walks to one name as the original does, and returns
   * that one alone, with a probability of 1: nothing else was scored.
   */
  method: choice(['exact', 'greedy'], {
    defaults: { classify: 'exact' },
    help: 'Scores every name, or walks to one as the original does.',
  }),
  /** `vision`: after the vision tower; `projected`: as the decoder receives it. */
  stage: choice(['vision', 'projected'], { defaults: { embed: 'vision' }, help: 'Where the features are taken.' }),
  /** `class`: the class token's vector; `mean`: the mean over all tokens; `none`: all of them. */
  pool: choice(['class', 'mean', 'none'], { defaults: { embed: 'mean' }, help: 'How the tokens become one vector.' }),
  /** Receives every named intermediate of the model (docs/architecture.md lists the names). */
  trace: functionOf<Trace>()({
    defaults: {
      caption: undefined,
      answer: undefined,
      stream: undefined,
      generate: undefined,
      encode: undefined,
      classify: undefined,
      score: undefined,
    },
    help: 'Receives every named intermediate of the model.',
  }),
  signal: signal({
    defaults: {
      caption: undefined,
      answer: undefined,
      stream: undefined,
      explain: undefined,
      generate: undefined,
      encode: undefined,
      classify: undefined,
      score: undefined,
      embed: undefined,
    },
    help: 'Stops the call, which then throws the reason of the signal.',
  }),
} as const;

/** A method's own options, checked, and those of generation, ready for it. */
export interface CheckedCall<Taker extends Method> {
  readonly own: CheckedFor<typeof methodOptions, Taker>;
  readonly generation: GenerateOptions;
}

/** What turns texts among the options into ids, and fills in what the checkpoint says. */
export interface CallContext {
  readonly tokenizer: Tokenizer;
  readonly vocabulary: VocabularyFacts;
  readonly generationConfig: GenerationConfig | undefined;
}

/**
 * The options of one call of `method`, before anything is loaded or computed.
 *
 * @throws OptionError naming the option: unknown, not used by this method or strategy, of the wrong type, out of range, or in contradiction.
 */
export function checkCall<Taker extends Method>(
  method: Taker,
  options: unknown,
  { tokenizer, vocabulary, generationConfig }: CallContext,
): CheckedCall<Taker> {
  const given = asObject(options === undefined ? {} : options, 'options');
  const ignored = WRITING[method];
  const table: OptionTable = methodOptions;
  const own: Record<string, unknown> = {};
  const written: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    const mine = Object.hasOwn(table, name) && Object.hasOwn(table[name]!.defaults, method);
    const theirs = Object.hasOwn(generationOptions, name);
    if (mine) own[name] = value;
    else if (theirs && value !== undefined && (ignored === undefined || ignored.includes(name))) {
      fail(name, 'unused-option', `"${method}" does not use it`);
    } else if (theirs) written[name] = value;
    else checkNames({ [name]: value }, table, method);
  }
  const checked = checkOptions(own, methodOptions, method) as Record<string, unknown>;
  const { trace } = checked as { readonly trace?: Trace };
  if (trace !== undefined) checked['trace'] = safeTrace(trace);
  if (method === 'classify' && checked['method'] === 'greedy' && own['topK'] !== undefined) {
    fail('topK', 'unused-option', 'method "greedy" returns one name');
  }
  if (ignored === undefined) return { own: checked as CheckedFor<typeof methodOptions, Taker>, generation: {} };
  const unused = Object.keys(written).find((name) => written[name] !== undefined);
  if (checked['text'] !== undefined && unused !== undefined) {
    fail(unused, 'unused-option', 'with "text" nothing is generated');
  }
  const rules = withIds(written, tokenizer);
  const streams = method === 'stream';
  const config =
    streams && generationConfig?.strategy === 'beam' ? { ...generationConfig, strategy: undefined } : generationConfig;
  const fallback = streams ? 'greedy' : 'original';
  const generation =
    config === undefined
      ? { strategy: fallback, ...definite(rules) }
      : withGenerationConfig(definite(rules), config, fallback);
  try {
    checkGenerateOptions(generation, vocabulary);
  } catch (error) {
    throw config === undefined ? error : withSource(error, definite(rules), config);
  }
  return {
    own: checked as CheckedFor<typeof methodOptions, Taker>,
    generation: generation as unknown as GenerateOptions,
  };
}

/** One for each listener, so that calls of the same listener still share batches. */
const safeTraces = new WeakMap<Trace, Trace>();

/** A listener whose rejected promises end the call instead of the process. */
function safeTrace(trace: Trace): Trace {
  const known = safeTraces.get(trace) ?? Object.assign(eventSink(trace), { attentions: trace.attentions === true });
  safeTraces.set(trace, known);
  return known;
}

const definite = (options: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null));

/** `badWords` and `sequenceBias` with the ids of the texts in them. Whatever has another shape is left for the check. */
function withIds(options: Readonly<Record<string, unknown>>, tokenizer: Tokenizer): Readonly<Record<string, unknown>> {
  const { badWords, sequenceBias } = options;
  const idsOf = (item: unknown, path: string): unknown => {
    if (typeof item !== 'string') return item;
    const ids = tokenizer.encode(item, { addSpecialTokens: false });
    if (ids.length === 0)
      throw new OptionError({ path, code: 'empty', detail: `${JSON.stringify(item)} has no words` });
    return ids;
  };
  const all: Record<string, unknown> = { ...options };
  if (Array.isArray(badWords)) all['badWords'] = badWords.map((word, at) => idsOf(word, `badWords[${at}]`));
  if (Array.isArray(sequenceBias)) {
    all['sequenceBias'] = sequenceBias.map((pair: unknown, at) =>
      Array.isArray(pair) ? [idsOf(pair[0], `sequenceBias[${at}]`), ...pair.slice(1)] : pair,
    );
  }
  return all;
}
