/** A piece of a text: a special token written in it, or what lies between two. */
export interface Segment {
  readonly text: string;
  readonly special: boolean;
}

/**
 * Returns a function that cuts a text at the special tokens written in it, case-sensitively: the leftmost first, and
 * of those that start at one place the longest, as the `Trie` of transformers 4.40. Joined, the segments are the text;
 * none is empty. Time: length of the text x length of the longest token x logarithm of their number. No token may be
 * empty.
 */
export function createSegmenter(tokens: Iterable<string>): (text: string) => Segment[] {
  const sorted = [...tokens].sort(); // by UTF-16 units, so that the tokens with one beginning stand together
  return (text) => {
    const segments: Segment[] = [];
    let start = 0;
    for (let at = 0; at < text.length; ) {
      const end = longestMatch(sorted, text, at);
      if (end === at) {
        at++;
        continue;
      }
      if (start < at) segments.push({ text: text.slice(start, at), special: false });
      segments.push({ text: text.slice(at, end), special: true });
      start = at = end;
    }
    if (start < text.length) segments.push({ text: text.slice(start), special: false });
    return segments;
  };
}

/** Where the longest token that starts at `at` ends; `at` where none does. */
function longestMatch(sorted: readonly string[], text: string, at: number): number {
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
function firstWithUnit(sorted: readonly string[], low: number, high: number, depth: number, unit: number): number {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]!.charCodeAt(depth) >= unit) high = middle;
    else low = middle + 1;
  }
  return low;
}
