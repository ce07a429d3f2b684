import assert from 'node:assert/strict';
import { expectFault, loadVocab, tokensOf, VOCAB } from './support.js';

describe('tokenizer_config.json', () => {
  const refused = (config: unknown, rule: string, place: string | undefined, unsupported = false) =>
    expectFault(() => loadVocab(VOCAB, config), {
      file: 'tokenizer_config.json',
      code: rule,
      path: place,
      unsupported,
    });

  it('is obeyed', () => {
    assert.deepEqual(tokensOf(loadVocab(VOCAB, { do_lower_case: false }), 'A É'), ['A', 'É']);
    assert.deepEqual(tokensOf(loadVocab(VOCAB, { do_lower_case: false, strip_accents: true }), 'Á'), ['A']);
    assert.deepEqual(tokensOf(loadVocab(VOCAB, { tokenize_chinese_chars: false }), 'a東'), ['[UNK]']);
    assert.deepEqual(tokensOf(loadVocab(`${VOCAB}a-b\n`, { never_split: ['a-b'] }), 'a-b'), ['a-b']);
    assert.equal(loadVocab(VOCAB, { model_max_length: 1e30 }).modelMaxLength, undefined);
    assert.equal(loadVocab(VOCAB, { model_max_length: 512 }).modelMaxLength, 512);
    const named = loadVocab(VOCAB, {
      cls_token: { content: 'a', lstrip: false, __type: 'AddedToken' },
      sep_token: 'A',
    });
    assert.deepEqual(named.encode(''), [named.idOf('a'), named.idOf('A')]);
    const added = loadVocab(VOCAB, {
      added_tokens_decoder: { 0: { content: '[PAD]', special: true }, 9: { content: '<x>' } },
      additional_special_tokens: ['<x>', { content: '<y>' }],
    });
    assert.deepEqual([added.idOf('<x>'), added.idOf('<y>'), added.specialIds.has(9)], [9, 10, true]);
  });

  it('has defaults for what is absent, null or unknown', () => {
    const config = JSON.parse(
      '{"do_lower_case": null, "cls_token": null, "__proto__": {"do_lower_case": false}, "other": 7}',
    );
    const tokenizer = loadVocab(VOCAB, config);
    assert.deepEqual(tokenizer.encode('A'), loadVocab(VOCAB).encode('A'));
  });

  it('is refused with the place', () => {
    for (const json of [null, [], 'x', 7]) refused(json, 'wrong-type', undefined);
    refused({ do_lower_case: 'true' }, 'wrong-type', 'do_lower_case');
    refused({ strip_accents: 0 }, 'wrong-type', 'strip_accents');
    refused({ cls_token: 7 }, 'wrong-type', 'cls_token');
    refused({ cls_token: {} }, 'missing-field', 'cls_token.content');
    refused({ cls_token: '' }, 'illegal-value', 'cls_token');
    refused({ cls_token: 'x'.repeat(257) }, 'illegal-value', 'cls_token');
    refused({ never_split: [7] }, 'wrong-type', 'never_split.0');
    refused({ never_split: 'a' }, 'wrong-type', 'never_split');
    refused({ additional_special_tokens: [null] }, 'wrong-type', 'additional_special_tokens.0');
    refused({ added_tokens_decoder: { x: { content: 'x' } } }, 'illegal-value', 'added_tokens_decoder.x');
    refused({ added_tokens_decoder: { 5: 'a' } }, 'wrong-type', 'added_tokens_decoder.5');
    refused(
      { added_tokens_decoder: { 5: { content: 'a' }, 6: { content: 'a' } } },
      'duplicate-token',
      'added_tokens_decoder.6',
    );
    for (const model_max_length of [0, -1]) refused({ model_max_length }, 'out-of-range', 'model_max_length');
    for (const model_max_length of ['512', Number.NaN]) refused({ model_max_length }, 'wrong-type', 'model_max_length');
    refused({ model_max_length: 1.5 }, 'illegal-value', 'model_max_length');
    for (const key of ['padding_side', 'truncation_side']) refused({ [key]: 7 }, 'wrong-type', key);
    expectFault(() => loadVocab(VOCAB, { cls_token: '<s>' }), { code: 'special-token-missing', path: 'cls_token' });
    expectFault(() => loadVocab(VOCAB, { added_tokens_decoder: { 7: { content: 'a' } } }), { code: 'token-conflict' });
  });

  it('is refused as unsupported where it asks for another tokenizer', () => {
    refused({ tokenizer_class: 'CLIPTokenizer' }, 'unsupported-option', 'tokenizer_class', true);
    refused({ padding_side: 'middle' }, 'unsupported-option', 'padding_side', true);
    refused({ do_basic_tokenize: false }, 'unsupported-option', 'do_basic_tokenize', true);
  });
});
