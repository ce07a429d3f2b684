import { OptionError } from '../errors.js';
import type { Detokenizer, Tokenizer } from '../tokenizer/tokenizer.js';
import { type EitherCase, readOptions, withoutNulls, wrongType } from './option-names.js';

interface DecodeArguments {
  /** Leave out [CLS], [SEP] and their like. Default true. */
  readonly skipSpecialTokens?: boolean;
  /** No space before punctuation. Default: as the checkpoint says. */
  readonly cleanUpTokenizationSpaces?: boolean;
}

/** Options of a `TextStreamer`, in either case. */
export type TextStreamerOptions = EitherCase<
  DecodeArguments & {
    /** Say nothing of the prompt (or question). Default false. */
    readonly skipPrompt?: boolean;
    /** Hears each piece of text; all pieces joined are the text. Default: written to stdout, or to the console of a page. */
    readonly callbackFunction?: (text: string) => void;
    /** Hears the ids of each piece. */
    readonly tokenCallbackFunction?: (ids: bigint[]) => void;
    readonly decodeKwargs?: EitherCase<DecodeArguments>;
  }
>;

const DECODE_OPTIONS = ['skipSpecialTokens', 'cleanUpTokenizationSpaces'];
const OPTIONS = ['skipPrompt', 'callbackFunction', 'tokenCallbackFunction', 'decodeKwargs', ...DECODE_OPTIONS];

/**
 * Writes a text as it comes, as transformers.js's class of this name does: pass it as `streamer`. A piece is told as soon as it is certain, which
 * may be before the end of a word. A class, because it is made with `new` and extended.
 */
export class TextStreamer {
  readonly #tokenizer: Pick<Tokenizer, 'detokenizer' | 'vocabSize'>;
  readonly #decoding: DecodeArguments;
  readonly #skipPrompt: boolean;
  readonly #callback: ((text: string) => void) | undefined;
  readonly #tokenCallback: ((ids: bigint[]) => void) | undefined;
  #detokenizer: Detokenizer | undefined;
  #said = false;

  /** @throws OptionError for unknown options and callbacks that are no functions. */
  constructor(tokenizer: Pick<Tokenizer, 'detokenizer' | 'vocabSize'>, options: TextStreamerOptions = {}) {
    const given = withoutNulls(readOptions(options, OPTIONS, 'TextStreamer'));
    const { skipPrompt, callbackFunction, tokenCallbackFunction, decodeKwargs, ...decoding } = given;
    this.#tokenizer = tokenizer;
    this.#skipPrompt = skipPrompt === true;
    this.#callback = asFunction('callback_function', callbackFunction);
    this.#tokenCallback = asFunction('token_callback_function', tokenCallbackFunction);
    const inner = withoutNulls(readOptions(decodeKwargs, DECODE_OPTIONS, 'decode_kwargs'));
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
    if (!silent) this.#say(text, false);
  }

  /** Says what is left of the text; the next `put` begins a new one. */
  end(): void {
    this.#say(this.#detokenizer?.flush() ?? '', true);
    this.abort();
  }

  /** Forgets a text that failed. */
  abort(_reason?: unknown): void {
    this.#detokenizer = undefined;
    this.#said = false;
  }

  /** Hears all text, for classes that extend this one. */
  on_finalized_text(text: string, stream_end: boolean): void {
    const write = this.#callback ?? standardOutput();
    if (text !== '') write(text);
    if (stream_end && this.#callback === undefined && hasStdout()) write('\n');
  }

  /** The space between prompt and text belongs to neither. */
  #say(piece: string, end: boolean): void {
    const text = this.#said ? piece : piece.trimStart();
    this.#said ||= text !== '';
    if (text !== '' || end) this.on_finalized_text(text, end);
  }
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
