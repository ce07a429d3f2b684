import { cleanText, compose, spaceIdeographs, stripAccents } from './normalize.js';
import { kindOf } from './unicode.js';

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
