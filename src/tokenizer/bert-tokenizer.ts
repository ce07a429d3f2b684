import { OptionError, TokenizerError } from '../errors.js';
import { createCleanUp } from './clean-up.js';
import { chain, createJoiner } from './join-tokens.js';
import { lowerCase } from './normalize.js';
import { padRows, roomFor } from './padding.js';
import { preTokenize } from './pre-tokenize.js';
import type { TokenizerSettings } from './settings.js';
import { createSegmenter, type Segment } from './special-tokens.js';
import { buildTokenTable, type TokenTable } from './token-table.js';
import type { DecodeOptions, Detokenizer, EncodeOptions, Tokenizer } from './tokenizer.js';
import type { Vocabulary } from './vocabulary.js';
import { wordPieces } from './word-piece.js';

/** A vocabulary and what is to be done with it. */
export interface BertTokenizerOptions extends TokenizerSettings {
  readonly vocabulary: Vocabulary;
}

/**
 * BERT's tokenizer: the same ids and texts as `BertTokenizer` (the Python one, transformers 4.40, Unicode 14.0.0).
 *
 * Special tokens written in a text are found case-sensitively and become their ids. Code points that Unicode 14.0.0 leaves unassigned are removed, as there;
 * Rust tokenizers, and Pythons with newer tables, make [UNK] of some.
 *
 * @throws TokenizerError where the vocabulary lacks a special token or contradicts the added tokens
 */
export function createBertTokenizer(options: BertTokenizerOptions): Tokenizer {
  const { file } = options.vocabulary;
  const table = buildTokenTable(options.vocabulary, options);
  const { cls, sep, pad, unk, mask } = table.roles;
  const textIds = createTextEncoder(table, options);

  const tokenOf = (id: number): string => {
    const token = table.tokens[id];
    if (token !== undefined) return token;
    throw new TokenizerError({
      file,
      rule: 'unknown-id',
      detail: `no token has id ${id}; ids are 0 to ${table.tokens.length - 1}`,
    });
  };
  const encode = (text: string, { addSpecialTokens = true, maxLength }: EncodeOptions = {}): number[] => {
    const room = roomFor(maxLength, addSpecialTokens ? 2 : 0);
    if (typeof text !== 'string')
      throw new OptionError({ place: 'text', rule: 'wrong-type', detail: 'must be a string' });
    const ids = textIds(text);
    if (ids.length > room) ids.length = room;
    return addSpecialTokens ? [cls, ...ids, sep] : ids;
  };
  const detokenizer = (decodeOptions: DecodeOptions = {}): Detokenizer => {
    const cleanUp = decodeOptions.cleanUpTokenizationSpaces ?? options.cleanUpTokenizationSpaces ?? true;
    const joiner = chain(createJoiner(), cleanUp ? createCleanUp() : undefined);
    return {
      push(id) {
        const token = tokenOf(id);
        if (decodeOptions.skipSpecialTokens && table.specialIds.has(id)) return '';
        return table.aloneIds.has(id) ? joiner.pushAlone(token) : joiner.push(token);
      },
      flush: joiner.flush,
    };
  };
  return {
    encode,
    encodeBatch: (texts, batchOptions = {}) =>
      padRows(
        texts.map((text) => encode(text, batchOptions)),
        batchOptions,
        pad,
      ),
    decode(ids, decodeOptions) {
      const pieces: string[] = [];
      const stream = detokenizer(decodeOptions);
      for (const id of ids) pieces.push(stream.push(id));
      return pieces.join('') + stream.flush();
    },
    detokenizer,
    tokenOf,
    idOf: (token) => table.ids.get(token),
    vocabSize: table.tokens.length,
    clsId: cls,
    sepId: sep,
    padId: pad,
    unkId: unk,
    maskId: mask,
    specialIds: table.specialIds,
    modelMaxLength: options.modelMaxLength,
  };
}

/** Text to ids without [CLS] and [SEP]. */
function createTextEncoder(table: TokenTable, settings: TokenizerSettings): (text: string) => number[] {
  const lowers = settings.lowerCase ?? true;
  const segmentsOf = createSegmenter(table.whole);
  const { unk } = table.roles;
  const ownNeverSplit = new Set(settings.neverSplit);
  const preTokenizeOptions = {
    stripAccents: settings.stripAccents ?? lowers,
    tokenizeChineseChars: settings.tokenizeChineseChars ?? true,
    neverSplit: new Set([...ownNeverSplit, ...[...table.specialIds].map((id) => table.tokens[id]!)]),
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

/** Lower-cases what is not a special token. This comes before the cut that counts, so a special token that is lower case itself is also found in capitals. */
const lowerAround = (segments: readonly Segment[]): string =>
  segments.map(({ text, special }) => (special ? text : lowerCase(text))).join('');
