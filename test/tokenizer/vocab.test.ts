import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.js';
import { parseVocab } from '../../src/tokenizer/vocabulary.js';
import { expectFault, loadVocab, tokensOf, utf8, VOCAB } from './support.js';

describe('vocab.txt', () => {
  const refused = (text: string | Uint8Array, rule: string, place?: string) =>
    expectFault(() => loadVocab(text), { file: 'vocab.txt', code: rule, path: place });

  it('may end its lines with LF, CRLF or CR, the last one or not', () => {
    const expected = parseVocab(utf8(VOCAB), 'v').tokens;
    for (const text of [VOCAB.trimEnd(), VOCAB.replaceAll('\n', '\r\n'), VOCAB.replaceAll('\n', '\r')]) {
      assert.deepEqual(parseVocab(utf8(text), 'v').tokens, expected);
    }
  });

  it('is not trimmed and not split at other line ends of Unicode', () => {
    const tokens = ['\u2028', '\u0085', ' x', '\u000b', '\u00a0'];
    assert.deepEqual(parseVocab(utf8(`${tokens.join('\n')}\n`), 'v').tokens, tokens);
  });

  it('names what it is instead', () => {
    const disguises = {
      'Git LFS': 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n',
      'web page': '\n<!DOCTYPE html>\n<title>404</title>',
      gzip: new Uint8Array(gzipSync(VOCAB)),
      zip: utf8('PK\x03\x04rest'),
      PDF: '%PDF-1.7\n',
      'UTF-16': new Uint8Array([0xff, 0xfe, 0x5b, 0, 0x50, 0]),
      safetensors: utf8('\x10\0\0\0\0\0\0\0{"a":{}}'),
      JSON: '{\n  "version": "1.0",\n  "model": {}\n}',
    };
    for (const [name, content] of Object.entries(disguises)) {
      assert.match(refused(content, 'not-a-tokenizer-file').detail, new RegExp(name));
    }
  });

  it('may have tokens that look like the start of something else', () => {
    assert.equal(loadVocab(`{\n"\n<\n<html\n[\n${VOCAB}`).vocabSize, 14);
  });

  it('is refused with the line', () => {
    refused('', 'empty-file');
    refused('\n', 'empty-vocabulary');
    refused(`\ufeff${VOCAB}`, 'byte-order-mark', 'line 1');
    refused(`${VOCAB}a\n`, 'duplicate-token', 'line 10');
    refused(`${VOCAB}\n\n`, 'duplicate-token', 'line 11');
    refused(`${VOCAB}x\0y\n`, 'illegal-token', 'line 10');
    const cut = new Uint8Array([...utf8(VOCAB), 0xe6, 0x9d]);
    assert.equal(refused(cut, 'not-utf-8', 'line 10').offset, utf8(VOCAB).length);
    refused(new Uint8Array([...utf8('a\n'), 0xc0, 0x80, 0x0a, ...utf8(VOCAB)]), 'not-utf-8', 'line 2');
    refused(new Uint8Array([0xed, 0xa0, 0x80, 0x0a, ...utf8(VOCAB)]), 'not-utf-8', 'line 1');
    refused(VOCAB.replace('[SEP]', '[sep]'), 'special-token-missing', 'sep_token');
    assert.match(
      refused(VOCAB.replace('[UNK]', '[UNK] '), 'special-token-missing', 'unk_token').detail,
      /spaces count/,
    );
  });

  it('is bounded', () => {
    refused(new Uint8Array(33 * 1024 * 1024).fill(0x61), 'too-large');
    refused(Array.from({ length: 1_000_001 }, (_, i) => i.toString(36)).join('\n'), 'too-many-tokens');
  });

  it('may lack [MASK]', () => {
    const tokenizer = loadVocab(VOCAB.replace('[MASK]', 'mask'));
    assert.equal(tokenizer.maskId, undefined);
    assert.deepEqual(tokensOf(tokenizer, '[MASK]'), ['[UNK]', 'mask', '[UNK]']);
  });

  it('is needed, or a tokenizer.json is', () => {
    expectFault(() => loadTokenizer({}), { code: 'vocabulary-missing' });
  });
});
