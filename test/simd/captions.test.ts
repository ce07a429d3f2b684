import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import type { SimdBackend } from 'tfjs-backend-simd';
import { setThreads } from 'tfjs-backend-simd';
import { generate } from '../../src/generation/generate.js';
import { encodeImage, loadGit, startSession } from '../../src/index.js';
import { disposeCache, disposeGit } from '../../src/model/git.js';
import { fromDirectory } from '../../src/node.js';
import { REFERENCE } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
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

  const TURNS = FULL ? 2000 : 200;
  it(`${TURNS} in one process leave memory and tensors flat`, async () => {
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
    for (let turn = 0; turn < TURNS / 10; turn++) await caption(turn);
    const expected = await work();
    const before = memory();
    const heap = heapUsed();
    for (let turn = 0; turn < TURNS; turn++) await caption(turn);
    assert.deepEqual(memory(), before);
    assert.ok(expected > 0);
    assert.equal(await work(), expected, 'a caption does as much at the end as at the beginning');
    const grown = (heapUsed() - heap) / 1e6;
    const flat = `${before.size / 2 ** 20} MiB of the backend before and after, ${grown.toFixed(2)} MB more of JavaScript`;
    console.log(`    ${TURNS} captions, ${expected} jobs for 12 of them; ${flat}`);
    assert.ok(grown < 4, `${grown} MB`);
    delete (pool as Partial<typeof pool>).run;
    pixels.dispose();
    disposeGit(git);
  });
});
