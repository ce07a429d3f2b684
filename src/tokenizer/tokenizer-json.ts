import { TokenizerError } from '../errors.js';
import {
  addedTokenOf,
  asObject,
  booleanOf,
  describe,
  failAt,
  fieldOf,
  type JsonObject,
  listOf,
  objectOf,
  stringOf,
} from './json-fields.js';
import { readSequenceTokens } from './post-processor.js';
import type { AddedToken, TokenizerSettings } from './settings.js';
import { readTextFile } from './text-file.js';
import { type Vocabulary, vocabularyOf } from './vocabulary.js';

/** Largest tokenizer.json, in bytes. */
const FILE_LIMIT = 64 * 1024 * 1024;
/** Longest word that may be asked for: WordPiece takes time by the square of it. */
const WORD_LIMIT = 1000;

/** What a tokenizer.json holds. */
export interface TokenizerJson {
  readonly vocabulary: Vocabulary;
  readonly settings: TokenizerSettings;
}

/**
 * Reads a tokenizer.json of the BERT WordPiece kind: `model`, the options of `normalizer`, the names in
 * `post_processor`, `added_tokens`. Its `truncation` and `padding` are not obeyed: both are options of each call here.
 *
 * @throws TokenizerError where the file is not such a JSON, an id is not the index of one token, or added tokens
 *   contradict the vocabulary; with `unsupported` for a normaliser, pre-tokeniser, post-processor or decoder that is
 *   not BERT's
 */
export function parseTokenizerJson(bytes: Uint8Array, file: string): TokenizerJson {
  const root = asObject(parseJson(readTextFile({ bytes, file }, FILE_LIMIT), file), file, '');
  const model = objectOf(root, 'model') ?? failAt(root, 'model', 'missing-field', 'there is no model');
  const type = stringOf(model, 'type') ?? 'WordPiece'; // left out by some
  if (type !== 'WordPiece') failAt(model, 'type', 'not-word-piece', `must be "WordPiece", not ${describe(type)}`);
  requirePart(model, 'continuing_subword_prefix', '##');
  requireKind(root, 'pre_tokenizer', 'BertPreTokenizer');
  const decoder = objectOf(root, 'decoder');
  if (decoder !== undefined) {
    requireKind(root, 'decoder', 'WordPiece');
    requirePart(decoder, 'prefix', '##');
  }
  const vocabulary = vocabularyOf(tokensById(model), file, (id) => `model.vocab id ${id}`);
  return {
    vocabulary,
    settings: {
      ...normalizerSettings(root),
      specialTokens: { unk: stringOf(model, 'unk_token') ?? '[UNK]', ...readSequenceTokens(root, vocabulary.ids) },
      addedTokens: addedTokensOf(root),
      maxCharsPerWord: maxCharsOf(model),
    },
  };
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TokenizerError({ file, code: 'not-json', detail: String((cause as Error).message), cause });
  }
}

function requireKind(root: JsonObject, part: string, type: string): JsonObject {
  const at = objectOf(root, part) ?? failAt(root, part, 'unsupported-part', `must be a ${type}, but is missing`, true);
  const found = stringOf(at, 'type');
  if (found !== type) failAt(at, 'type', 'unsupported-part', `must be "${type}", not ${describe(found ?? null)}`, true);
  return at;
}

function requirePart(at: JsonObject, key: string, expected: string): void {
  const found = stringOf(at, key) ?? expected;
  if (found !== expected) failAt(at, key, 'unsupported-part', `must be "${expected}", not ${describe(found)}`, true);
}

function normalizerSettings(root: JsonObject): TokenizerSettings {
  const at = requireKind(root, 'normalizer', 'BertNormalizer');
  if (booleanOf(at, 'clean_text') === false) failAt(at, 'clean_text', 'unsupported-part', 'must be true', true);
  return {
    lowerCase: booleanOf(at, 'lowercase'),
    stripAccents: booleanOf(at, 'strip_accents'),
    tokenizeChineseChars: booleanOf(at, 'handle_chinese_chars'),
  };
}

function maxCharsOf(model: JsonObject): number | undefined {
  const key = 'max_input_chars_per_word';
  const value = fieldOf(model, key);
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
    return failAt(model, key, 'wrong-type', `must be a positive integer, not ${describe(value)}`);
  }
  if (value > WORD_LIMIT) failAt(model, key, 'unsupported-option', `${value}, the limit is ${WORD_LIMIT}`, true);
  return value;
}

/**
 * The tokens of `model.vocab` in the order of their ids, which must be 0 to n - 1: so nothing is allocated by the size
 * of an id.
 */
function tokensById(model: JsonObject): string[] {
  const vocab = objectOf(model, 'vocab') ?? failAt(model, 'vocab', 'missing-field', 'there is no vocabulary');
  const entries = Object.entries(vocab.value);
  if (entries.length === 0) failAt(model, 'vocab', 'empty-vocabulary', 'has no token');
  const tokens = new Array<string | undefined>(entries.length).fill(undefined);
  for (const [token, id] of entries) {
    if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0) {
      return failAt(vocab, token, 'illegal-id', `must be a token id, not ${describe(id)}`);
    }
    if (id >= entries.length) {
      failAt(vocab, token, 'ids-not-dense', `has id ${id}, but there are only ${entries.length} tokens`);
    }
    if (tokens[id] !== undefined) failAt(vocab, token, 'duplicate-id', `has id ${id} like ${describe(tokens[id])}`);
    tokens[id] = token;
  }
  return tokens as string[]; // n different ids below n: no hole is left
}

function addedTokensOf(root: JsonObject): AddedToken[] {
  const seen = new Set<string>();
  return (listOf(root, 'added_tokens') ?? []).map((value, i) => {
    const at = asObject(value, root.file, `added_tokens[${i}]`);
    const entry = addedTokenOf(at);
    const id = fieldOf(at, 'id');
    if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0) {
      return failAt(at, 'id', 'illegal-id', `must be a token id, not ${describe(id ?? null)}`);
    }
    if (seen.has(entry.content)) failAt(at, 'content', 'duplicate-token', `${describe(entry.content)} is there twice`);
    seen.add(entry.content);
    return { ...entry, id };
  });
}
