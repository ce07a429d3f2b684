/** Streamers, stopping criteria and the tokenizer as code written for transformers.js makes and uses them. */

import { OptionError } from '../errors.js';
import type { StoppingCriterion } from '../generation/session.js';
import type { CaptionOptions } from '../image2text/captions.js';
import type { TokenStreamer } from '../image2text/method-options.js';
import { eventSink } from '../load-events.js';
import type { Detokenizer, Tokenizer } from '../tokenizer/tokenizer.js';
import { type EitherCase, readOptions, spellingsOf, withoutNulls, wrongType } from './options.js';

type Streamer = TokenStreamer & { abort?(reason: unknown): void };

/**
 * Runs `write` with a streamer that is told of the end exactly once, also where the text was interrupted, and of a failure by its `abort`,
 * if it has one.
 *
 * @throws OptionError for a streamer that is none; what `write` throws.
 */
export async function withStreamer<T>(
  options: CaptionOptions,
  write: (options: CaptionOptions) => Promise<T>,
): Promise<T> {
  const streamer: Streamer | undefined = options.streamer;
  if (streamer === undefined) return write(options);
  checkStreamer(streamer);
  let ended = false;
  const end = (): void => {
    if (!ended) streamer.end();
    ended = true;
  };
  try {
    const result = await write({ ...options, streamer: { put: (ids) => streamer.put(ids), end } });
    end();
    return result;
  } catch (error) {
    streamer.abort?.(error);
    throw error;
  }
}

function checkStreamer(streamer: Partial<Streamer> | null): void {
  if (typeof streamer !== 'object' || typeof streamer?.put !== 'function' || typeof streamer.end !== 'function')
    wrongType('streamer', 'an object with put and end', streamer);
}

interface DecodeArguments {
  /** Leave out [CLS], [SEP] and their like. Default true. */
  readonly skipSpecialTokens?: boolean;
  /** No space before punctuation. Default: as the checkpoint says. */
  readonly cleanUpTokenizationSpaces?: boolean;
}

/** Options of a `TextStreamer`, in either case. */
export type TextStreamerOptions = EitherCase<
  DecodeArguments & {
    /** Leave out the prompt (or question). Default false. */
    readonly skipPrompt?: boolean;
    /** Is called with each piece of text; all pieces joined are the text. Default: written to stdout, or to the console of a page. */
    readonly callbackFunction?: (text: string) => void;
    /** Is called with the ids of each piece. */
    readonly tokenCallbackFunction?: (ids: bigint[]) => void;
    readonly decodeKwargs?: EitherCase<DecodeArguments>;
  }
>;

const DECODE_NAMES = ['skipSpecialTokens', 'cleanUpTokenizationSpaces'];
const STREAMER_NAMES = ['skipPrompt', 'callbackFunction', 'tokenCallbackFunction', 'decodeKwargs', ...DECODE_NAMES];

/**
 * Writes a text as it comes, as transformers.js's class of this name does: pass it as `streamer`. A piece is written as soon as it is
 * certain, which may be before the end of a word. A class, because it is made with `new` and extended.
 */
export class TextStreamer {
  readonly #tokenizer: Pick<Tokenizer, 'detokenizer' | 'vocabSize'>;
  readonly #decoding: DecodeArguments;
  readonly #skipPrompt: boolean;
  readonly #callback: ((text: string) => void) | undefined;
  readonly #tokenCallback: ((ids: bigint[]) => void) | undefined;
  #detokenizer: Detokenizer | undefined;
  #hasText = false;

  /** @throws OptionError for unknown options and callbacks that are no functions. */
  constructor(tokenizer: Pick<Tokenizer, 'detokenizer' | 'vocabSize'>, options: TextStreamerOptions = {}) {
    const given = withoutNulls(readOptions(options, spellingsOf(STREAMER_NAMES), 'TextStreamer'));
    const { skipPrompt, callbackFunction, tokenCallbackFunction, decodeKwargs, ...decoding } = given;
    this.#tokenizer = tokenizer;
    this.#skipPrompt = skipPrompt === true;
    this.#callback = listenerOf('callback_function', callbackFunction);
    this.#tokenCallback = listenerOf('token_callback_function', tokenCallbackFunction);
    const inner = withoutNulls(readOptions(decodeKwargs, spellingsOf(DECODE_NAMES), 'decode_kwargs'));
    this.#decoding = { skipSpecialTokens: true, ...decoding, ...inner };
  }

