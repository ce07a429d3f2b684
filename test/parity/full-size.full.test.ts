import assert from 'node:assert/strict';
import { summarizeParity } from '../../src/parity/index.js';
import { useBackend } from '../support/backends.js';
import { REFERENCE } from '../support/fixtures.js';
import { collect } from './support.js';

describe('parity of the full-size model', () => {
  it('on wasm: all within tolerance', async () => {
    await useBackend('wasm');
    const rows = await collect(`${REFERENCE}full-b16`);
    assert.deepEqual(
      rows.filter(({ verdict }) => verdict !== 'pass'),
      [],
    );
    const { passed, worstRatio } = summarizeParity(rows);
    console.log(
      `    full-b16 on wasm: ${passed} passed, largest error ${worstRatio?.toFixed(2)} x the reference's own`,
    );
    assert.ok(passed >= 36, `only ${passed} comparisons`);
    assert.ok(worstRatio! <= 3, `${worstRatio}`);
  }).timeout(1_200_000);
});
