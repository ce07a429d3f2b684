import { OptionError, TokenizerError } from '../errors.js';
import { cleanText, compose, lowerCase, spaceIdeographs, stripAccents } from './normalize.js';
import { parseTokenizerConfig, parseTokenizerJson, type Side, type TokenizerSettings } from './tokenizer-config.js';
import {
  type AddedToken,
  buildTokenTable,
  createSegmenter,
  type NamedBytes,
  parseVocab,
  type TokenTable,
  type Vocabulary,
} from './vocabulary.js';
import { createCutter, preTokenize, wordPieceModel, wordPieces } from './word-piece.js';

/** A text that grows: what is certain comes out at once, what the next piece can still change is kept. */
interface TextFilter {
  push(text: string): string;
  /** The rest. Nothing may be pushed after it. */
  flush(): string;
}

/** Tokens become text, one token at a time. */
export interface TokenJoiner {
  /** A word, or a word piece with its `##`. */
  push(token: string): string;
  /** An added token that stands by itself: pieces before and after it do not grow together. */
  pushAlone(token: string): string;
  flush(): string;
}

/**
 * Joins tokens as `BertTokenizer.decode` of transformers 4.40: spaces between them, none before `##`, the ends of each
 * group between added tokens trimmed, groups and added tokens joined with a space.
 *
 * @param cleansUp takes away the spaces that tokens have before punctuation and contractions
 */
export function createJoiner(cleansUp: boolean): TokenJoiner {
  const joiner = createPlainJoiner();
  if (!cleansUp) return joiner;
  const cleanUp = createCleanUp();
  return {
    push: (token) => cleanUp.push(joiner.push(token)),
    pushAlone: (token) => cleanUp.push(joiner.pushAlone(token)),
    flush: () => cleanUp.push(joiner.flush()) + cleanUp.flush(),
  };
}

function createPlainJoiner(): TokenJoiner {
  let parts = 0; // groups and added tokens written so far
  let state: 'closed' | 'blank' | 'open' = 'closed'; // no token of the group yet; only space so far; some text
  let spaces = ''; // written when text follows in the group, else trimmed

  const startPart = (text: string) => (parts++ === 0 ? text : ` ${text}`);
  return {
    push(token) {
      const joined = (state === 'closed' ? token : ` ${token}`).replaceAll(' ##', '');
      const visible = state === 'open' ? joined : trimStart(joined);
      const text = trimEnd(visible);
      if (text === '') {
        if (state === 'open') spaces += joined;
        else state = 'blank';
        return '';
      }
      const piece = state === 'open' ? spaces + text : startPart(text);
      state = 'open';
      spaces = visible.slice(text.length);
      return piece;
    },
    pushAlone(token) {
      state = 'closed';
      spaces = '';
      return startPart(token);
    },
    // Python writes a last group even where nothing is left of it
    flush: () => (state === 'blank' ? startPart('') : ''),
  };
}

/** What Python's `str.strip` takes away. */
const isSpace = (unit: string): boolean =>
  /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/.test(unit);

function trimStart(text: string): string {
  let start = 0;
  while (start < text.length && isSpace(text[start]!)) start++;
  return text.slice(start);
}

function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace(text[end - 1]!)) end--;
  return text.slice(0, end);
}

/** `clean_up_tokenization` of transformers 4.40: these, one after the other. */
const CLEAN_UPS: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function createCleanUp(): TextFilter {
  const filters = CLEAN_UPS.map(([from, to]) => createReplacer(from, to));
  return {
    push: (text) => filters.reduce((piece, filter) => filter.push(piece), text),
    flush: () => filters.reduce((piece, filter) => filter.push(piece) + filter.flush(), ''),
  };
}

/** `replaceAll(from, to)` on a text that grows; keeps back at most the part of `from` that the text ends with. */
function createReplacer(from: string, to: string): TextFilter {
  let kept = '';
  return {
    push(text) {
      const parts = (kept + text).split(from);
      const last = parts.pop()!;
      kept = longestStartAtEnd(from, last);
      parts.push(last.slice(0, last.length - kept.length));
      return parts.join(to);
    },
    flush: () => kept,
  };
}

