import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.js';
import { readBin, TOKENIZER_REFERENCE } from '../support/fixtures.js';

const rows = <T>(name: string): T[] =>
  readFileSync(`${TOKENIZER_REFERENCE}${name}.jsonl`, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as T);

describe('tokenizer against transformers 4.40 (full BERT vocabulary)', () => {
  let tokenizer: Tokenizer;

  before(function () {
    if (TOKENIZER_REFERENCE === undefined) {
      console.log('      skipped: the tokenizer reference is not here (set IMAGE2TEXT_REFERENCE)');
      this.skip();
    }
    tokenizer = loadTokenizer({ vocabTxt: { bytes: readBin(`${TOKENIZER_REFERENCE}vocab.txt`), file: 'vocab.txt' } });
  });

  it('encodes every row, those with unassigned code points too', () => {
    const cases = rows<{ text: string; ids: number[] }>('encode');
    for (const { text, ids } of cases) {
      assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: false }), ids, JSON.stringify(text));
      assert.deepEqual(tokenizer.encode(text), [101, ...ids, 102], JSON.stringify(text));
    }
    assert.ok(cases.length > 0);
    console.log(`      ${cases.length} texts equal`);
  });

  it('truncates', () => {
    for (const { text, max_length, ids } of rows<{ text: string; max_length: number; ids: number[] }>('truncate')) {
      assert.deepEqual(tokenizer.encode(text, { maxLength: max_length }), ids, JSON.stringify(text));
    }
  });

  it('pads batches', () => {
    type Batch = { texts: string[]; input_ids: number[][]; attention_mask: number[][] };
    for (const { texts, input_ids, attention_mask } of rows<Batch>('batch')) {
      assert.deepEqual(tokenizer.encodeBatch(texts), { inputIds: input_ids, attentionMask: attention_mask });
    }
  });

  it('decodes, with and without special tokens and clean-up, at once and streamed', () => {
    type Row = { ids: number[] } & Record<'skip_clean' | 'skip_raw' | 'keep_clean' | 'keep_raw', string>;
    for (const row of rows<Row>('decode')) {
      for (const [skip, clean, expected] of [
        [true, true, row.skip_clean],
        [true, false, row.skip_raw],
        [false, true, row.keep_clean],
        [false, false, row.keep_raw],
      ] as const) {
        const options = { skipSpecialTokens: skip, cleanUpTokenizationSpaces: clean };
        assert.equal(tokenizer.decode(row.ids, options), expected, `${row.ids}`);
        const stream = tokenizer.detokenizer(options);
        assert.equal(row.ids.map((id) => stream.push(id)).join('') + stream.flush(), expected, `${row.ids}`);
      }
    }
  });
});
