import assert from 'node:assert/strict';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.js';
import { HOSTILE, readJson } from '../support/fixtures.js';
import { configFile, expectFault, tokensOf, utf8, VOCAB } from './support.js';

type Json = Record<string, any>;

const OK = readJson<Json>(`${HOSTILE}vocab/tokenizer_ok.json`);

const loadJson = (change: (json: Json) => void, config?: unknown) => {
  const json = structuredClone(OK);
  change(json);
  const tokenizerJson = { bytes: utf8(JSON.stringify(json)), file: 'tokenizer.json' };
  return loadTokenizer({ tokenizerJson, ...configFile(config) });
};

/** Sets the value at a dotted path. */
function setAt(json: Json, path: string, value: unknown): void {
  const keys = path.split('.');
  const last = keys.pop()!;
  keys.reduce((at, key) => at[key], json)[last] = value;
}

const piece = (id: string) => ({ SpecialToken: { id, type_id: 0 } });

/** A post-processor that puts the given token before a sequence, and `dog` after it. */
const template = (first: { id: string; ids: number[] }) => ({
  type: 'TemplateProcessing',
  single: [piece(first.id), { Sequence: { id: 'A', type_id: 0 } }, piece('dog')],
  special_tokens: { [first.id]: first, dog: { id: 'dog', ids: [15], tokens: ['dog'] } },
});

