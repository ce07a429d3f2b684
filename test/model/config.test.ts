import assert from 'node:assert/strict';
import { readJson as readCheckedJson } from '../../src/checkpoint/json.js';
import { ConfigError } from '../../src/errors.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { endOf, HOSTILE, hostileCases, REFERENCE, readBin, readJson } from '../support/fixtures.js';
import { expectNoPollution, expectTypedError } from '../support/typed-error.js';

const load = (file: string) => parseGitConfig(readCheckedJson(readBin(`${HOSTILE}${file}`), file), file);

describe('config.json', () => {
  it('reads the published git-base sizes', () => {
    const c = parseGitConfig(readJson(`${REFERENCE}full-b16/config.json`));
    assert.equal(c.vision.imageTokens, 197);
    assert.deepEqual([c.vocabSize, c.hiddenSize, c.numHiddenLayers, c.maxPositionEmbeddings], [30522, 768, 6, 1024]);
    assert.deepEqual(
      [c.hiddenAct, c.vision.hiddenAct, c.layerNormEps, c.vision.layerNormEps],
      ['gelu', 'quick_gelu', 1e-12, 1e-5],
    );
    assert.equal(c.numImageWithEmbedding, 0);
    assert.ok(Object.isFrozen(c) && Object.isFrozen(c.vision));
  });

  it('fills absent keys with the published defaults and ignores unknown ones', () => {
    const full = parseGitConfig(readJson(`${REFERENCE}full-b16/config.json`));
    assert.deepEqual(parseGitConfig({ model_type: 'git', invented: [1] }), full);
  });

  it('takes one end token or several, and null for a vision config that was left out', () => {
    const json = { model_type: 'git', eos_token_id: [7, 102], vision_config: null };
    const c = parseGitConfig(json);
    assert.deepEqual(c.eosTokenIds, [7, 102]);
    assert.deepEqual(parseGitConfig({ model_type: 'git' }).eosTokenIds, [102]);
    assert.deepEqual(c.vision, parseGitConfig({ model_type: 'git' }).vision);
    for (const [change, path] of [
      [{ eos_token_id: [] }, 'eos_token_id'],
      [{ eos_token_id: ['7'] }, 'eos_token_id.0'],
      [{ eos_token_id: [102, 30522] }, 'eos_token_id'],
      [{ vision_config: [] }, 'vision_config'],
      [{ vision_config: { hidden_size: '768' } }, 'vision_config.hidden_size'],
    ] as const) {
      assert.throws(
        () => parseGitConfig({ ...json, ...change }),
        (error: unknown) => error instanceof ConfigError && error.path === path,
        JSON.stringify(change),
      );
    }
  });

  for (const entry of hostileCases('config')) {
    it(`${entry.expect}: ${entry.file} (${entry.rule})`, () => {
      const expected = endOf(entry);
      let fault: unknown;
      try {
        load(entry.file);
      } catch (error) {
        fault = error;
      }
      if (expected === 'load') assert.equal(fault, undefined);
      else {
        expectTypedError(fault, 'accepted, or', ConfigError);
        assert.equal(fault.unsupported, expected === 'unsupported', fault.message);
        if (entry.expect === 'load-or-error') assert.equal(fault.code, expected);
        assert.equal(fault.file, entry.file);
      }
      expectNoPollution();
    });
  }

  it('names the dotted path, what was expected and what was found', () => {
    assert.throws(
      () => parseGitConfig({ model_type: 'git', vision_config: { patch_size: 'x' } }, 'c.json'),
      /^ConfigError: c\.json: vision_config\.patch_size: bad-invalid-type: expected number, found "x"$/,
    );
  });
});
