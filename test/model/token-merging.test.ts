import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { randomParams } from '../../src/checkpoint/generated-weights.js';
import { attend } from '../../src/layers/attention.js';
import { collectTrace, tidyTree } from '../../src/layers/tidy.js';
import { disposeGit, type Git, gitSpec, imageFeatures, videoFeatures } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { mergeTokens, sizeMask, withTokenMerging } from '../../src/model/token-merging.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectClose, expectTensors } from '../support/close.js';

/** A token as the oracle has it: numbers, and how many tokens it stands for. */
interface Token {
  readonly x: readonly number[];
  readonly size: number;
}

/** Bipartite soft matching of one image, pair by pair. */
function naiveMerge(tokens: readonly Token[], keys: readonly (readonly number[])[], r: number): Token[] {
  const cosine = (a: readonly number[], b: readonly number[]) => {
    const dot = (p: readonly number[], q: readonly number[]) => p.reduce((sum, v, i) => sum + v * q[i]!, 0);
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  };
  const odds = tokens.map((_, i) => i).filter((i) => i % 2 === 1);
  const pairs = tokens.flatMap((_, even) => {
    if (even % 2 === 1 || even === 0) return [];
    const likes = odds.map((odd) => cosine(keys[even]!, keys[odd]!));
    const best = Math.max(...likes);
    return [{ even, odd: odds[likes.indexOf(best)]!, best }];
  });
  const joined = [...pairs].sort((a, b) => b.best - a.best).slice(0, Math.min(r, Math.floor((tokens.length - 1) / 2)));
  if (joined.length === 0) return [...tokens];
  const groupOf = (odd: number) => [odd, ...joined.filter((pair) => pair.odd === odd).map(({ even }) => even)];
  const mean = (group: readonly number[]): Token => {
    const size = group.reduce((sum, i) => sum + tokens[i]!.size, 0);
    return {
      size,
      x: tokens[0]!.x.map((_, d) => group.reduce((sum, i) => sum + tokens[i]!.x[d]! * tokens[i]!.size, 0) / size),
    };
  };
  const kept = tokens.map((_, i) => i).filter((i) => i % 2 === 0 && !joined.some(({ even }) => even === i));
  return [...kept.map((i) => tokens[i]!), ...odds.map((odd) => mean(groupOf(odd)))];
}

const stated = () =>
  parseGitConfig({
    ...{ model_type: 'git', vocab_size: 30, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2 },
    ...{
      intermediate_size: 16,
      bos_token_id: 1,
      eos_token_id: 2,
      max_position_embeddings: 16,
      num_image_with_embedding: 2,
    },
    vision_config: {
      ...{ hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 32 },
      ...{ image_size: 32, patch_size: 8 },
    },
  });

const gitOf = (tokenMerging?: number): Git => ({
  config: withTokenMerging(stated(), tokenMerging),
  params: randomParams(gitSpec(stated()), 3),
});

