import assert from 'node:assert/strict';
import '@tensorflow/tfjs-backend-webgpu';
import type { Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { getKernelsForBackend, profile, randomUniform } from '@tensorflow/tfjs-core';
import { randomParams } from '../../src/checkpoint/generated-weights.js';
import { disposeCache, disposeGit, encodeImage, gitSpec } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { startSession } from '../../src/model/git-session.js';
import { useBackend } from '../support/backends.js';
import { FIXTURES, readJson } from '../support/fixtures.js';

const TINY = {
  model_type: 'git',
  ...{ vocab_size: 30, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16 },
  ...{ bos_token_id: 1, eos_token_id: 2, max_position_embeddings: 16, num_image_with_embedding: 2 },
  vision_config: {
    hidden_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 16,
    image_size: 8,
    patch_size: 4,
  },
};

/** Kernels of a forward that takes every path: interpolated positions, video, beams, ragged prompts, one-token steps. */
async function usedKernels(): Promise<readonly string[]> {
  const config = parseGitConfig(TINY);
  const git = { config, params: randomParams(gitSpec(config), 3) };
  const found = await profile(async () => {
    const wide = randomUniform([2, 8, 12, 3], -1, 1) as Tensor4D;
    const image = encodeImage(git, wide);
    const session = startSession(git, image);
    await session.step([[1], [1, 5, 6]]);
    session.reorder([0, 0, 1, 1]);
    await session.step([[3], [4], [3], [4]]);
    session.reorder([2, 0, 1]);
    await session.step([[3], [4], [5]]);
    session.dispose();
    const frames = randomUniform([1, 2, 8, 8, 3], -1, 1) as Tensor5D;
    const video = encodeImage(git, frames);
    frames.dispose();
    disposeCache(video);
    disposeCache(image);
    wide.dispose();
    return [];
  });
  disposeGit(git);
  return found.kernelNames;
}

describe('the kernels that a backend must have', () => {
  const published = readJson<Record<'node' | 'webgl', string[]>>(`${FIXTURES}registered-kernels.json`);
  for (const backend of ['cpu', 'wasm']) {
    it(`a forward on ${backend} uses only kernels that cpu, wasm, webgl, webgpu and tfjs-node all register`, async () => {
      await useBackend(backend);
      const used = (await usedKernels()).filter((name) => !name.endsWith('__op')); // an op with a gradient of its own, not a kernel;
      assert.ok(used.includes('_FusedMatMul') && used.includes('GatherV2'), used.join());
      const required: Record<string, readonly string[]> = {
        ...Object.fromEntries(
          ['cpu', 'wasm', 'webgpu'].map((name) => [name, getKernelsForBackend(name).map((k) => k.kernelName)]),
        ),
        ...{ webgl: published.webgl, node: published.node },
      };
      for (const [name, kernels] of Object.entries(required)) {
        assert.ok(kernels.length > 100, `${name} has ${kernels.length} kernels`);
        assert.deepEqual(
          used.filter((kernel) => !kernels.includes(kernel)),
          [],
          `missing on ${name}`,
        );
      }
    });
  }
});