/** The longest proper start of `pattern` that `text` ends with. */
function longestStartAtEnd(pattern: string, text: string): string {
  for (let length = Math.min(pattern.length - 1, text.length); length > 0; length--) {
    const start = pattern.slice(0, length);
    if (text.endsWith(start)) return start;
  }
  return '';
}

/** How `encode` works. */
export interface EncodeOptions {
  /** Puts [CLS] before and [SEP] after. Default true. */
  readonly addSpecialTokens?: boolean | undefined;
  /**
   * Cuts the text's tokens until all ids, [CLS] and [SEP] included, are at most this many. What is cut off is not
   * tokenized, so that a long text costs no more than a short one. Default: no limit.
   */
  readonly maxLength?: number | undefined;
  /** Where `maxLength` cuts. Default: what the checkpoint says, else 'right'. */
  readonly truncationSide?: Side | undefined;
}

/** How `encodeBatch` works. */
export interface EncodeBatchOptions extends EncodeOptions {
  /** To which length rows are filled with [PAD]: that of the longest row (default), `maxLength`, or none. */
  readonly padding?: 'longest' | 'max-length' | 'none' | undefined;
  /** Where [PAD] goes. Default: what the checkpoint says, else 'right'. */
  readonly paddingSide?: Side | undefined;
}

/** Rows of ids; `attentionMask` is 1 for a token and 0 for padding. Both [B, T] (ragged with padding 'none'). */
export interface EncodedBatch {
  readonly inputIds: number[][];
  readonly attentionMask: number[][];
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leaves out [CLS], [SEP], [PAD], [UNK], [MASK] and other special tokens. Default false. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Takes away the spaces before punctuation and contractions. Default: what the checkpoint says, else true. */
  readonly cleanUpTokenizationSpaces?: boolean | undefined;
}

/** Ids become text one by one: all pieces joined, that of `flush` included, are what `decode` gives for all ids. */
export interface Detokenizer {
  /**
   * The text that became certain with this id. It may be empty: a space or an apostrophe waits for what follows. A
   * piece never ends inside a character.
   *
   * @throws TokenizerError for an id that the vocabulary does not have
   */
  push(id: number): string;
  /** The rest of the text. Nothing may be pushed after it. */
  flush(): string;
}

/** Text to token ids and back. Every method is total over strings and takes time in proportion to their length. */
export interface Tokenizer {
  /**
   * @throws OptionError where `maxLength` is no whole number or has no room for [CLS] and [SEP], or the text is no
   *   string
   */
  encode(text: string, options?: EncodeOptions): number[];
  /** @throws OptionError as `encode`, and where padding 'max-length' comes without `maxLength` */
  encodeBatch(texts: readonly string[], options?: EncodeBatchOptions): EncodedBatch;
  /** @throws TokenizerError for an id that the vocabulary does not have */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** `decode` for a stream of ids. */
  detokenizer(options?: DecodeOptions): Detokenizer;
  /** @throws TokenizerError for an id that the vocabulary does not have */
  tokenOf(id: number): string;
  idOf(token: string): number | undefined;
  /** Number of ids, added tokens included. */
  readonly vocabSize: number;
  readonly clsId: number;
  readonly sepId: number;
  readonly padId: number;
  readonly unkId: number;
  readonly maskId: number | undefined;
  /** All ids that `skipSpecialTokens` leaves out. */
  readonly specialIds: ReadonlySet<number>;
  /** The longest input that the checkpoint was made for, where it says so; nothing is cut to it unless asked. */
  readonly modelMaxLength: number | undefined;
}

