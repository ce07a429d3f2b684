import { combiningClassOf, kindOf } from './unicode.js';

/**
 * The text normalization of `BasicTokenizer` (transformers 4.40, models/bert/tokenization_bert.py), step by step.
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
 * code points that Unicode 14.0.0 leaves unassigned), and makes tabs, line ends and separators spaces.
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

const MARK = /\p{M}/u;
/** Shorter runs of marks go to the engine as they are: the square of 32 is a constant. */
const LONG_RUN = 33;

/**
 * Puts long runs of combining marks into canonical order (Unicode 3.11), which leaves the text canonically equivalent.
 *
 * Why: engines sort the marks of a run by insertion while they normalize, which is quadratic in the run's length (V8:
 * 2 s for 100,000 alternating marks). Marks that are in order already cost nothing, and a bucket for each class sorts
 * in linear time. The runs are found by a loop, because a regular expression overflows its stack at a million marks.
 */
export function orderLongMarkRuns(text: string): string {
  let ordered = '';
  let copied = 0;
  let start = 0; // of the run of marks that ends at `at`
  let marks = 0;
  let at = 0;
  const closeRun = () => {
    if (marks >= LONG_RUN) {
      ordered += text.slice(copied, start) + orderRun(text.slice(start, at));
      copied = at;
    }
    marks = 0;
  };
  for (const char of text) {
    if (char > '\u02ff' && MARK.test(char)) {
      if (marks++ === 0) start = at;
    } else if (marks > 0) closeRun();
    at += char.length;
  }
  closeRun();
  return copied === 0 ? text : ordered + text.slice(copied);
}

function orderRun(run: string): string {
  const decomposed = new Map<string, string>();
  const buckets = new Map<number, string>();
  let ordered = '';
  const closeSegment = () => {
    for (const [, marks] of [...buckets].sort(([a], [b]) => a - b)) ordered += marks;
    buckets.clear();
  };
  for (const char of run) {
    const marks = decomposed.get(char) ?? char.normalize('NFD');
    decomposed.set(char, marks);
    for (const mark of marks) {
      const combiningClass = combiningClassOf(mark.codePointAt(0)!);
      if (combiningClass === 0) {
        closeSegment(); // nothing moves across a mark of class 0, such as U+034F
        ordered += mark;
      } else {
        buckets.set(combiningClass, (buckets.get(combiningClass) ?? '') + mark);
      }
    }
  }
  closeSegment();
  return ordered;
}
