import { cleanText, compose, kindOf, spaceIdeographs, stripAccents } from './normalize.js';

/** How a text falls into words. */
export interface PreTokenizeOptions {
  readonly stripAccents: boolean;
  readonly tokenizeChineseChars: boolean;
  /** Words that stay whole and keep their accents. */
  readonly neverSplit: ReadonlySet<string>;
}

/**
 * Splits a text into words and single punctuation marks: `BasicTokenizer.tokenize` of transformers 4.40, without its
 * lower-casing, which `encode` has done before (Python does it there and here; the second time changes nothing).
 */
export function preTokenize(text: string, options: PreTokenizeOptions): string[] {
  const clean = cleanText(text);
  const spaced = options.tokenizeChineseChars ? spaceIdeographs(clean) : clean;
  const words: string[] = [];
  for (const word of compose(spaced).split(' ')) {
    if (word === '') continue;
    if (options.neverSplit.has(word)) words.push(word);
    else splitOnPunctuation(options.stripAccents ? stripAccents(word) : word, options.neverSplit, words);
  }
  return words;
}

/** Appends the parts of a word to `parts`; a word of `neverSplit` is one part. */
function splitOnPunctuation(word: string, neverSplit: ReadonlySet<string>, parts: string[]): void {
  if (neverSplit.has(word)) {
    parts.push(word);
    return;
  }
  let start = 0;
  let at = 0;
  for (const char of word) {
    if (isPunctuation(char.codePointAt(0)!)) {
      if (start < at) parts.push(word.slice(start, at));
      parts.push(char);
      start = at + char.length;
    }
    at += char.length;
  }
  if (start < at) parts.push(word.slice(start));
}

/** BERT's punctuation: Unicode's, and all of ASCII's symbols (`$`, `+`, `<`, `^`, a backquote, …). */
function isPunctuation(codePoint: number): boolean {
  if (codePoint > 0x7e) return kindOf(codePoint) === 'P';
  const isLetterOrDigit =
    (codePoint >= 0x30 && codePoint <= 0x39) ||
    (codePoint >= 0x41 && codePoint <= 0x5a) ||
    (codePoint >= 0x61 && codePoint <= 0x7a);
  return codePoint > 0x20 && !isLetterOrDigit;
}

const isSpace = (unit: string | undefined): boolean => unit === ' ' || unit === '\n' || unit === '\t' || unit === '\r';

/** Shortest block that a text is cut into, in UTF-16 units: the work of an encoding that stops early. */
const BLOCK = 2048;

/**
 * Returns a function that gives the places where a text can be cut without changing its tokens, `BLOCK` units apart or
 * more: from the left or, with `fromEnd`, from the right. The last is the end (or start) of the text.
 *
 * A cut stands before a white space, a punctuation mark or an ideograph: none of them joins a word or composes with
 * what is before it. No cut stands beside a character that a whole token (an added token, a word that is not split) may
 * hold, so that no such token can cross it.
 *
 * @param whole what is matched whole in a text, as written and normalized
 * @param cutsIdeographs is every ideograph a word?
 */
export function createCutter(
  whole: Iterable<string>,
  cutsIdeographs: boolean,
): (text: string, at: number, fromEnd?: boolean) => number {
  const held = new Set<string>();
  for (const token of whole) for (const char of token + token.toLowerCase() + token.toUpperCase()) held.add(char);
  const isFreeIdeograph = (char: string): boolean => char >= '\u3400' && char <= '\u9fff' && !held.has(char);
  const canCut = (text: string, at: number): boolean => {
    const next = text[at]!;
    const previous = text[at - 1]!;
    if (held.has(next)) return false;
    if (isSpace(next)) return !held.has(' ');
    if (isFreeIdeograph(next)) return cutsIdeographs && isFreeIdeograph(previous);
    // what else stands before could be removed by the cleaning: only printable ASCII is sure
    const isSure = isSpace(previous) || (previous > ' ' && previous <= '~' && !held.has(previous));
    return isSure && isPunctuation(next.charCodeAt(0)) && next.normalize('NFD') === next;
  };
  return (text, at, fromEnd = false) => {
    let cut = fromEnd ? at - BLOCK : at + BLOCK;
    while (cut > 0 && cut < text.length && !canCut(text, cut)) cut += fromEnd ? -1 : 1;
    return Math.max(0, Math.min(cut, text.length));
  };
}

