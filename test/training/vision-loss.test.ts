import assert from 'node:assert/strict';
import {
  add,
  dispose,
  memory,
  mul,
  randomNormal,
  type Scalar,
  sum,
  type Tensor3D,
  type Tensor4D,
  tensor,
  tidy,
} from '@tensorflow/tfjs-core';
import { disposeGit, type Git, namedParameters, withParameters } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { accumulateGradients, type TrainingBatch, type VisionLoss } from '../../src/training/backward.js';
import { startGradients } from '../../src/training/gradients.js';
import { initialWeights, startOptimization } from '../../src/training/index.js';
import { useBackend } from '../support/backends.js';

const sizes = { hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 16 };
const config = parseGitConfig({
  ...{ model_type: 'git', vocab_size: 12, ...sizes, max_position_embeddings: 8, bos_token_id: 2, eos_token_id: 3 },
  vision_config: { ...sizes, image_size: 4, patch_size: 2 },
});
const VISION = 'git.image_encoder.vision_model';

describe('a further loss on the vision tower', () => {
  for (const recompute of [false, true]) {
    it(`adds its slopes to the layers below and leaves those above alone, recompute ${recompute}`, async () => {
      await useBackend('cpu');
      const git = await initialWeights(config, { scheme: 'fan-in', seed: 1 });
      const pixels = randomNormal([2, 4, 4, 3], 0, 1, 'float32', 5) as Tensor4D;
      const weights = randomNormal([2, 5, 8], 0, 1, 'float32', 6) as Tensor3D;
      const batch = {
        pixels,
        ids: [
          [2, 7],
          [2, 8],
        ],
        labels: [
          [-100, 7],
          [-100, 8],
        ],
      };
      const before = memory().numTensors;

      /** Gradients, and the further loss: Σ weights · output of the first layer. */
      async function pass(model: Git, visionLoss?: VisionLoss) {
        const gradients = startGradients(namedParameters(model).keys());
        await accumulateGradients(model, batch, gradients, { smoothing: 0, total: 2, recompute, visionLoss });
        const values = new Map<string, Float32Array>();
        for (const [name, gradient] of gradients.byName) values.set(name, (await gradient.data()) as Float32Array);
        gradients.dispose();
        return values;
      }
      const lossOf = async (model: Git): Promise<number> => {
        let value: Scalar | undefined;
        await pass(model, (outputs) => {
          assert.equal(outputs.length, 2);
          value = tidy(() => sum(mul(outputs[0]!, weights)));
          return new Map();
        });
        const [number] = await value!.data();
        value!.dispose();
        return number!;
      };

      const without = await pass(git);
      const given = await pass(git, () => new Map([[0, weights.clone()]]));
      for (const [name, expected] of without) {
        const got = given.get(name)!;
        const isBelow = name.startsWith(VISION) && !/layers\.1|post_layernorm/.test(name);
        if (!isBelow) {
          assert.deepEqual(got, expected, name);
          continue;
        }
        // Along the gradient itself the loss changes by the gradient's squared length.
        const added = got.map((value, i) => value - expected[i]!);
        const length = added.reduce((total, value) => total + value * value, 0);
        if (name.endsWith('k_proj.bias')) continue; // adds the same to all scores of a query: no slope
        assert.ok(length > 1e-6, name);
        const step = 1e-2 / Math.sqrt(length);
        const moved = async (by: number): Promise<number> => {
          const parameter = namedParameters(git).get(name)!;
          const values = (await parameter.data()).map((value, i) => value + by * added[i]!) as Float32Array;
          const other = tensor(values, parameter.shape);
          const found = await lossOf(withParameters(git, new Map([...namedParameters(git), [name, other]])));
          other.dispose();
          return found;
        };
        const slope = ((await moved(step)) - (await moved(-step))) / (2 * step);
        assert.ok(Math.abs(slope - length) < 0.01 * length, `${name}: ${slope}, not ${length}`);
      }
      assert.equal(memory().numTensors, before);
      pixels.dispose();
      weights.dispose();
      disposeGit(git);
    });
  }

  it('learns alone where a batch has no texts', async () => {
    await useBackend('cpu');
    const git = await initialWeights(config, { scheme: 'fan-in', seed: 1 });
    const pixels = randomNormal([2, 4, 4, 3], 0, 1, 'float32', 5) as Tensor4D;
    const weights = randomNormal([2, 5, 8], 0, 1, 'float32', 6) as Tensor3D;
    const [silent, speaking] = [
      { pixels, ids: [], labels: [] },
      { pixels, ids: [[2], [2]], labels: [[-100], [-100]] }, // nothing of which is learned
    ];
    const before = memory().numTensors;
    const [alone, beside] = await Promise.all(
      [silent, speaking].map(async (batch) => {
        const gradients = startGradients(namedParameters(git).keys());
        const visionLoss = () => new Map([[0, weights.clone()]]);
        await accumulateGradients(git, batch, gradients, { smoothing: 0, total: 1, recompute: false, visionLoss });
        const values = new Map<string, Float32Array>();
        for (const [name, gradient] of gradients.byName) values.set(name, (await gradient.data()) as Float32Array);
        gradients.dispose();
        return values;
      }),
    );
    assert.equal(memory().numTensors, before);
    for (const [name, expected] of beside!) {
      if (expected.every((value) => value === 0)) assert.ok(!alone!.has(name), name);
      else assert.deepEqual(alone!.get(name), expected, name);
    }
    assert.ok(alone!.size > 10);
    const optimization = startOptimization(git, {
      ...{ steps: 2, schedule: 'constant', warmupSteps: 0, learningRate: 1e-3, visionLearningRate: 1e-3 },
      ...{ weightDecay: 0, labelSmoothing: 0, betas: [0.9, 0.999], epsilon: 1e-8, recompute: false, freeze: [] },
    });
    const report = await optimization.step([silent], { visionLoss: () => new Map([[0, weights.clone()]]) });
    assert.deepEqual([report.tokens, report.loss], [0, 0]);
    assert.ok(report.gradNorm > 0);
    await assert.rejects(optimization.step([silent]), /nothing-to-learn/);
    optimization.dispose();
    pixels.dispose();
    weights.dispose();
    disposeGit(git);
  });
});