describe('token merging', () => {
  for (const backend of BACKENDS) {
    describe(`on ${backend}`, () => {
      before(() => useBackend(backend));

      it('joins the pairs that a naive search joins', () =>
        fc.assert(
          fc.asyncProperty(
            fc.record({
              ...{ batch: fc.integer({ min: 1, max: 3 }), tokens: fc.integer({ min: 1, max: 21 }) },
              ...{ r: fc.nat(12), sized: fc.boolean(), seed: fc.nat(1000) },
            }),
            ({ batch, tokens, r, sized, seed }) =>
              expectTensors(0, async () => {
                const x = tf.randomUniform([batch, tokens, 5], -1, 1, 'float32', seed + 1) as tf.Tensor3D;
                const keys = tf.randomUniform([batch, tokens, 4], -1, 1, 'float32', seed + 2) as tf.Tensor3D;
                const sizes = sized
                  ? tf.tensor2d(
                      Array.from({ length: batch * tokens }, (_, i) => 1 + ((i * 7 + seed) % 4)),
                      [batch, tokens],
                    )
                  : undefined;
                const made = mergeTokens({ x, sizes }, keys, r);
                const [xs, ks, ss] = [await x.array(), await keys.array(), await sizes?.array()];
                for (let b = 0; b < batch; b++) {
                  const before = xs[b]!.map((row, i): Token => ({ x: row, size: ss?.[b]?.[i] ?? 1 }));
                  const expected = naiveMerge(before, ks[b]!, r);
                  const got = (await made.x.array())[b]!;
                  assert.equal(got.length, expected.length);
                  expectClose(
                    got.flat(),
                    expected.flatMap((token) => token.x),
                    1e-5,
                  );
                  const gotSizes = (await made.sizes?.array())?.[b] ?? got.map(() => 1);
                  assert.deepEqual(
                    gotSizes,
                    expected.map(({ size }) => size),
                  );
                }
                tf.dispose([x, keys, ...(sizes ? [sizes] : []), made.x, ...(made.sizes ? [made.sizes] : [])]);
              }),
          ),
          { numRuns: 25 },
        ));

      it('a token that stands for several weighs in attention as they would', () =>
        expectTensors(0, async () => {
          const sizes = [1, 3, 1, 2];
          const random = (seed: number, tokens: number) =>
            tf.randomUniform([1, 2, tokens, 4], -1, 1, 'float32', seed) as tf.Tensor4D;
          const [q, key, value] = [random(1, 4), random(2, 4), random(3, 4)];
          const places = tf.tensor1d(
            sizes.flatMap((size, i) => new Array<number>(size).fill(i)),
            'int32',
          );
          const [manyKeys, manyValues] = [tf.gather(key, places, 2), tf.gather(value, places, 2)];
          const merged = tidyTree(() => attend(q, { text: { key, value }, textMask: sizeMask(tf.tensor2d([sizes])) }));
          const apart = attend(q, { image: { key: manyKeys, value: manyValues } });
          expectClose(await merged.data(), await apart.data(), 1e-6);
          tf.dispose([q, key, value, places, manyKeys, manyValues, merged, apart]);
        }));

      it('leaves r tokens fewer a layer, and nothing of it when it is off', () =>
        expectTensors(0, async () => {
          const pixels = tf.randomUniform([2, 32, 32, 3], -1, 1, 'float32', 5) as tf.Tensor4D;
          const [plain, off, git] = [gitOf(), gitOf(0), gitOf(2)];
          assert.equal(off.config.vision.tokenMerging, undefined);
          const { trace, tensors } = collectTrace();
          const [a, b, c] = [
            imageFeatures(plain, pixels),
            imageFeatures(off, pixels),
            imageFeatures(git, pixels, trace),
          ];
          assert.deepEqual(
            [a.shape, c.shape],
            [
              [2, 17, 16],
              [2, 11, 16],
            ],
          );
          assert.deepEqual(await b.data(), await a.data());
          const counts = [0, 1, 2].map((layer) => tensors.get(`vision.layer.${layer}`)!.shape[1]);
          assert.deepEqual(counts, [15, 13, 11]);
          // An image's tokens do not depend on its company.
          const second = tf.slice(pixels, [1, 0, 0, 0], [1, 32, 32, 3]) as tf.Tensor4D;
          const alone = imageFeatures(git, second);
          expectClose(await alone.data(), (await c.data()).slice(11 * 16), 1e-5);
          const video = tf.reshape(pixels, [1, 2, 32, 32, 3]) as tf.Tensor5D;
          const frames = videoFeatures(git, video);
          assert.deepEqual(frames.shape, [1, 22, 16]);
          tf.dispose([pixels, a, b, c, second, alone, video, frames, ...tensors.values()]);
          for (const each of [plain, off, git]) disposeGit(each);
        }));
    });
  }

  it('takes whole numbers up to half of the tokens', () => {
    const config = stated();
    assert.equal(withTokenMerging(config, 8).vision.tokenMerging, 8);
    for (const odd of [9, -1, 1.5, '2', Number.NaN]) {
      assert.throws(() => withTokenMerging(config, odd), /tokenMerging: out-of-range: .*from 0 to 8/);
    }
  });
});