/** The tokenizer files of a checkpoint. */
export interface TokenizerFiles {
  /** vocab.txt. Where it is given, `tokenizerJson` is not read: the reference is the tokenizer that reads vocab.txt. */
  readonly vocabTxt?: NamedBytes | undefined;
  /** tokenizer.json. */
  readonly tokenizerJson?: NamedBytes | undefined;
  /** tokenizer_config.json, already parsed; BERT's defaults where there is none. */
  readonly tokenizerConfig?: { readonly json: unknown; readonly file: string } | undefined;
}

/**
 * Makes the tokenizer of a checkpoint. What tokenizer_config.json says goes before what tokenizer.json says.
 *
 * @throws TokenizerError where a file breaks a rule, a special token is missing, or there is no vocabulary at all
 */
export function loadTokenizer({ vocabTxt, tokenizerJson, tokenizerConfig }: TokenizerFiles): Tokenizer {
  const config = tokenizerConfig && parseTokenizerConfig(tokenizerConfig.json, tokenizerConfig.file);
  if (vocabTxt !== undefined) {
    return createBertTokenizer({ ...config, vocabulary: parseVocab(vocabTxt.bytes, vocabTxt.file) });
  }
  if (tokenizerJson === undefined) {
    throw new TokenizerError({
      code: 'vocabulary-missing',
      detail: 'the checkpoint has no vocab.txt and no tokenizer.json',
    });
  }
  const { vocabulary, settings } = parseTokenizerJson(tokenizerJson.bytes, tokenizerJson.file);
  return createBertTokenizer({ ...merge(settings, config ?? {}), vocabulary });
}

function merge(json: TokenizerSettings, config: TokenizerSettings): TokenizerSettings {
  const stated = Object.entries(config).filter(([, value]) => value !== undefined);
  const added = new Map((json.addedTokens ?? []).map((token) => [token.content, token]));
  for (const token of config.addedTokens ?? []) {
    const known = added.get(token.content);
    added.set(token.content, { ...(token.id === undefined ? known : undefined), ...token, id: token.id ?? known?.id });
  }
  return {
    ...json,
    ...Object.fromEntries(stated),
    specialTokens: { ...json.specialTokens, ...config.specialTokens },
    addedTokens: [...added.values()],
  };
}

/** A vocabulary and what is to be done with it. */
export interface BertTokenizerOptions extends TokenizerSettings {
  readonly vocabulary: Vocabulary;
}

/**
 * BERT's tokenizer: the same ids and texts as `BertTokenizer` (the Python one, transformers 4.40, Unicode 14.0.0), and
 * for added tokens as Hugging Face's tokenizers.
 *
 * Special tokens written in a text are found case-sensitively and become their ids. Code points that Unicode 14.0.0
 * leaves unassigned are removed, as there; Rust tokenizers, and Pythons with newer tables, make [UNK] of some.
 *
 * @throws TokenizerError where the vocabulary lacks a special token or contradicts the added tokens
 */