/** Tokens in the order of their UTF-16 units, so that those with one beginning stand together; none is empty. */
export type SortedTokens = readonly string[];

export const sortTokens = (tokens: Iterable<string>): SortedTokens =>
  [...new Set(tokens)].filter((token) => token !== '').sort();

/** What is read of a text. */
type Units = Pick<string, 'length' | 'charCodeAt'>;

/**
 * Where the longest token that starts at `at` ends; `at` where none does. Reads each unit up to there and one more, and
 * compares it with at most 2 x log2(tokens) others.
 */
export function longestMatch(sorted: SortedTokens, text: Units, at: number): number {
  let end = at;
  let low = 0;
  let high = sorted.length; // sorted[low] to sorted[high - 1] begin like the text up to here
  for (let here = at; here < text.length; here++) {
    const unit = text.charCodeAt(here);
    low = firstWithUnit(sorted, low, high, here - at, unit);
    high = firstWithUnit(sorted, low, high, here - at, unit + 1);
    if (low === high) break;
    if (sorted[low]!.length === here + 1 - at) end = here + 1;
  }
  return end;
}

/**
 * The first token from `low` to `high - 1` whose unit at `depth` is at least `unit`; one that ends before counts as
 * less.
 */
function firstWithUnit(sorted: SortedTokens, low: number, high: number, depth: number, unit: number): number {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]!.charCodeAt(depth) >= unit) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** What WordPiece needs of a vocabulary. */
export interface WordPieceModel {
  readonly ids: ReadonlyMap<string, number>;
  readonly unkId: number;
  /** Words of more code points than this are unknown as a whole. */
  readonly maxCharsPerWord: number;
  /** Tokens that can start a word: all of them. */
  readonly starts: SortedTokens;
  /** Tokens that go on a word, without their `##`. */
  readonly rests: SortedTokens;
}

export function wordPieceModel(
  ids: ReadonlyMap<string, number>,
  unkId: number,
  maxCharsPerWord: number,
): WordPieceModel {
  const rests = [...ids.keys()].flatMap((token) => (token.startsWith('##') ? [token.slice(2)] : []));
  return { ids, unkId, maxCharsPerWord, starts: sortTokens(ids.keys()), rests: sortTokens(rests) };
}

/**
 * Appends the ids of a word to `ids`, greedily: the longest token that starts the word, then the longest `##token`
 * that starts the rest, and so on; [UNK] alone where some rest has none. As `WordpieceTokenizer` of transformers 4.40.
 * Time: length of the word x length of the longest token, but no more than `maxCharsPerWord` x length.
 */
export function wordPieces(word: string, model: WordPieceModel, ids: number[]): void {
  const pieces: number[] = [];
  const length = isTooLong(word, model.maxCharsPerWord) ? 0 : word.length;
  let start = 0;
  while (start < length) {
    const end = longestMatch(start === 0 ? model.starts : model.rests, word, start);
    if (end === start) break;
    const piece = word.slice(start, end);
    pieces.push(model.ids.get(start === 0 ? piece : `##${piece}`)!);
    start = end;
  }
  if (start < word.length) ids.push(model.unkId);
  else for (const id of pieces) ids.push(id);
}

/** Has the word more than `limit` code points? */
function isTooLong(word: string, limit: number): boolean {
  if (word.length <= limit) return false;
  if (word.length > 2 * limit) return true;
  let count = 0;
  for (const _ of word) count++;
  return count > limit;
}
