import { orderLongMarkRuns } from './canonical-order.js';
import { kindOf } from './unicode.js';

/**
 * The text normalisation of `BasicTokenizer` (transformers 4.40, models/bert/tokenization_bert.py), step by step.
 * Every function is total and linear in the length of its text, and goes by Unicode 14.0.0.
 */

const NOT_PLAIN = /[^\t\n\r\x20-\x7e]/;

/** True where a step for other scripts can change nothing. */
const isPlain = (text: string): boolean => !NOT_PLAIN.test(text);

/**
 * First and last code points of the CJK ideograph blocks that BERT spaces out; kana and hangul are words as elsewhere.
 */
const IDEOGRAPHS: readonly (readonly [number, number])[] = [
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xf900, 0xfaff],
  [0x20000, 0x2a6df],
  [0x2a700, 0x2b73f],
  [0x2b740, 0x2b81f],
  [0x2b820, 0x2ceaf],
  [0x2f800, 0x2fa1f],
];

const isIdeograph = (codePoint: number): boolean =>
  codePoint >= 0x3400 && IDEOGRAPHS.some(([first, last]) => first <= codePoint && codePoint <= last);

/**
 * Drops NUL, U+FFFD and everything of category C (control and format characters, private use, lone surrogates, and
 * code points that Unicode 14.0.0 leaves unassigned), and turns tabs, line ends and separators into spaces.
 */
export function cleanText(text: string): string {
  if (isPlain(text)) return text.replace(/[\t\n\r]/g, ' ');
  let clean = '';
  for (const char of text) {
    const codePoint = char.codePointAt(0)!;
    const kind = kindOf(codePoint);
    if (kind === 'Z' || char === '\t' || char === '\n' || char === '\r') clean += ' ';
    else if (kind !== 'C' && codePoint !== 0xfffd) clean += char;
  }
  return clean;
}

/** Puts a space on both sides of every CJK ideograph. */
export function spaceIdeographs(text: string): string {
  if (isPlain(text)) return text;
  let spaced = '';
  for (const char of text) spaced += isIdeograph(char.codePointAt(0)!) ? ` ${char} ` : char;
  return spaced;
}

/**
 * Lower case by the full Unicode mapping, character by character, as Python does it here: a final capital sigma
 * becomes an inner one. Code points unassigned in 14.0.0 stay as they are, also where the engine knows a lower case.
 */
export function lowerCase(text: string): string {
  if (isPlain(text)) return text.toLowerCase();
  let lower = '';
  for (const char of text) lower += kindOf(char.codePointAt(0)!) === 'C' ? char : char.toLowerCase();
  return lower;
}

/** Canonical composition. */
export function compose(text: string): string {
  return isPlain(text) ? text : orderLongMarkRuns(text).normalize('NFC');
}

/** Canonical decomposition without the non-spacing marks. */
export function stripAccents(text: string): string {
  if (isPlain(text)) return text;
  let stripped = '';
  for (const char of orderLongMarkRuns(text).normalize('NFD')) {
    if (kindOf(char.codePointAt(0)!) !== 'M') stripped += char;
  }
  return stripped;
}
