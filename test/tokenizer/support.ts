import assert from 'node:assert/strict';
import { TokenizerError } from '../../src/errors.js';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { createBertTokenizer, loadTokenizer, type TokenizerFiles } from '../../src/tokenizer/tokenizer.js';
import type { TokenizerSettings } from '../../src/tokenizer/tokenizer-config.js';
import { vocabularyOf } from '../../src/tokenizer/vocabulary.js';
import { DEMO, readBin, readJson } from '../support/fixtures.js';
import { expectTypedError } from '../support/typed-error.js';

export const SPECIALS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const;

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The demo checkpoint's tokenizer, from its own files. */
export const demoTokenizer = (): Tokenizer =>
  loadTokenizer({
    vocabTxt: { bytes: readBin(`${DEMO}vocab.txt`), file: 'vocab.txt' },
    tokenizerConfig: { json: readJson(`${DEMO}tokenizer_config.json`), file: 'tokenizer_config.json' },
  });

/** A tokenizer with [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4 and the given tokens from 5 up. */
export const tinyTokenizer = (tokens: readonly string[], settings: TokenizerSettings = {}): Tokenizer =>
  createBertTokenizer({ ...settings, vocabulary: vocabularyOf([...SPECIALS, ...tokens], 'tiny') });

/** A small vocab.txt of a cased checkpoint: nine tokens. */
export const VOCAB = `${[...SPECIALS, 'a', '##b', 'A', 'É'].join('\n')}\n`;

export const configFile = (json: unknown): TokenizerFiles =>
  json === undefined ? {} : { tokenizerConfig: { json, file: 'tokenizer_config.json' } };

/** The tokenizer of a vocab.txt and a tokenizer_config.json. */
export function loadVocab(vocab: string | Uint8Array, config?: unknown): Tokenizer {
  const bytes = typeof vocab === 'string' ? utf8(vocab) : vocab;
  return loadTokenizer({ vocabTxt: { bytes, file: 'vocab.txt' }, ...configFile(config) });
}

/** The tokens of a text, without [CLS] and [SEP]. */
export const tokensOf = (tokenizer: Tokenizer, text: string): string[] =>
  tokenizer.encode(text, { addSpecialTokens: false }).map((id) => tokenizer.tokenOf(id));

/** Checks that `body` throws a one-line TokenizerError with these facts, and returns it. */
export function expectFault(body: () => unknown, facts: Partial<TokenizerError>): TokenizerError {
  let thrown: unknown;
  try {
    body();
  } catch (error) {
    thrown = error;
  }
  expectTypedError(thrown, `expected a TokenizerError with ${JSON.stringify(facts)}`, TokenizerError);
  for (const [name, value] of Object.entries(facts))
    assert.deepEqual(thrown[name as keyof TokenizerError], value, thrown.message);
  return thrown;
}
