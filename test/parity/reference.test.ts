import assert from 'node:assert/strict';
import type { ParityRow } from '../../src/parity/index.js';
import { summarizeParity } from '../../src/parity/index.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { METRICS_REFERENCE, REAL, REFERENCE, TOKENIZER_REFERENCE } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
import { collect } from './support.js';

/** Folders whose cases depend on the backend, and how many comparisons each has at least. */
const TENSOR_FOLDERS = { 'tiny-a': 286, 'tiny-b': 255, 'tiny-video': 280, checkpoints: 14 } as const;

/** Cases that the cpu backend, which is slow, has in `npm test`. */
const CPU_CASES = {
  'tiny-a/forward_b1*': 10,
  'tiny-b/forward_b1*': 10,
  'tiny-video/forward_three_frames*': 10,
  'checkpoints/*': 14,
} as const;

/** What may be not run, and nothing else: records of bugs of transformers 4.40. */
const NOT_RUN = [/greedy_left_padded_cache\/?.* sequences$/, /forward_single_frame_4d past\./];

function expectParity(rows: readonly ParityRow[], atLeast: number, allowed: readonly RegExp[], label: string): void {
  const name = (row: ParityRow) => `${row.case} ${row.tensor}`;
  const faults = rows.filter(
    (row) =>
      row.verdict === 'fail' || (row.verdict === 'not run' && !allowed.some((pattern) => pattern.test(name(row)))),
  );
  assert.deepEqual(faults, []);
  const { passed, worstRatio } = summarizeParity(rows);
  assert.ok(passed >= atLeast, `${label}: only ${passed} comparisons, expected ${atLeast}`);
  const far = rows
    .filter((row) => (row.ratio ?? 0) > 3 && !row.case.endsWith('/training')) // those are in test/training
    .map((row) => `${name(row)} ${row.ratio}`);
  assert.deepEqual(far, [], `${label}: more than 3 times the reference's own error`);
  const worst =
    worstRatio === undefined
      ? rows.some((row) => row.error)
        ? 'all within tolerance'
        : 'all exact'
      : `largest error ${worstRatio.toFixed(2)} x the reference's own`;
  console.log(`    ${label}: ${passed} passed, ${worst}`);
}

describe('parity with the reference', () => {
  for (const backend of BACKENDS) {
    // The cpu backend is slow, and wasm the one that is used least: `npm run test:full` gives them the other folders.
    if (backend === 'cpu' && !FULL) continue;
    const few = backend === 'wasm' && !FULL;
    for (const [folder, atLeast] of Object.entries(TENSOR_FOLDERS)) {
      if (few && folder !== 'tiny-a' && folder !== 'checkpoints') continue;
      it(`${folder} on ${backend}`, async () => {
        await useBackend(backend);
        expectParity(await collect(REFERENCE + folder), atLeast, NOT_RUN, `${folder} on ${backend}`);
      });
    }

    if (few) continue;
    it(`the original's beam search on ${backend}`, async () => {
      await useBackend(backend);
      const rows = await collect(`${REFERENCE}tiny-original-beam`);
      expectParity(rows, 80, [], `tiny-original-beam on ${backend}`);
    });
  }

  it('single passes on cpu', async () => {
    await useBackend('cpu');
    for (const [only, atLeast] of Object.entries(CPU_CASES)) {
      expectParity(await collect(REFERENCE, { only }), atLeast, NOT_RUN, `${only} on cpu`);
    }
  });

  it('images, bit for bit', async () => {
    await useBackend('cpu');
    const rows = await collect(`${REFERENCE}image-processor`);
    expectParity(rows, 498, [/jpeg-variation\.json/], 'image-processor');
    assert.deepEqual(
      rows.filter((row) => row.verdict === 'pass' && row.error !== 0).map((row) => row.case),
      [],
      'pixels are equal, CMYK too',
    );
  });

  it('the tokenizer with the full vocabulary', async function () {
    if (TOKENIZER_REFERENCE === undefined) this.skip();
    expectParity(await collect(TOKENIZER_REFERENCE), 10, [], 'tokenizer');
  });

  it('metrics of captions and answers', async () => {
    expectParity(await collect(METRICS_REFERENCE), 56, [], 'metrics');
  });

  it('a manifest of files as people have them: those kept here', async () => {
    const rows = await collect(REAL, { only: 'tokenizers/' });
    expectParity(rows, 6, [], 'real tokenizers');
  });

  it('generated weights and the image of the full-size model', async () => {
    await useBackend('cpu');
    const rows = await collect(`${REFERENCE}full-b16`);
    expectParity(rows, 3, [/^full-b16\/case/], 'full-b16 without its model');
    assert.equal(rows.filter((row) => row.verdict === 'not run').length, 5, 'the cpu backend leaves the model out');
  });

  it('names what it cannot run', async () => {
    await useBackend('cpu');
    const rows = await collect(REFERENCE, { only: '*.json' });
    assert.deepEqual(
      rows.map((row) => [row.case, row.verdict]),
      [
        ['reference/published-logits.json', 'not run'],
        ['image-processor/jpeg-variation.json', 'not run'],
      ],
    );
  });
});