export function createBertTokenizer(options: BertTokenizerOptions): Tokenizer {
  const { file } = options.vocabulary;
  const table = buildTokenTable(options.vocabulary, options.addedTokens ?? [], options.specialTokens ?? {});
  const { cls, sep, pad, unk, mask } = table.roles;
  const normalize = normalizerOf(options);
  const idsOf = createTextEncoder(table, options, normalize);
  const tokens = [...table.tokens];
  const normalizedIds = new Map<string, number>();
  for (const { id, content } of table.whole.filter(isNormalized)) {
    tokens[id] = normalize(content);
    normalizedIds.set(tokens[id], id);
  }

  function tokenOf(id: number): string {
    const token = Number.isInteger(id) ? tokens[id] : undefined;
    if (token !== undefined) return token;
    const detail = `no token has id ${String(id)}; ids are 0 to ${tokens.length - 1}`;
    throw new TokenizerError({ file, code: 'unknown-id', detail });
  }

  function encode(text: string, encodeOptions: EncodeOptions = {}): number[] {
    const { addSpecialTokens = true, maxLength } = encodeOptions;
    const side = sideOf('truncationSide', encodeOptions.truncationSide ?? options.truncationSide);
    if (typeof text !== 'string') throw wrongType('text', 'a string');
    const ids = idsOf(text, mostIds(maxLength, addSpecialTokens ? 2 : 0), side === 'left');
    return addSpecialTokens ? [cls, ...ids, sep] : ids;
  }

  function detokenizer({ skipSpecialTokens, cleanUpTokenizationSpaces }: DecodeOptions = {}): Detokenizer {
    const joiner = createJoiner(cleanUpTokenizationSpaces ?? options.cleanUpTokenizationSpaces ?? true);
    return {
      push(id) {
        const token = tokenOf(id);
        if (skipSpecialTokens && table.specialIds.has(id)) return '';
        return table.aloneIds.has(id) ? joiner.pushAlone(token) : joiner.push(token);
      },
      flush: joiner.flush,
    };
  }

  return {
    encode,
    encodeBatch(texts, batchOptions = {}) {
      if (!Array.isArray(texts)) throw wrongType('texts', 'an array of strings');
      const rows = texts.map((text) => encode(text, batchOptions));
      const side = sideOf('paddingSide', batchOptions.paddingSide ?? options.paddingSide);
      return padRows(rows, batchOptions, pad, side);
    },
    decode(ids, decodeOptions) {
      const stream = detokenizer(decodeOptions);
      let text = '';
      for (const id of ids) text += stream.push(id);
      return text + stream.flush();
    },
    detokenizer,
    tokenOf,
    idOf: (token) => table.ids.get(token) ?? normalizedIds.get(token),
    vocabSize: tokens.length,
    clsId: cls,
    sepId: sep,
    padId: pad,
    unkId: unk,
    maskId: mask,
    specialIds: table.specialIds,
    modelMaxLength: options.modelMaxLength,
  };
}

const isNormalized = ({ normalized, special }: AddedToken): boolean => normalized ?? !special;

/** The whole normalization of a text, as added tokens are compared by. */
function normalizerOf(settings: TokenizerSettings): (text: string) => string {
  const { lowerCase: lowers = true, stripAccents: strips = lowers, tokenizeChineseChars = true } = settings;
  return (text) => {
    const clean = cleanText(lowers ? lowerCase(text) : text);
    const composed = compose(tokenizeChineseChars ? spaceIdeographs(clean) : clean);
    return strips ? stripAccents(composed) : composed;
  };
}

/** The ids of a text's first (or, `fromEnd`, last) `most` tokens, without [CLS] and [SEP] around them. */
type TextEncoder = (text: string, most: number, fromEnd: boolean) => number[];

