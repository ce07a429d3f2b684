import assert from 'node:assert/strict';
import {
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
import { accumulateGradients, type VisionLoss } from '../../src/training/backward.js';
import { startGradients } from '../../src/training/gradients.js';
import { initialWeights } from '../../src/training/index.js';
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
});
