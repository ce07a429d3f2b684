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