function createTextEncoder(
  table: TokenTable,
  { vocabulary, ...settings }: BertTokenizerOptions,
  normalize: (text: string) => string,
): TextEncoder {
  const { lowerCase: lowers = true, tokenizeChineseChars = true } = settings;
  const { unk } = table.roles;
  const raw = new Map(table.whole.filter((token) => !isNormalized(token)).map((token) => [token.content, token]));
  const normalized = new Map(table.whole.filter(isNormalized).map((token) => [normalize(token.content), token]));
  const segmentsAsWritten = createSegmenter(raw);
  const segmentsNormalized = createSegmenter(normalized);
  const ownNeverSplit = new Set(settings.neverSplit);
  const specials = [...table.specialIds].map((id) => table.tokens[id]!);
  const words = {
    stripAccents: settings.stripAccents ?? lowers,
    tokenizeChineseChars,
    neverSplit: new Set([...ownNeverSplit, ...specials]),
  };
  const cutAfter = createCutter([...raw.keys(), ...normalized.keys(), ...words.neverSplit], tokenizeChineseChars);
  const model = wordPieceModel(vocabulary.ids, unk, settings.maxCharsPerWord ?? 100);

  const encodeWords = (text: string, ids: number[]): void => {
    for (const word of preTokenize(text, words)) {
      if (ownNeverSplit.has(word)) ids.push(table.ids.get(word) ?? unk);
      else wordPieces(word, model, ids);
    }
  };
  const encodeBlock = (block: string, most: number): number[] => {
    const ids: number[] = [];
    for (const { text, token } of segmentsAsWritten(block)) {
      if (ids.length >= most) break;
      if (token !== undefined) ids.push(raw.get(token)!.id);
      else if (normalized.size === 0) encodeWords(lowers ? lowerCase(text) : text, ids);
      else {
        for (const inner of segmentsNormalized(normalize(text))) {
          if (inner.token === undefined) encodeWords(inner.text, ids);
          else ids.push(normalized.get(inner.token)!.id);
        }
      }
    }
    return ids;
  };
  return (text, most, fromEnd) => {
    const blocks: number[][] = [];
    let count = 0;
    for (let at = fromEnd ? text.length : 0; count < most && at !== (fromEnd ? 0 : text.length); ) {
      const next = cutAfter(text, at, fromEnd);
      const block = text.slice(Math.min(at, next), Math.max(at, next));
      const ids = encodeBlock(block, fromEnd ? Number.POSITIVE_INFINITY : most - count);
      count += ids.length;
      blocks.push(ids);
      at = next;
    }
    const ids = (fromEnd ? blocks.reverse() : blocks).flat();
    return ids.length <= most ? ids : fromEnd ? ids.slice(ids.length - most) : ids.slice(0, most);
  };
}

/** Widest row that is filled up: a width is memory, whatever the texts. */
const WIDTH_LIMIT = 1_000_000;

/**
 * How many ids of the text fit beside `added` ids; Infinity without a limit.
 *
 * @throws OptionError where `maxLength` is no whole number, or smaller than `added`
 */
function mostIds(maxLength: number | undefined, added: number): number {
  if (maxLength === undefined) return Number.POSITIVE_INFINITY;
  if (Number.isSafeInteger(maxLength) && maxLength >= added) return maxLength - added;
  const detail = `must be a whole number of at least ${added}, not ${maxLength}`;
  throw new OptionError({ path: 'maxLength', code: 'out-of-range', detail });
}

function sideOf(path: string, side: Side = 'right'): Side {
  if (side === 'left' || side === 'right') return side;
  throw new OptionError({ path, code: 'illegal-option', detail: "must be 'left' or 'right'" });
}

/**
 * Fills rows of ids with `padId`.
 *
 * @throws OptionError for a padding that does not exist, and for 'max-length' without `maxLength`
 */
function padRows(
  rows: readonly (readonly number[])[],
  { padding = 'longest', maxLength }: EncodeBatchOptions,
  padId: number,
  side: Side,
): EncodedBatch {
  const width = rowWidth(rows, padding, maxLength);
  const fill = (row: readonly number[], value: number) => {
    const filling = new Array<number>(Math.max(0, width - row.length)).fill(value);
    return side === 'left' ? [...filling, ...row] : [...row, ...filling];
  };
  return {
    inputIds: rows.map((row) => fill(row, padId)), // [B, T]
    attentionMask: rows.map((row) =>
      fill(
        row.map(() => 1),
        0,
      ),
    ), // [B, T]
  };
}

function rowWidth(rows: readonly (readonly number[])[], padding: string, maxLength: number | undefined): number {
  if (padding === 'none') return 0;
  if (padding === 'longest') return rows.reduce((width, row) => Math.max(width, row.length), 0);
  if (padding === 'max-length' && maxLength !== undefined && maxLength <= WIDTH_LIMIT) return maxLength;
  const detail =
    padding === 'max-length' ? `needs maxLength, at most ${WIDTH_LIMIT}` : "must be 'longest', 'max-length' or 'none'";
  throw new OptionError({ path: 'padding', code: 'illegal-option', detail });
}

const wrongType = (path: string, type: string) =>
  new OptionError({ path, code: 'wrong-type', detail: `must be ${type}` });
