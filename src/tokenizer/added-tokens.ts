import { longestMatch, sortTokens } from './word-piece.js';

/** A token beside the word pieces: found whole in a text, before anything else. */
export interface AddedToken {
  readonly content: string;
  /** Left out by `decode` with `skipSpecialTokens`. */
  readonly special: boolean;
  /** Its id; the next free one where absent. */
  readonly id?: number | undefined;
  /** Is looked for in the normalized text, in its own normalized form, which `decode` gives. Default: not `special`. */
  readonly normalized?: boolean | undefined;
  /** Not found inside a word. Default false. */
  readonly singleWord?: boolean | undefined;
  /** Takes the white space before it. Default false. */
  readonly lstrip?: boolean | undefined;
  /** Takes the white space after it. Default false. */
  readonly rstrip?: boolean | undefined;
}

/** A piece of a text: a token found whole in it, or what stands between two. */
export interface Segment {
  readonly text: string;
  /** The token; undefined for text. */
  readonly token: string | undefined;
}

type Flags = Pick<AddedToken, 'singleWord' | 'lstrip' | 'rstrip'>;

/** `\w` of Rust's regular expressions. */
const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const SPACE = /\p{White_Space}/u;

/**
 * Returns a function that cuts a text at the tokens written in it, as it is asked to go on: the leftmost first, and of those that start at one
 * place the longest, as `AddedVocabulary` of Hugging Face's tokenizers. No segment is empty. Time: length of the text x
 * length of the longest token x logarithm of their number.
 */
export function createSegmenter(tokens: ReadonlyMap<string, Flags>): (text: string) => Iterable<Segment> {
  const sorted = sortTokens(tokens.keys());
  return function* (text) {
    let start = 0; // of the text that no segment has yet
    for (let at = 0; at < text.length; ) {
      const found = longestMatch(sorted, text, at);
      if (found === at) {
        at++;
        continue;
      }
      const token = text.slice(at, found);
      const { singleWord, lstrip, rstrip } = tokens.get(token)!;
      if (singleWord && (WORD_BEFORE.test(charBefore(text, at)) || WORD_AFTER.test(text.slice(found, found + 2)))) {
        at = found; // as there: what is inside the match is not looked at again
        continue;
      }
      let [begin, end] = [at, found];
      if (lstrip) while (begin > start && SPACE.test(text[begin - 1]!)) begin--;
      if (rstrip) while (end < text.length && SPACE.test(text[end]!)) end++;
      if (start < begin) yield { text: text.slice(start, begin), token: undefined };
      yield { text: text.slice(begin, end), token };
      start = at = end;
    }
    if (start < text.length) yield { text: text.slice(start), token: undefined };
  };
}

/** The code point before `at`, or more; '' at the start. */
const charBefore = (text: string, at: number): string => text.slice(Math.max(0, at - 2), at);
