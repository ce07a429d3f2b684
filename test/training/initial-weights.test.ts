import assert from 'node:assert/strict';
import { memory, type Tensor } from '@tensorflow/tfjs-core';
import { ConfigError } from '../../src/errors.js';
import { loadImage2Text } from '../../src/image2text/load.js';
import { disposeGit, type Git, namedParameters } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { fromDirectory } from '../../src/platform/node-files.js';
import { type InitialWeightsOptions, initialWeights, withInitialWeights } from '../../src/training/index.js';
import { useBackend } from '../support/backends.js';
import { DEMO } from '../support/fixtures.js';
import { numbersOf } from './support.js';

const config = parseGitConfig({
  ...{ model_type: 'git', vocab_size: 300, hidden_size: 96, num_hidden_layers: 2, num_attention_heads: 4 },
  ...{ intermediate_size: 384, max_position_embeddings: 32, num_image_with_embedding: 2, pad_token_id: 5 },
  vision_config: {
    ...{ hidden_size: 64, intermediate_size: 256, num_hidden_layers: 2, num_attention_heads: 4 },
    ...{ image_size: 32, patch_size: 8 },
  },
});

describe('initial weights', () => {
  before(() => useBackend('cpu'));

  /** Mean and deviation of all numbers. */
  async function momentsOf(tensor: Tensor): Promise<readonly [mean: number, deviation: number, count: number]> {
    const values = [...((await tensor.data()) as Float32Array)];
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
    return [mean, Math.sqrt(variance), values.length];
  }

  async function withWeights(options: InitialWeightsOptions, body: (git: Git) => Promise<void>): Promise<void> {
    const before = memory().numTensors;
    const git = await initialWeights(config, options);
    try {
      await body(git);
    } finally {
      disposeGit(git);
    }
    assert.equal(memory().numTensors, before);
  }

  /** What each parameter's deviation is to be, by scheme; undefined: a constant. */
  const expected = (name: string, tensor: Tensor, scheme: string): number | undefined => {
    if (/\.bias$|img_temperal/.test(name)) return undefined;
    if (tensor.rank === 1 && !name.endsWith('class_embedding')) return undefined;
    if (scheme === 'huggingface') return 0.02;
    if (/word_embeddings|position_embedding|class_embedding/.test(name)) return 1;
    return 1 / Math.sqrt(tensor.size / tensor.shape.at(-1)!); // as loaded, [in, out] or [height, width, 3, out]
  };

  for (const scheme of ['huggingface', 'fan-in'] as const) {
    it(`${scheme}: means, deviations and constants of every parameter`, async () => {
      await withWeights({ scheme, seed: 3 }, async (git) => {
        let random = 0;
        for (const [name, tensor] of namedParameters(git)) {
          if (scheme === 'fan-in' && name.endsWith('vision_model.embeddings.position_embedding.weight')) continue; // below
          const [mean, deviation, count] = await momentsOf(tensor);
          const wanted = expected(name, tensor, scheme);
          if (wanted === undefined) {
            const isNorm = /norm|LayerNorm|layrnorm|visual_projection\.1/.test(name) && name.endsWith('.weight');
            assert.deepEqual([mean, deviation], [isNorm ? 1 : 0, 0], name);
            continue;
          }
          random++;
          const padding = name === 'git.embeddings.word_embeddings.weight' ? 1 - 1 / config.vocabSize : 1;
          // Five standard errors of a mean and of a deviation of `count` normal numbers.
          assert.ok(Math.abs(mean) < (5 * wanted) / Math.sqrt(count), `${name}: mean ${mean}`);
          const error = Math.abs(deviation - wanted * Math.sqrt(padding));
          assert.ok(error < (5 * wanted) / Math.sqrt(2 * count), `${name}: deviation ${deviation}, not ${wanted}`);
        }
        // Six matrices in each of four layers; projection, output, patches; class, two position and word embeddings.
        assert.equal(random, 6 * 4 + 3 + (scheme === 'fan-in' ? 3 : 4));
      });
    });
  }

  it('fan-in: how alike the positions of two patches are depends on where one is from the other, and on nothing else', async () => {
    await withWeights({ scheme: 'fan-in' }, async (git) => {
      const { weight } = git.params.git.image_encoder.vision_model.embeddings.position_embedding;
      const [values, width, grid] = [(await weight.data()) as Float32Array, weight.shape[1]!, config.vision.grid];
      const row = (y: number, x: number) => values.slice((1 + y * grid + x) * width, (2 + y * grid + x) * width);
      const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
      const seen = new Map<string, number>();
      for (let y = 0; y < grid; y++)
        for (let x = 0; x < grid; x++)
          for (let v = 0; v < grid; v++)
            for (let u = 0; u < grid; u++) {
              const [offset, found] = [`${v - y},${u - x}`, product(row(y, x), row(v, u))];
              const before = seen.get(offset) ?? found;
              seen.set(offset, before);
              assert.ok(Math.abs(found - before) < 1e-4, `${offset}: ${found}, not ${before}`);
            }
      assert.ok(Math.abs(seen.get('0,0')! - width) < 1e-4); // a deviation of 1
      for (const [offset, found] of seen) assert.ok(offset === '0,0' || found < 0.9 * width, `${offset}: ${found}`);
    });
  });

  it('the padding word is 0, and only that', async () => {
    await withWeights({ scheme: 'fan-in' }, async (git) => {
      const values = (await git.params.git.embeddings.word_embeddings.weight.data()) as Float32Array;
      const zeroRows = Array.from({ length: config.vocabSize }, (_, row) => row).filter((row) =>
        values.subarray(row * 96, (row + 1) * 96).every((v) => v === 0),
      );
      assert.deepEqual(zeroRows, [config.padTokenId]);
    });
  });

  it('the same seed gives the same bits, another seed other ones', async () => {
    const read = async (seed: number) => {
      const git = await initialWeights(config, { seed });
      const numbers = await numbersOf(namedParameters(git));
      disposeGit(git);
      return numbers;
    };
    const [first, again, other] = [await read(1), await read(1), await read(2)];
    assert.deepEqual(first, again);
    const name = 'git.encoder.layer.0.attention.self.query.weight';
    assert.notDeepEqual(first.get(name), other.get(name));
    const neighbor = 'git.encoder.layer.0.attention.self.key.weight';
    assert.notDeepEqual(first.get(name), first.get(neighbor));
  });

  it('a folder without weights loads as a model of the same numbers', async () => {
    const before = memory().numTensors;
    const files = await fromDirectory(DEMO);
    const model = await loadImage2Text(await withInitialWeights(files, { scheme: 'fan-in', seed: 4 }));
    const git = await initialWeights(model.config, { scheme: 'fan-in', seed: 4 });
    assert.deepEqual(await numbersOf(namedParameters(model.git)), await numbersOf(namedParameters(git)));
    disposeGit(git);
    model.dispose();
    assert.equal(memory().numTensors, before);
  });

  it('an unknown scheme and a folder without config.json are refused', async () => {
    await assert.rejects(initialWeights(config, { scheme: 'xavier' as never }), { code: 'unknown-scheme' });
    const empty = { label: 'empty', open: async () => undefined };
    await assert.rejects(withInitialWeights(empty), (error) => error instanceof ConfigError);
  });
});