  /** Takes the prompt first, then one token after the other. */
  put(ids: readonly (readonly bigint[])[]): void {
    if (ids.length !== 1)
      throw new OptionError({ path: 'streamer', code: 'one-row', detail: 'a TextStreamer writes one text at a time' });
    const silent = this.#detokenizer === undefined && this.#skipPrompt;
    this.#detokenizer ??= this.#tokenizer.detokenizer(this.#decoding);
    if (!silent) this.#tokenCallback?.([...ids[0]!]);
    let text = '';
    for (const id of ids[0]!) if (id < this.#tokenizer.vocabSize) text += this.#detokenizer.push(Number(id));
    if (!silent) this.#write(text, false);
  }

  /** Writes what is left of the text; the next `put` begins a new one. */
  end(): void {
    this.#write(this.#detokenizer?.flush() ?? '', true);
    this.abort();
  }

  /** Forgets a text that failed. */
  abort(_reason?: unknown): void {
    this.#detokenizer = undefined;
    this.#hasText = false;
  }

  /** Is called with all text, for classes that extend this one. */
  on_finalized_text(text: string, stream_end: boolean): void {
    const write = this.#callback ?? standardOutput();
    if (text !== '') write(text);
    if (stream_end && this.#callback === undefined && hasStdout()) write('\n');
  }

  /** The space between prompt and text belongs to neither. */
  #write(piece: string, end: boolean): void {
    const text = this.#hasText ? piece : piece.trimStart();
    this.#hasText ||= text !== '';
    if (text !== '' || end) this.on_finalized_text(text, end);
  }
}

function listenerOf<Event>(name: string, value: unknown): ((event: Event) => void) | undefined {
  const listener = asFunction<(event: Event) => unknown>(name, value);
  return listener && eventSink((event: Event) => listener(event));
}

function asFunction<F>(name: string, value: unknown): F | undefined {
  if (value !== undefined && typeof value !== 'function') wrongType(name, 'a function', value);
  return value as F | undefined;
}

/** Node's and its like's; this file runs in pages too. */
const stdout = (): { write(text: string): unknown } | undefined =>
  (globalThis as { process?: { stdout?: { write(text: string): unknown } } }).process?.stdout;

const hasStdout = (): boolean => typeof stdout()?.write === 'function';

const standardOutput = (): ((text: string) => void) => {
  const out = stdout();
  return hasStdout() ? (text) => void out!.write(text) : (text) => console.log(text);
};

/** A criterion as a function: one boolean for each row of ids, prompt included. */
export type CriterionFunction = (inputIds: bigint[][], scores?: unknown) => readonly boolean[];

/** What `stopping_criteria` takes: criteria of ours or of transformers.js, functions, an object with `interrupted`, or a list of these. */
export type StoppingCriteriaInput =
  | CriterionFunction
  | { readonly interrupted: boolean }
  | Iterable<CriterionFunction | { readonly interrupted: boolean }>;

/**
 * A reason of one's own to end a text: extend it and write `_call`, as with transformers.js's class of this name.
 */
export class StoppingCriteria {
  /** One boolean for each row of `inputIds` (prompt included). */
  _call(_inputIds: bigint[][], _scores?: unknown): readonly boolean[] {
    throw new OptionError({ path: 'stopping_criteria', code: 'abstract', detail: 'a criterion needs a method _call' });
  }
}

/** Ends a text early and keeps what is there: pass it as `stopping_criteria` and call `interrupt()`. */
export class InterruptableStoppingCriteria extends StoppingCriteria {
  interrupted = false;

  interrupt(): void {
    this.interrupted = true;
  }

  reset(): void {
    this.interrupted = false;
  }

  override _call(inputIds: bigint[][]): boolean[] {
    return inputIds.map(() => this.interrupted);
  }
}

type CriterionItem = StoppingCriteria | StoppingCriteriaInput;

/** Several criteria: a text ends where one of them says so. */
export class StoppingCriteriaList {
  readonly criteria: CriterionItem[] = [];

  push(item: CriterionItem): void {
    this.criteria.push(item);
  }

  /** Adds one criterion, a list of them, or those of another `StoppingCriteriaList`. */
  extend(items: CriterionItem | readonly CriterionItem[] | StoppingCriteriaList): void {
    if (items instanceof StoppingCriteriaList || Array.isArray(items)) for (const item of items) this.push(item);
    else this.push(items as CriterionItem);
  }

  [Symbol.iterator](): IterableIterator<CriterionItem> {
    return this.criteria.values();
  }
}

/** A criterion as generation asks it; `isInterrupted` where it can be interrupted from outside. */
export interface Criterion {
  readonly isOver: StoppingCriterion;
  readonly isInterrupted?: () => boolean;
}

/**
 * Criteria of transformers.js or ours, told by what they have. No scores are passed, as transformers.js passes none.
 *
 * @throws OptionError for what is no criterion.
 */
export function readCriteria(given: unknown): readonly Criterion[] {
  const isThing = (typeof given === 'object' || typeof given === 'function') && given !== null;
  if (isThing && typeof (given as Partial<{ interrupted: boolean }>).interrupted === 'boolean') {
    const isInterrupted = (): boolean => (given as { interrupted: boolean }).interrupted;
    return [{ isOver: isInterrupted, isInterrupted }];
  }
  if (isThing && Symbol.iterator in given) return [...(given as Iterable<unknown>)].flatMap(readCriteria);
  const ask: unknown = typeof given === 'function' ? given : isThing && '_call' in given ? given._call : undefined;
  if (typeof ask !== 'function') {
    wrongType('stopping_criteria', 'a StoppingCriteria, a function, or a list of these', given);
  }
  const isOver: StoppingCriterion = (ids) => {
    const answer: unknown = Reflect.apply(ask, given, [[ids.map(BigInt)]]);
    if (Array.isArray(answer) && typeof answer[0] === 'boolean') return answer[0];
    return wrongType('stopping_criteria', 'one boolean for each row from a criterion', answer);
  };
  return [{ isOver }];
}

/** A tokenizer with what code for transformers.js, its streamers first, calls beside our own methods. */
export interface PipelineTokenizer extends Omit<Tokenizer, 'decode'> {
  readonly all_special_ids: readonly number[];
  /** @throws TokenizerError for an id that the vocabulary does not have */
  decode(ids: Iterable<number | bigint>, options?: EitherCase<DecodeArguments>): string;
  batch_decode(rows: Iterable<Iterable<number | bigint>>, options?: EitherCase<DecodeArguments>): string[];
}

export function pipelineTokenizer(tokenizer: Tokenizer): PipelineTokenizer {
  const decode: PipelineTokenizer['decode'] = (ids, options) => {
    const given = withoutNulls(readOptions(options, spellingsOf(DECODE_NAMES), 'decode'));
    return tokenizer.decode([...ids].map(Number), given);
  };
  return {
    ...tokenizer,
    all_special_ids: [...tokenizer.specialIds],
    decode,
    batch_decode: (rows, options) => [...rows].map((ids) => decode(ids, options)),
  };
}
