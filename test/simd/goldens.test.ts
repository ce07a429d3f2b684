import assert from 'node:assert/strict';
import { summarizeParity } from '../../src/parity/index.js';
import { collect } from '../parity/support.js';
import { REFERENCE } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
import { useVariant, VARIANTS } from './support.js';

/** The reference's cases, by folder, with how many comparisons pass at least. */
const FOLDERS = { 'tiny-a': 249, 'tiny-b': 218, 'tiny-video': 245, checkpoints: 14 } as const;

for (const { name } of VARIANTS) {
  describe(`${name}: the model against the reference`, () => {
    before(() => useVariant(name));

    for (const [folder, atLeast] of Object.entries(FOLDERS)) {
      // test/parity has all of them on the default variant; `npm test` has one folder on that which shares least with it.
      if (!FULL && (name !== 'simd-plain-unshared' || folder !== 'tiny-a')) continue;
      it(folder, async () => {
        const rows = await collect(REFERENCE + folder);
        const failed = rows.filter(({ verdict }) => verdict === 'fail');
        assert.deepEqual(failed, []);
        const { passed, worstRatio } = summarizeParity(rows);
        assert.ok(passed >= atLeast, `only ${passed} comparisons`);
        console.log(
          `    ${folder} on ${name}: ${passed} passed, largest error ${worstRatio?.toFixed(2)} x the reference's own`,
        );
      });
    }
  });
}
