import assert from 'node:assert/strict';
import type { ParityRow } from '../../src/parity/index.js';
import { summarizeParity } from '../../src/parity/index.js';
import { collect } from '../parity/support.js';
import { BACKENDS, useBackend, useThreads } from '../support/backends.js';
import { REFERENCE } from '../support/fixtures.js';
import { FULL } from '../support/full.js';

/** Cases of three AdamW steps in the models' own folders, and the longer runs beside them, with the comparisons that each has. */
const RUNS = [
  { only: 'tiny-*/training', rows: 128 },
  { only: 'training/*', rows: 1069 },
] as const;

/** Everything passes; and as single lucky numbers of the reference are no bound, the distribution of ratios to its own error is judged. */
function expectTraining(rows: readonly ParityRow[], count: number, label: string): void {
  assert.deepEqual(
    rows.filter((row) => row.verdict !== 'pass'),
    [],
  );
  assert.equal(summarizeParity(rows).passed, count, label);
  const ratios = rows.flatMap(({ ratio }) => (ratio === undefined ? [] : [ratio])).sort((a, b) => a - b);
  const at = (share: number): number => ratios[Math.floor(share * (ratios.length - 1))]!;
  console.log(
    `    ${label}: ${count} passed, error / torch's own: median ${at(0.5).toFixed(2)}, 99 % ${at(0.99).toFixed(2)}`,
  );
  assert.ok(at(0.5) < 1.5 && at(0.99) < 6, label);
}

describe('training runs of the reference', function () {
  this.timeout(600_000);
  for (const backend of BACKENDS) {
    for (const { only, rows } of RUNS) {
      if (!FULL && (backend === 'cpu' || (backend === 'wasm' && only === 'training/*'))) continue; // these backends are slow
      it(`${only} on ${backend}`, async () => {
        await useBackend(backend);
        expectTraining(await collect(REFERENCE, { only }), rows, `${only} on ${backend}`);
      });
    }
  }

  it('has the same bits with one thread and with two', async () => {
    await useBackend('simd');
    const run = async (threads: number) => {
      useThreads(threads);
      return (await collect(REFERENCE, { only: 'training/finetune_lora' })).map(({ tensor, error }) => [tensor, error]);
    };
    try {
      assert.deepEqual(await run(2), await run(1));
    } finally {
      useThreads(1);
    }
  });
});