describe('tokenizer.json', () => {
  const refused = (
    rows: readonly (readonly [path: string, value: unknown, rule: string, place?: string])[],
    unsupported = false,
  ) => {
    for (const [path, value, rule, place = path] of rows) {
      const load = () => loadJson((json) => setAt(json, path, value));
      expectFault(load, { file: 'tokenizer.json', code: rule, path: place, unsupported });
    }
  };

  it('gives vocabulary, normalizer options and word limit', () => {
    const tokenizer = loadJson((json) => {
      json['model'].vocab['É'] = 20;
      json['normalizer'] = {
        type: 'BertNormalizer',
        lowercase: false,
        strip_accents: false,
        handle_chinese_chars: true,
      };
      json['model'].max_input_chars_per_word = 3;
    });
    assert.deepEqual(tokensOf(tokenizer, 'É é cat cats'), ['É', '[UNK]', 'cat', '[UNK]']);
    assert.equal(tokenizer.vocabSize, 21);
  });

  it('gives way to tokenizer_config.json, and is not read beside a vocab.txt', () => {
    const cased = { do_lower_case: false };
    assert.deepEqual(
      tokensOf(
        loadJson(() => {}),
        'Cat',
      ),
      ['cat'],
    );
    assert.deepEqual(
      tokensOf(
        loadJson(() => {}, cased),
        'Cat',
      ),
      ['[UNK]'],
    );
    const vocabTxt = { bytes: utf8(VOCAB), file: 'vocab.txt' };
    assert.equal(loadTokenizer({ vocabTxt, tokenizerJson: { bytes: utf8('broken'), file: 'x' } }).vocabSize, 9);
  });

  it('may add tokens after the vocabulary, in any order', () => {
    const tokenizer = loadJson(
      (json) => {
        json['added_tokens'].push({ id: 21, content: '<b>' }, { id: 20, content: '<a>', special: true });
      },
      { additional_special_tokens: ['<a>'] },
    );
    assert.deepEqual([tokenizer.tokenOf(20), tokenizer.tokenOf(21), tokenizer.vocabSize], ['<a>', '<b>', 22]);
    assert.ok(tokenizer.specialIds.has(20) && !tokenizer.specialIds.has(21));
  });

  it('may name other tokens for [CLS] and [SEP]', () => {
    const bert = loadJson((json) => {
      json['post_processor'] = { type: 'BertProcessing', sep: ['dog', 15], cls: ['cat', 14] };
    });
    assert.deepEqual(bert.encode('a'), [14, 5, 15]);
    const tokenizer = loadJson((json) => {
      json['post_processor'] = template({ id: '[CLS]', ids: [2] });
    });
    assert.deepEqual(tokenizer.encode('a'), [2, 5, 15]);
  });

  it('is refused with the place', () => {
    refused([
      ['model', 7, 'wrong-type'],
      ['model.type', 'Unigram', 'not-word-piece'],
      ['model.type', 7, 'wrong-type'],
      ['post_processor', { type: 'BertProcessing' }, 'missing-field', 'post_processor.cls'],
      ['post_processor', template({ id: '[CLS]', ids: [3] }), 'token-conflict', 'post_processor.single.0'],
      ['post_processor', template({ id: '[CLS]', ids: [2, 2] }), 'token-conflict', 'post_processor.single.0'],
      ['model.vocab.cat', 13, 'duplicate-id'],
      ['model.vocab.cat', 20, 'ids-not-dense'],
      ['model.vocab.cat', null, 'illegal-id'],
      ['model.vocab.\ud800', 20, 'illegal-token', 'model.vocab id 20'],
      ['model.max_input_chars_per_word', 0, 'out-of-range'],
      ['added_tokens', {}, 'wrong-type'],
      ['added_tokens.0', 'x', 'wrong-type', 'added_tokens.0'],
      ['added_tokens.0.id', 1.5, 'wrong-type', 'added_tokens.0.id'],
      ['added_tokens.0.content', '', 'illegal-value', 'added_tokens.0.content'],
      ['added_tokens.0.content', 'x'.repeat(257), 'illegal-value', 'added_tokens.0.content'],
      ['added_tokens.1.content', '[PAD]', 'duplicate-token', 'added_tokens.1.content'],
      ['added_tokens.5', { id: 99, content: 'new' }, 'token-conflict', 'added tokens'],
      [
        'post_processor',
        { type: 'BertProcessing', sep: ['[SEP]', 4], cls: ['[CLS]', 2] },
        'token-conflict',
        'post_processor.sep',
      ],
    ]);
  });

  it('is refused as unsupported where BERT would do something else', () => {
    refused(
      [
        ['normalizer', null, 'unsupported-option'],
        ['normalizer.type', 'NFKC', 'unsupported-option'],
        ['normalizer.clean_text', false, 'unsupported-option'],
        ['pre_tokenizer.type', 'ByteLevel', 'unsupported-option'],
        ['decoder.type', 'BPEDecoder', 'unsupported-option'],
        ['decoder.prefix', '@@', 'unsupported-option'],
        ['post_processor', { type: 'RobertaProcessing' }, 'unsupported-option', 'post_processor.type'],
        ['post_processor', { type: 'TemplateProcessing', single: [] }, 'unsupported-option', 'post_processor.single'],
        ['model.continuing_subword_prefix', '', 'unsupported-option'],
        ['model.max_input_chars_per_word', 1e9, 'out-of-range'],
      ],
      true,
    );
  });

  it('is refused where it is no JSON object', () => {
    const load = (text: string) => () =>
      loadTokenizer({ tokenizerJson: { bytes: utf8(text), file: 'tokenizer.json' } });
    for (const text of ['{', 'NaN', '\0', '{"[[']) expectFault(load(text), { code: 'not-json' });
    for (const text of ['['.repeat(200_000), `{"a":${'{"a":'.repeat(100_000)}`])
      expectFault(load(text), { code: 'too-deep' });
    expectFault(load(`[${'0,'.repeat(3_000_001)}0]`), { code: 'too-large' });
    expectFault(load(' '.repeat(17 * 2 ** 20)), { code: 'too-large' });
    for (const text of ['[]', 'null', '"x"', '7']) expectFault(load(text), { code: 'wrong-type' });
    expectFault(load('\ufeff{}'), { code: 'byte-order-mark' });
    expectFault(load('{"__proto__": {"model": {}}}'), { code: 'missing-field', path: 'model' });
  });
});
