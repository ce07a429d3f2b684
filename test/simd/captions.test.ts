import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import type { SimdBackend } from 'tfjs-backend-simd';
import { setThreads } from 'tfjs-backend-simd';
import { generate } from '../../src/generation/generate.js';
import { encodeImage, loadGit, startSession } from '../../src/index.js';
import { disposeGit } from '../../src/model/git.js';
import { disposeCache } from '../../src/model/kv-cache.js';
import { fromDirectory } from '../../src/node.js';
import { summarizeParity } from '../../src/parity/index.js';
import { collect } from '../parity/support.js';
import { REFERENCE } from '../support/fixtures.js';
import { useVariant } from './support.js';

const TINY = `${REFERENCE}tiny-a`;

/** Bytes that JavaScript holds, after a garbage collection. */
function heapUsed(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  return process.memoryUsage().heapUsed;
}

describe('simd: captions of a tiny model', () => {
  before(() => useVariant('simd'));
  after(() => setThreads(1));

  it('2,000 in one process leave memory and tensors flat', async function () {
    this.timeout(300_000);
    const git = await loadGit(await fromDirectory(TINY));
    const { imageSize } = git.config.vision;
    const pixels: tf.Tensor4D = tf.randomUniform([1, imageSize, imageSize, 3], -2, 2, 'float32', 7);
    const vocabulary = { size: git.config.vocabSize, bosId: git.config.bosTokenId, eosIds: git.config.eosTokenIds };
    const caption = async (turn: number) => {
      const image = encodeImage(git, pixels);
      const strategy = turn % 4 === 0 ? 'original' : 'greedy';
      await generate(() => startSession(git, image), vocabulary, { strategy, maxNewTokens: 2 + (turn % 3) });
      disposeCache(image);
    };
    const backend = tf.backend() as SimdBackend;
    const memory = () => ({ tensors: tf.memory().numTensors, data: backend.numDataIds(), ...backend.heap.stats() });
    const { pool } = backend;
    let jobs = 0;
    pool.run = (...job) => {
      jobs++;
      Object.getPrototypeOf(pool).run.apply(pool, job);
    };
    /** Jobs of the backend's kernels for a dozen captions, one of each kind. */
    const work = async () => {
      jobs = 0;
      for (let turn = 0; turn < 12; turn++) await caption(turn);
      return jobs;
    };
    for (let turn = 0; turn < 200; turn++) await caption(turn);
    const expected = await work();
    const before = memory();
    const heap = heapUsed();
    for (let turn = 0; turn < 2000; turn++) await caption(turn);
    assert.deepEqual(memory(), before);
    assert.ok(expected > 0);
    assert.equal(await work(), expected, 'a caption does as much at the end as at the beginning');
    const grown = (heapUsed() - heap) / 1e6;
    const flat = `${before.size / 2 ** 20} MiB of the backend before and after, ${grown.toFixed(2)} MB more of JavaScript`;
    console.log(`    2,000 captions, ${expected} jobs for 12 of them; ${flat}`);
    assert.ok(grown < 4, `${grown} MB`);
    delete (pool as Partial<typeof pool>).run;
    pixels.dispose();
    disposeGit(git);
  });

  for (const threads of [1, 2]) {
    it(`every case of tiny-a with ${threads} thread${threads > 1 ? 's' : ''}`, async () => {
      await useVariant('simd');
      assert.equal(setThreads(threads), threads);
      const rows = await collect(TINY);
      const failed = rows.filter(({ verdict }) => verdict === 'fail');
      assert.deepEqual(failed, []);
      const { passed, worstRatio } = summarizeParity(rows);
      assert.ok(passed >= 249, `only ${passed} comparisons`);
      console.log(`    tiny-a: ${passed} passed, largest error ${worstRatio?.toFixed(2)} x the reference's own`);
    });
  }
});
