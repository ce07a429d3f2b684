import assert from 'node:assert/strict';
import { memory, type Tensor4D, tensor, tidy, transpose } from '@tensorflow/tfjs-core';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { readValues } from '../../src/checkpoint/stored-tensor.js';
import { disposeCache, disposeGit, encodeImage, type Git } from '../../src/model/git.js';
import { startSession } from '../../src/model/git-session.js';
import { loadGitParams, openGit } from '../../src/model/load-git.js';
import { convertCheckpoint } from '../../src/tools/index.js';
import { useBackend } from '../support/backends.js';
import { FIXTURES, readBin, readJson } from '../support/fixtures.js';
import { withFolder } from '../support/folder.js';
import { folder } from './support.js';

const REAL = `${FIXTURES}real/`;
const TOLERANCE = 1e-4;

/** Checkpoints of kinds that people met; `expected.safetensors` was computed by transformers in float64. */
describe('real checkpoints', () => {
  const { checkpoints } = readJson<{ checkpoints: { folder: string; kind: string }[] }>(
    `${REAL}checkpoints/manifest.json`,
  );
  const expected = async (name: string) => {
    const { tensors } = await readSafetensors(
      fromBytes(readBin(`${REAL}checkpoints/expected.safetensors`)),
      'expected',
    );
    return { shape: tensors.get(name)!.shape, values: (await readValues(tensors.get(name)!)) as Float64Array };
  };

  /** Largest distance of the last logits [T, V] from the truth. */
  async function distance(git: Git, truth: string): Promise<number> {
    const { values: pixels, shape } = await expected('pixel_values');
    const ids = [...((await expected('input_ids')).values as unknown as Int32Array)];
    const logits = await expected(truth);
    const vocabulary = logits.shape.at(-1)!;
    const image = tidy(
      () => transpose(tensor(Float32Array.from(pixels), shape as Tensor4D['shape']), [0, 2, 3, 1]) as Tensor4D,
    );
    const cache = encodeImage(git, image);
    const session = startSession(git, cache);
    try {
      let worst = 0;
      for (const [n, id] of ids.entries()) {
        const got = (await session.step([[id]]))[0]!;
        const row = logits.shape[1]! - ids.length + n;
        assert.equal(got.length, vocabulary);
        for (let i = 0; i < got.length; i++) {
          worst = Math.max(worst, Math.abs(got[i]! - logits.values[row * vocabulary + i]!));
        }
      }
      return worst;
    } finally {
      session.dispose();
      disposeCache(cache);
      image.dispose();
    }
  }

  async function check(path: string, truth: string): Promise<readonly string[]> {
    await useBackend('cpu');
    const before = memory().numTensors;
    const { config, tensors, warnings } = await openGit(folder(path));
    const git = { config, params: await loadGitParams(config, tensors, path) };
    const worst = await distance(git, truth);
    assert.ok(worst <= TOLERANCE, `${path}: ${worst}`);
    disposeGit(git);
    assert.equal(memory().numTensors, before);
    return warnings;
  }

  for (const { folder: name, kind } of checkpoints) {
    const truth = name.endsWith('tied-flag-scaled-head') ? 'logits.scaled_head.f64' : 'logits.f64';
    it(`${name}: ${kind}`, async () => {
      const warnings = await check(REAL + name, truth);
      const pattern = /leftover/.test(name) ? /not used/ : /omits/.test(name) ? /not listed.*they are used/ : /^$/;
      assert.match(warnings.join(), pattern);
    });
  }

  it('a converted checkpoint has the head that was stored, and says that it is not tied', async () => {
    await withFolder(async (temporary) => {
      const path = `${temporary}/out`;
      await convertCheckpoint(folder(`${REAL}checkpoints/tied-flag-scaled-head`), path, { dtype: 'f32' });
      assert.equal(readJson<{ tie_word_embeddings: boolean }>(`${path}/config.json`).tie_word_embeddings, false);
      await check(path, 'logits.scaled_head.f64');
    });
  });

  it('there are as many as there were', () => assert.equal(checkpoints.length, 11));
});
