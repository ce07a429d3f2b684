/** What WordPiece needs of a vocabulary. */
export interface WordPieceModel {
  readonly ids: ReadonlyMap<string, number>;
  readonly unkId: number;
  /** Words of more code points than this are unknown as a whole. */
  readonly maxCharsPerWord: number;
  /** Length in UTF-16 units of the longest token: no piece can be longer. */
  readonly longestToken: number;
}

/**
 * Appends the ids of a word to `ids`, greedily: the longest token that starts the word, then the longest `##token`
 * that starts the rest, and so on; [UNK] alone where some rest has none. As `WordpieceTokenizer` of transformers 4.40,
 * by code points.
 */
export function wordPieces(word: string, model: WordPieceModel, ids: number[]): void {
  const ends = endsOfChars(word, model.maxCharsPerWord);
  if (ends === undefined) {
    ids.push(model.unkId);
    return;
  }
  const pieces: number[] = [];
  let start = 0;
  while (start < ends.length) {
    const from = start === 0 ? 0 : ends[start - 1]!;
    let end = Math.min(ends.length, start + model.longestToken);
    let id: number | undefined;
    for (; end > start; end--) {
      const piece = word.slice(from, ends[end - 1]);
      id = model.ids.get(start === 0 ? piece : `##${piece}`);
      if (id !== undefined) break;
    }
    if (id === undefined) {
      ids.push(model.unkId);
      return;
    }
    pieces.push(id);
    start = end;
  }
  for (const id of pieces) ids.push(id);
}

/** Where each code point of the word ends, in UTF-16 units; undefined for a word of more than `limit` code points. */
function endsOfChars(word: string, limit: number): number[] | undefined {
  if (word.length > 2 * limit) return undefined;
  const ends: number[] = [];
  let end = 0;
  for (const char of word) {
    end += char.length;
    ends.push(end);
  }
  return ends.length > limit ? undefined : ends;
}
