import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { setThreads } from 'tfjs-backend-simd';
import { logNormalizer } from '../../src/generation/logits-processors.js';
import {
  type DecoderSession,
  encodeImage,
  type GenerateOptions,
  type Git,
  generate,
  loadGit,
  startSession,
  type TopQuery,
} from '../../src/index.js';
import { disposeCache, disposeGit, type ImageCache } from '../../src/model/git.js';
import { fromDirectory } from '../../src/node.js';
import { REFERENCE } from '../support/fixtures.js';
import { useVariant } from './support.js';

/** The likeliest words of rows, as the session of a model reads them. */
function topOf(logits: tf.Tensor, count: number, by: 'logit' | 'logProb', asked: readonly number[] = []) {
  const made = tf.engine().runKernel('GitTopTokens', { logits }, { count, by, asked: [...asked] }) as tf.Tensor[];
  const [ids, best, parts] = made.map((x) => [...x.dataSync()]) as [number[], number[], number[]];
  tf.dispose(made);
  const normalizers = Array.from({ length: parts.length / 3 }, (_, r) =>
    parts.slice(3 * r, 3 * r + 3).reduce((a, b) => a + b),
  );
  return { ids, best, normalizers };
}

/** A session that counts what it was asked for, or one that gives whole rows only. */
function observed(session: DecoderSession, rowsOnly: boolean, seen: { top: number; rows: number }): DecoderSession {
  const step = async (ids: readonly (readonly number[])[], wanted: TopQuery | undefined) => {
    const found = await session.step(ids, rowsOnly ? undefined : wanted);
    for (const row of found) seen['ids' in row ? 'top' : 'rows']++;
    return found;
  };
  return { ...session, rows: 3, step: step as DecoderSession['step'] };
}

const STRATEGIES: readonly (GenerateOptions & { readonly top: boolean })[] = [
  { strategy: 'greedy', maxNewTokens: 12, top: true },
  { strategy: 'original', numBeams: 4, maxNewTokens: 12, top: true },
  { strategy: 'original', numBeams: 3, perNode: 5, numReturnSequences: 2, maxNewTokens: 5, top: true },
  { strategy: 'beam', numBeams: 4, numReturnSequences: 3, maxNewTokens: 12, top: true },
  { strategy: 'greedy', repetitionPenalty: 1.5, maxNewTokens: 8, top: false },
  { strategy: 'beam', minNewTokens: 5, maxNewTokens: 8, top: false },
  { strategy: 'sample', seed: 3, maxNewTokens: 8, top: false },
  { strategy: 'original-autoregressive', maxNewTokens: 8, top: false },
];

describe('simd: the likeliest words', () => {
  for (const [variant, threads] of [
    ['simd-plain-unshared', 1],
    ['simd-threads', 2],
  ] as const) {
    it(`of rows of 30,522 logits have the bits of the search in JavaScript: ${variant}`, async () => {
      await useVariant(variant);
      setThreads(threads, variant);
      const [rows, words] = [5, 30522];
      const scales = [1, 8, 300, 1e-3, 4];
      const noise = (i: number) => Math.sin(i * 12.9898 + Math.sin(i) * 78.233);
      const values = Float32Array.from({ length: rows * words }, (_, i) => noise(i) * scales[Math.floor(i / words)]!);
      const logits = tf.tensor(values, [rows, 1, words]);
      const { normalizers } = topOf(logits, 8, 'logit');
      for (let r = 0; r < rows; r++) {
        const row = values.slice(r * words, (r + 1) * words);
        const normalizer = logNormalizer(row, `row ${r}`);
        assert.equal(normalizers[r], normalizer);
        for (const by of ['logit', 'logProb'] as const) {
          const scores = by === 'logit' ? row : row.map((x) => x - normalizer);
          const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b).slice(0, 8);
          const { ids, best } = topOf(logits, 8, by, [7, 30521]);
          assert.deepEqual(ids.slice(8 * r, 8 * r + 8), order, `row ${r} by ${by}`);
          assert.deepEqual(
            best.slice(10 * r, 10 * r + 10),
            [...order, 7, 30521].map((id) => row[id]!),
          );
        }
      }
      logits.dispose();
    });
  }

  it('of a row with a number that is not finite: the first of these', async () => {
    await useVariant('simd');
    for (const odd of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const values = new Float32Array(3 * 50).map((_, i) => i % 7);
      values[50 + 33] = odd;
      values[50 + 49] = odd;
      const logits = tf.tensor(values, [3, 50]);
      const { ids, best, normalizers } = topOf(logits, 2, 'logProb', [4]);
      assert.deepEqual([ids[2], best[3]], [33, odd]);
      assert.deepEqual(normalizers.map(Number.isNaN), [false, true, false]);
      logits.dispose();
    }
  });

  it('wrong attributes are refused', async () => {
    await useVariant('simd');
    const logits = tf.zeros([2, 9]);
    assert.throws(() => topOf(logits, 10, 'logit'), /GitTopTokens/);
    assert.throws(() => topOf(logits, 1, 'logit', [9]), /index-out-of-range.*9 is no word of 9/);
    logits.dispose();
  });

  describe('give every search the words and numbers of whole rows', () => {
    let git: Git;
    let image: ImageCache;
    before(async () => {
      await useVariant('simd');
      git = await loadGit(await fromDirectory(`${REFERENCE}tiny-a/`));
      const side = git.config.vision.imageSize;
      const pixels = tf.randomUniform([3, side, side, 3], -2, 2, 'float32', 5) as tf.Tensor4D;
      image = encodeImage(git, pixels);
      pixels.dispose();
    });
    after(() => {
      disposeCache(image);
      disposeGit(git);
    });

    for (const { top, ...options } of STRATEGIES) {
      const name = Object.entries(options).map(([option, value]) => `${option} ${value}`);
      it(name.join(', '), async () => {
        await useVariant('simd');
        const { vocabSize: size, bosTokenId: bosId, eosTokenIds: eosIds } = git.config;
        const vocabulary = { size, bosId, eosIds };
        const prompts = [[bosId], [bosId, 5, 9], [bosId, 7]];
        const before = tf.memory().numTensors;
        const run = async (rowsOnly: boolean) => {
          const seen = { top: 0, rows: 0 };
          const made = await generate(
            () => observed(startSession(git, image), rowsOnly, seen),
            vocabulary,
            options,
            prompts,
          );
          return { made, seen };
        };
        const [fast, plain] = [await run(false), await run(true)];
        assert.deepEqual(fast.made, plain.made);
        assert.equal(plain.seen.top, 0);
        assert.deepEqual([fast.seen.top > 0, fast.seen.rows > 0], [top, !top]);
        assert.equal(tf.memory().numTensors, before);
      });
    }
  });
});
