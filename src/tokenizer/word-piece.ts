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
