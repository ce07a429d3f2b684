import assert from 'node:assert/strict';
import type { Tensor3D } from '@tensorflow/tfjs-core';
import { profile, randomUniform } from '@tensorflow/tfjs-core';
import { randomParams } from '../../src/checkpoint/generated-weights.js';
import { collectTrace, type Trace } from '../../src/layers/tidy.js';
import { disposeCache, disposeGit, gitSpec, type ImageCache, prefillImage } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { startSession } from '../../src/model/git-session.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectClose, expectTensors } from '../support/close.js';

const D = 16;
const TOKENS = 9;

const gitOf = (layers: number) => {
  const config = parseGitConfig({
    model_type: 'git',
    ...{ vocab_size: 30, hidden_size: D, num_hidden_layers: layers, num_attention_heads: 2, intermediate_size: 4 * D },
    ...{ bos_token_id: 1, eos_token_id: 2, max_position_embeddings: 16 },
    vision_config: {
      hidden_size: D,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: D,
      image_size: 32,
    },
  });
  return { config, params: randomParams(gitSpec(config), 3) };
};

/** The prefill's cache, and its products with weights in units of [TOKENS, D] times [D, D]. */
async function prefill(git: ReturnType<typeof gitOf>, features: Tensor3D, trace?: Trace) {
  let cache: ImageCache = [];
  const { kernels } = await profile(() => {
    cache = prefillImage(git, features, trace);
    return [];
  });
  const products = kernels
    .filter(({ name }) => name === 'GitLinear' || name === '_FusedMatMul')
    .reduce((sum, { inputShapes: [, weight] }) => sum + weight!.reduce((a, b) => a * b, 1) / D ** 2, 0);
  return { cache, products };
}

const valuesOf = async (cache: ImageCache) => {
  const values: Float32Array[] = [];
  for (const { key, value } of cache)
    values.push((await key.data()) as Float32Array, (await value.data()) as Float32Array);
  return values;
};

for (const backend of BACKENDS) {
  describe(`the prefill of an image on ${backend}`, () => {
    before(() => useBackend(backend));

    for (const layers of [1, 3]) {
      it(`${layers} layers: ends at the last keys and values, with the same bits as the whole pass that a trace gets`, () =>
        expectTensors(0, async () => {
          const git = gitOf(layers);
          const features = randomUniform([1, TOKENS, D], -1, 1, 'float32', 7) as Tensor3D;
          const { trace, tensors } = collectTrace();
          const [short, whole] = [await prefill(git, features), await prefill(git, features, trace)];
          console.log(`    ${layers} layers: ${short.products} products of [D, D], with a trace ${whole.products}`);
          assert.equal(whole.products, 1 + 12 * layers, 'the projection, then 12 a layer');
          assert.equal(short.products, 1 + 12 * (layers - 1) + 2, 'of the last layer its keys and values');
          assert.ok(tensors.has(`image.decoder.layer.${layers - 1}`));
          assert.equal(short.cache.length, layers);
          assert.deepEqual(await valuesOf(short.cache), await valuesOf(whole.cache));
          disposeCache(short.cache);
          disposeCache(whole.cache);
          for (const x of [features, ...tensors.values()]) x.dispose();
          disposeGit(git);
        }));
    }

    it('a prompt’s last layer runs for the last token of each row alone, with what the whole pass gives', () =>
      expectTensors(0, async () => {
        const [git, prompt] = [gitOf(3), [[1, 5, 9, 7, 4], [1, 6], [8]]];
        const features = randomUniform([3, TOKENS, D], -1, 1, 'float32', 7) as Tensor3D;
        const image = prefillImage(git, features);
        const { trace, tensors } = collectTrace();
        const logitsOf = async (listener?: Trace) => {
          const session = startSession(git, image, listener);
          let rows = 0;
          const logits: Float32Array[] = [];
          const { kernels } = await profile(async () => {
            logits.push(...(await session.step(prompt)));
            return [];
          });
          for (const { name, inputShapes } of kernels) {
            if (name === 'GitLinear' || name === '_FusedMatMul')
              rows += inputShapes[0]!.slice(0, -1).reduce((a, b) => a * b, 1);
          }
          session.dispose();
          return { logits, rows };
        };
        const [short, whole] = [await logitsOf(), await logitsOf(trace)];
        const padded = 3 * 5;
        assert.equal(
          whole.rows,
          3 * 6 * padded + 3,
          'six products a layer, and the vocabulary for a token of each row',
        );
        assert.equal(short.rows, (2 * 6 + 2) * padded + 4 * 3 + 3, 'of the last layer its keys and values');
        for (const [r, row] of short.logits.entries()) {
          if (backend === 'simd') assert.deepEqual(row, whole.logits[r]);
          else expectClose(row, whole.logits[r]!, 1e-5);
        }
        disposeCache(image);
        for (const x of [features, ...tensors.values()]) x.dispose();
        disposeGit(git);
      }));
  });
}
