import { lowerCase } from './normalize.js';
import { preTokenize } from './pre-tokenize.js';
import type { TokenizerSettings } from './settings.js';
import { createSegmenter, type Segment } from './special-tokens.js';
import type { TokenTable } from './token-table.js';
import { wordPieces } from './word-piece.js';

/** Text to ids, without [CLS] and [SEP] around them: `BertTokenizer.tokenize` and the look-up of transformers 4.40. */
export function createTextEncoder(table: TokenTable, settings: TokenizerSettings): (text: string) => number[] {
  const lowers = settings.lowerCase ?? true;
  const segmentsOf = createSegmenter(table.whole);
  const { unk } = table.roles;
  const ownNeverSplit = new Set(settings.neverSplit);
  const specials = [...table.specialIds].map((id) => table.tokens[id]!);
  const preTokenizeOptions = {
    stripAccents: settings.stripAccents ?? lowers,
    tokenizeChineseChars: settings.tokenizeChineseChars ?? true,
    neverSplit: new Set([...ownNeverSplit, ...specials]),
  };
  const model = {
    ids: table.ids,
    unkId: unk,
    maxCharsPerWord: settings.maxCharsPerWord ?? 100,
    longestToken: table.tokens.reduce((longest, token) => Math.max(longest, token.length), 0),
  };
  return (text) => {
    const ids: number[] = [];
    for (const segment of segmentsOf(lowers ? lowerAround(segmentsOf(text)) : text)) {
      if (segment.special) {
        ids.push(table.ids.get(segment.text)!);
        continue;
      }
      for (const word of preTokenize(segment.text, preTokenizeOptions)) {
        if (ownNeverSplit.has(word)) ids.push(table.ids.get(word) ?? unk);
        else wordPieces(word, model, ids);
      }
    }
    return ids;
  };
}

/**
 * Lower-cases what is not a special token. As in Python, this comes before the cut that counts, so a special token
 * that is written in lower case itself is found in capitals too.
 */
const lowerAround = (segments: readonly Segment[]): string =>
  segments.map(({ text, special }) => (special ? text : lowerCase(text))).join('');
