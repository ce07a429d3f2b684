import assert from 'node:assert/strict';
import { circles, printedTable, sizeTable } from '../../scripts/size.mjs';

describe('npm run size', () => {
  it('its table stands in docs/architecture.md as it is now (else: npm run size -- --write)', () => {
    assert.equal(printedTable(), sizeTable());
  });

  it('finds circles, types included', () => {
    const folder = 'test/fixtures/circle';
    assert.deepEqual(circles([`${folder}/a.ts`, `${folder}/b.ts`, `${folder}/c.ts`]), [
      [`${folder}/a.ts`, `${folder}/b.ts`],
    ]);
  });
});