describe('patches that are left out', () => {
  const texts = {
    ids: [
      [2, 7],
      [2, 8],
    ],
    labels: [
      [-100, 7],
      [-100, 8],
    ],
  };
  async function lossAndGradients(git: Git, batch: TrainingBatch) {
    const gradients = startGradients(namedParameters(git).keys());
    const loss = await accumulateGradients(git, batch, gradients, { smoothing: 0, total: 2, recompute: false });
    const values = new Map<string, Float32Array>();
    for (const [name, gradient] of gradients.byName) values.set(name, (await gradient.data()) as Float32Array);
    gradients.dispose();
    return { loss, values };
  }

  for (const backend of ['cpu', 'simd'] as const) {
    it(`on ${backend}, all of them in any order are what the tower computes without a choice`, async () => {
      await useBackend(backend);
      const git = await initialWeights(config, { scheme: 'fan-in', seed: 1 });
      const pixels = randomNormal([2, 4, 4, 3], 0, 1, 'float32', 5) as Tensor4D;
      const before = memory().numTensors;
      const all = await lossAndGradients(git, { pixels, ...texts });
      const patches = [
        [3, 0, 2, 1],
        [0, 1, 2, 3],
      ];
      const chosen = await lossAndGradients(git, { pixels, patches, ...texts });
      assert.equal(memory().numTensors, before);
      assert.ok(Math.abs(all.loss - chosen.loss) < 1e-6);
      for (const [name, expected] of all.values) {
        const got = chosen.values.get(name)!;
        const most = expected.reduce((top, value, i) => Math.max(top, Math.abs(value - got[i]!)), 0);
        assert.ok(most < 1e-5, `${name}: ${most}`);
      }
      pixels.dispose();
      disposeGit(git);
    });
  }

  it('change nothing, and get no slope; the others get theirs', async () => {
    await useBackend('cpu');
    const git = await initialWeights(config, { scheme: 'fan-in', seed: 1 });
    const pixels = randomNormal([2, 4, 4, 3], 0, 1, 'float32', 5) as Tensor4D;
    const patches = [
      [1, 2],
      [2, 1],
    ];
    const { loss, values } = await lossAndGradients(git, { pixels, patches, ...texts });
    const other = tidy(() => {
      const corner = tensor([1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1], [1, 4, 4, 1]); // of patches 0 and 3
      return add(pixels, corner) as Tensor4D;
    });
    assert.equal((await lossAndGradients(git, { pixels: other, patches, ...texts })).loss, loss);
    assert.notEqual((await lossAndGradients(git, { pixels: other, ...texts })).loss, loss);
    const positions = values.get(`${VISION}.embeddings.position_embedding.weight`)!; // [1 + 4, 8]
    const isZero = [0, 1, 2, 3, 4].map((row) => positions.slice(8 * row, 8 * row + 8).every((value) => value === 0));
    assert.deepEqual(isZero, [false, true, false, false, true]);
    for (const name of ['class_embedding', 'position_embedding.weight', 'patch_embedding.weight']) {
      const full = `${VISION}.embeddings.${name}`;
      const slopes = values.get(full)!;
      const length = slopes.reduce((total, value) => total + value * value, 0);
      const parameter = namedParameters(git).get(full)!;
      const numbers = await parameter.data();
      const moved = async (by: number): Promise<number> => {
        const changed = tensor(numbers.map((value, i) => value + by * slopes[i]!) as Float32Array, parameter.shape);
        const model = withParameters(git, new Map([...namedParameters(git), [full, changed]]));
        const found = await lossAndGradients(model, { pixels, patches, ...texts });
        changed.dispose();
        return found.loss;
      };
      const step = 1e-2 / Math.sqrt(length);
      const slope = ((await moved(step)) - (await moved(-step))) / (2 * step);
      assert.ok(Math.abs(slope - length) < 0.01 * length, `${name}: ${slope}, not ${length}`);
    }
    dispose([pixels, other]);
    disposeGit(git);
  });
});
