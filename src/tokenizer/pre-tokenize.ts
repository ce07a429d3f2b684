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
 * lower-casing, which `encode` has done before it looks for special tokens (Python does it there and here; the second
 * time changes nothing).
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
