import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { loadTokenizer, type Tokenizer } from '../../src/tokenizer/tokenizer.js';
import type { AddedToken } from '../../src/tokenizer/vocabulary.js';
import { FIXTURES, REAL, readBin, readJson } from '../support/fixtures.js';
import { tinyTokenizer, tokensOf, utf8 } from './support.js';

function loadFolder(folder: string): Tokenizer {
  return loadTokenizer({
    tokenizerJson: { bytes: readBin(`${folder}/tokenizer.json`), file: 'tokenizer.json' },
    tokenizerConfig: { json: readJson(`${folder}/tokenizer_config.json`), file: 'tokenizer_config.json' },
  });
}

const tokens = ['a', 'b', '.', '?', '_', '1', 'é', 'e', '東'];
const with_ = (added: readonly Partial<AddedToken>[]) =>
  tinyTokenizer(tokens, { addedTokens: added.map((token) => ({ content: '', special: false, ...token })) });

describe('added tokens', () => {
  type Row = { readonly text: string; readonly ids: number[]; readonly decoded: string };
  const manifest = readJson<{ tokenizers: { folder: string; rows: Row[] }[] }>(`${REAL}manifest.json`);
  for (const { folder, rows } of manifest.tokenizers) {
    it(`${folder} as transformers 5.18`, () => {
      const tokenizer = loadFolder(REAL + folder);
      for (const { text, ids, decoded } of rows) {
        assert.deepEqual(tokenizer.encode(text), ids, text);
        assert.equal(tokenizer.decode(ids, { skipSpecialTokens: true }), decoded, text);
      }
      assert.ok(rows.length > 0);
    });
  }

  it('with every flag, as Rust finds them', () => {
    const golden = readJson<{ tokenizer: unknown; rows: [string, number[]][] }>(
      `${FIXTURES}tokenizer/added-token-flags.json`,
    );
    const bytes = utf8(JSON.stringify(golden.tokenizer));
    const tokenizer = loadTokenizer({ tokenizerJson: { bytes, file: 'tokenizer.json' } });
    for (const [text, ids] of golden.rows) {
      assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: false }), ids, JSON.stringify(text));
    }
    assert.equal(golden.rows.length, 400);
  });

  it('has the folders of its fixtures', () => {
    assert.equal(readdirSync(`${REAL}tokenizers`).length, manifest.tokenizers.length);
  });

  it('obeys padding_side and truncation_side, unless told otherwise', () => {
    const left = tinyTokenizer(tokens, { paddingSide: 'left', truncationSide: 'left' });
    const [a, b] = [left.idOf('a')!, left.idOf('b')!];
    assert.deepEqual(left.encodeBatch(['a', 'a b']), {
      inputIds: [
        [0, 2, a, 3],
        [2, a, b, 3],
      ],
      attentionMask: [
        [0, 1, 1, 1],
        [1, 1, 1, 1],
      ],
    });
    assert.deepEqual(left.encode('a a b', { maxLength: 3 }), [2, b, 3]);
    assert.deepEqual(left.encode('a a b', { maxLength: 3, truncationSide: 'right' }), [2, a, 3]);
    assert.deepEqual(left.encodeBatch(['a', 'a b'], { paddingSide: 'right' }).inputIds[0], [2, a, 3, 0]);
  });

  it('are matched in normalized form and decoded in it', () => {
    const tiny = with_([
      { content: 'Caf\u00c9' },
      { content: '<X>', special: true },
      { content: '<Y>', normalized: false },
    ]);
    assert.deepEqual(tokensOf(tiny, 'a CAFE\u0301b'), ['a', 'cafe', 'b']);
    assert.deepEqual(tokensOf(tiny, '<x> <X> <Y>'), [...['[UNK]', '[UNK]', '[UNK]'], '<X>', '<Y>']);
    assert.equal(tiny.idOf('cafe'), tiny.idOf('Caf\u00c9'));
    assert.equal(tiny.decode(tiny.encode('CAFÉ'), { skipSpecialTokens: true }), 'cafe');
  });

  it('stand alone where they must', () => {
    const single = with_([{ content: '<x>', singleWord: true }]);
    const count = (text: string) => single.encode(text).filter((id) => id === single.idOf('<x>')).length;
    assert.deepEqual(['<x>', 'a <x> b', '.<x>?', '東<x>'].map(count), [1, 1, 1, 1]);
    assert.deepEqual(
      ['a<x>', '<x>1', '_<x>', 'é<x>', '<x>\u0301'].map(count),
      [0, 0, 0, 0, 1],
      'marks are normalized away',
    );
  });
});

/** Ids of ours and of the library for texts of pieces, tokens with flags among them. */
describe('added tokens against @huggingface/tokenizers', () => {
  const vocab = Object.fromEntries(
    ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...tokens].map((token, id) => [token, id]),
  );
  const size = Object.keys(vocab).length;
  const plain = { single_word: false, lstrip: false, rstrip: false, special: false };
  const added = [
    { content: 'ACME', normalized: true },
    { content: 'Éclair', normalized: true },
    { content: '<loc>', normalized: true },
    { content: '<IMG>', normalized: false, special: true },
    { content: 'acmeb', normalized: true },
  ].map((token, i) => ({ ...plain, ...token, id: size + i }));
  const specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'].map((content, id) => ({
    ...plain,
    content,
    id,
    special: true,
    normalized: false,
  }));
  const json = {
    version: '1.0',
    added_tokens: [...specials, ...added],
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab,
    },
  };

  it('the same ids', () => {
    const ours = loadTokenizer({ tokenizerJson: { bytes: utf8(JSON.stringify(json)), file: 'tokenizer.json' } });
    const theirs = new HuggingFaceTokenizer(json as never, {});
    const part = fc.constantFrom(
      'ACME',
      'acme',
      'Acmeb',
      'ÉCLAIR',
      'eclair',
      'e\u0301clair',
      '<LOC>',
      '<loc>',
      '<IMG>',
      '<img>',
      ...tokens,
      ' ',
      ' ',
      '[SEP]',
      '[sep]',
      '東',
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12, size: 'max' }), (parts) => {
        const text = parts.join('');
        assert.deepEqual(
          ours.encode(text, { addSpecialTokens: false }),
          theirs.encode(text, { add_special_tokens: false }).ids,
          text,
        );
      }),
      { seed: 9, numRuns: 2000 },
    );
  });
});
