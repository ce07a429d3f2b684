/** A text that grows: what is certain comes out at once, what the next piece can still change is kept. */
export interface TextFilter {
  push(text: string): string;
  /** The rest. Nothing may be pushed after it. */
  flush(): string;
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

/** Takes away the spaces that tokens have before punctuation and contractions. */
export function createCleanUp(): TextFilter {
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
