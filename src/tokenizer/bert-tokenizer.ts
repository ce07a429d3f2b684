import { OptionError, TokenizerError } from '../errors.js';
import { createCleanUp } from './clean-up.js';
import { chain, createJoiner } from './join-tokens.js';
import { padRows, roomFor } from './padding.js';
import type { TokenizerSettings } from './settings.js';
import { createTextEncoder } from './text-encoder.js';
import { buildTokenTable } from './token-table.js';
import type { DecodeOptions, Detokenizer, EncodeOptions, Tokenizer } from './tokenizer.js';
import type { Vocabulary } from './vocabulary.js';

/** A vocabulary and what is to be done with it. */
export interface BertTokenizerOptions extends TokenizerSettings {
  readonly vocabulary: Vocabulary;
}

/**
 * BERT's tokenizer: the same ids and texts as `BertTokenizer` (the Python one, transformers 4.40, Unicode 14.0.0).
 *
 * Special tokens written in a text are found case-sensitively and become their ids. Code points that Unicode 14.0.0
 * leaves unassigned are removed, as there; Rust tokenizers, and Pythons with newer tables, make [UNK] of some.
 *
 * @throws TokenizerError where the vocabulary lacks a special token or contradicts the added tokens
 */
export function createBertTokenizer(options: BertTokenizerOptions): Tokenizer {
  const { file } = options.vocabulary;
  const table = buildTokenTable(options.vocabulary, options);
  const { cls, sep, pad, unk, mask } = table.roles;
  const idsOf = createTextEncoder(table, options);

  function tokenOf(id: number): string {
    const token = Number.isInteger(id) ? table.tokens[id] : undefined;
    if (token !== undefined) return token;
    const detail = `no token has id ${String(id)}; ids are 0 to ${table.tokens.length - 1}`;
    throw new TokenizerError({ file, code: 'unknown-id', detail });
  }

  function encode(text: string, { addSpecialTokens = true, maxLength }: EncodeOptions = {}): number[] {
    if (typeof text !== 'string') throw wrongType('text', 'a string');
    const room = roomFor(maxLength, addSpecialTokens ? 2 : 0);
    const ids = idsOf(text);
    if (ids.length > room) ids.length = room;
    return addSpecialTokens ? [cls, ...ids, sep] : ids;
  }

  function detokenizer({ skipSpecialTokens, cleanUpTokenizationSpaces }: DecodeOptions = {}): Detokenizer {
    const cleans = cleanUpTokenizationSpaces ?? options.cleanUpTokenizationSpaces ?? true;
    const joiner = chain(createJoiner(), cleans ? createCleanUp() : undefined);
    return {
      push(id) {
        const token = tokenOf(id);
        if (skipSpecialTokens && table.specialIds.has(id)) return '';
        return table.aloneIds.has(id) ? joiner.pushAlone(token) : joiner.push(token);
      },
      flush: joiner.flush,
    };
  }

  return {
    encode,
    encodeBatch(texts, batchOptions = {}) {
      if (!Array.isArray(texts)) throw wrongType('texts', 'an array of strings');
      const rows = texts.map((text) => encode(text, batchOptions));
      return padRows(rows, batchOptions, pad);
    },
    decode(ids, decodeOptions) {
      const stream = detokenizer(decodeOptions);
      let text = '';
      for (const id of ids) text += stream.push(id);
      return text + stream.flush();
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

const wrongType = (path: string, type: string) =>
  new OptionError({ path, code: 'wrong-type', detail: `must be ${type}` });
