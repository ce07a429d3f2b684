import assert from 'node:assert/strict';
import { TokenizerError } from '../../src/errors.js';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.js';
import { endOf, HOSTILE, hostileCases, readBin, readJson } from '../support/fixtures.js';
import { expectNoPollution, expectTypedError } from '../support/typed-error.js';
import { demoTokenizer } from './support.js';

interface SizedCase {
  readonly size?: number;
}

function load(file: string): Tokenizer {
  const named = { bytes: readBin(`${HOSTILE}${file}`), file };
  return loadTokenizer(file.endsWith('.json') ? { tokenizerJson: named } : { vocabTxt: named });
}

/** What every tokenizer must do, whatever its vocabulary. */
function checkUsable(tokenizer: Tokenizer): void {
  for (let id = 0; id < tokenizer.vocabSize; id++) assert.equal(tokenizer.idOf(tokenizer.tokenOf(id)), id);
  assert.deepEqual(tokenizer.encode('sign'), [tokenizer.clsId, tokenizer.idOf('sign'), tokenizer.sepId]);
  assert.equal(tokenizer.decode(tokenizer.encode('the sign.'), { skipSpecialTokens: true }), 'the sign.');
}

describe('hostile tokenizer files', () => {
  for (const entry of hostileCases('vocab', 'tokenizer')) {
    it(`${entry.file}: ${entry.expect} (${entry.rule})`, () => {
      let tokenizer: Tokenizer | undefined;
      let fault: unknown;
      try {
        tokenizer = load(entry.file);
      } catch (error) {
        fault = error;
      }
      if (fault !== undefined) {
        expectTypedError(fault, entry.file, TokenizerError);
        assert.ok(fault.message.startsWith(`${entry.file}: `), fault.message);
        assert.equal(endOf(entry), entry.expect === 'error' ? 'error' : fault.code, fault.message);
        assert.equal(fault.unsupported, false, fault.message);
      } else {
        assert.equal(endOf(entry), 'load', 'was loaded');
        checkUsable(tokenizer!);
        const { size } = entry as SizedCase;
        if (size !== undefined) assert.equal(tokenizer!.vocabSize, size);
      }
      expectNoPollution();
    });
  }

  it('gives names of object internals their ids, and keeps the number of an empty line', () => {
    const lines = load('vocab/proto.txt');
    assert.deepEqual(['__proto__', 'constructor', 'toString'].map(lines.idOf), [20, 21, 22]);
    assert.equal(load('vocab/tokenizer_proto.json').idOf('__proto__'), 14);
    const blank = load('vocab/blank_line_middle.txt');
    assert.deepEqual([blank.tokenOf(8), blank.tokenOf(9)], ['', '##s']);
  });
});

describe('damaged tokenizer files', () => {
  for (const file of ['vocab/ok.txt', 'vocab/tokenizer_ok.json']) {
    it(`${file}: any byte changed, or cut anywhere, loads or is a TokenizerError`, () => {
      const whole = readBin(`${HOSTILE}${file}`);
      const load = (bytes: Uint8Array) => {
        const named = { bytes, file };
        return loadTokenizer(file.endsWith('.json') ? { tokenizerJson: named } : { vocabTxt: named });
      };
      const counts = { loaded: 0, refused: 0 };
      const attempt = (bytes: Uint8Array) => {
        try {
          const tokenizer = load(bytes);
          assert.equal(tokenizer.encode('the sign', { maxLength: 4 }).length, 4);
          counts.loaded++;
        } catch (error) {
          expectTypedError(error, file, TokenizerError);
          counts.refused++;
        }
      };
      for (let at = 0; at < whole.length; at++) {
        attempt(whole.subarray(0, at));
        for (const value of [0x00, 0x0a, 0x22, 0x30, 0x7d, 0xff, whole[at]! ^ 0x20]) {
          const changed = whole.slice();
          changed[at] = value;
          attempt(changed);
        }
      }
      console.log(`      ${counts.loaded} loaded, ${counts.refused} refused`);
      assert.ok(counts.loaded > 0 && counts.refused > 0);
    });
  }
});

describe('hostile texts', () => {
  type Prompt = { name: string; unit: string; repeat: number };
  const prompts = hostileCases('text-inputs').flatMap(({ file }) => readJson<Prompt[]>(`${HOSTILE}${file}`));
  const tokenizer = demoTokenizer();

  it('are there', () => assert.ok(prompts.length > 0));
  for (const { name, unit, repeat } of prompts) {
    it(`${name}: encoded, cut and decoded`, () => {
      const text = unit.repeat(repeat);
      const ids = tokenizer.encode(text);
      assert.ok(ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize));
      assert.deepEqual(
        tokenizer.encode(text, { maxLength: 8 }),
        ids.length <= 8 ? ids : [...ids.slice(0, 7), tokenizer.sepId],
      );
      const decoded = tokenizer.decode(ids, { skipSpecialTokens: true });
      assert.ok(!/[\ud800-\udfff]/u.test(decoded) && decoded.length <= 2 * text.length + 1);
    });
  }

  it('have the ids that the rules give them', () => {
    const count = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
    assert.deepEqual(count(' '.repeat(5000)), []);
    assert.deepEqual(count('x'.repeat(200_000)), [tokenizer.unkId]);
    assert.equal(count('東'.repeat(20_000)).length, 20_000);
    assert.equal(count('?!'.repeat(50_000)).length, 100_000);
    assert.deepEqual(count('what\0is it?'), count('whatis it?'));
    assert.deepEqual(count('wh\u200bat\u200d is\ufeff it'), count('what is it'));
    assert.deepEqual(count('a\ud800b'), count('ab'));
    assert.deepEqual(count('\udc00\ude00\ud83d'), []);
  });
});
