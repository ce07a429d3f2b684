import assert from 'node:assert/strict';
import type { Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { memory, tensor, tidy, transpose } from '@tensorflow/tfjs-core';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { generate } from '../../src/generation/generate.js';
import { disposeCache, disposeGit, encodeImage, type Git, type ImageCache } from '../../src/model/git.js';
import { startSession } from '../../src/model/git-session.js';
import { loadGit } from '../../src/model/load-git.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { REFERENCE, readBin } from '../support/fixtures.js';
import { peekSafetensors } from '../support/peek-safetensors.js';
import {
  checkHuggingFace,
  checkOriginal,
  huggingFaceCases,
  MODELS,
  originalCases,
  vocabularyOf,
} from './golden-cases.js';

async function load(model: string): Promise<Git> {
  const open = async (name: string) =>
    ['config.json', 'model.safetensors'].includes(name)
      ? fromBytes(readBin(`${REFERENCE}${model}/${name}`))
      : undefined;
  return loadGit({ label: model, open });
}

/** The images of these rows, in the cache. */
function encode(git: Git, model: string, images: readonly number[]): ImageCache {
  const { shape, values } = peekSafetensors(`${REFERENCE}${model}/generation.safetensors`).get('pixel_values')!;
  const size = values.length / shape[0]!;
  const chosen = Float32Array.from(images.flatMap((i) => [...values.subarray(i * size, (i + 1) * size)]));
  const pixels = tidy(() => {
    const channelsFirst = tensor(chosen, [images.length, ...shape.slice(1)]);
    return transpose(channelsFirst, shape.length === 5 ? [0, 1, 3, 4, 2] : [0, 2, 3, 1]) as Tensor4D | Tensor5D;
  });
  const cache = encodeImage(git, pixels);
  pixels.dispose();
  return cache;
}

for (const backend of BACKENDS) {
  for (const model of MODELS) {
    describe(`generation goldens of ${model} on ${backend}`, () => {
      let git: Git;
      before(async () => {
        await useBackend(backend);
        git = await load(model);
      });
      after(() => disposeGit(git));

      // Left-padded prompts are no part of the session contract (a row has its own length); the plain model runs those cases.
      // Every fifth case: test/parity runs all of them.
      const all = [...huggingFaceCases(model).filter((c) => c.attention_mask === undefined), ...originalCases()];
      const cases = all.filter((c) => !('model' in c) || c.model === model).filter((_, i) => i % 5 === 0);

      it('every sequence equal, scores to 1e-4, no tensor left', async () => {
        const errors: number[] = [];
        const images = new Map<string, ImageCache>();
        for (const c of cases) {
          const image = images.get(c.images.join()) ?? encode(git, model, c.images);
          images.set(c.images.join(), image);
          const before = memory().numTensors;
          const open = () => () => startSession(git, image);
          errors.push(await ('kind' in c ? checkOriginal(open, c) : checkHuggingFace(open, model, c)));
          assert.equal(memory().numTensors, before, `${'name' in c ? c.name : c.kind}: tensors left`);
        }
        for (const image of images.values()) disposeCache(image);
        console.log(`      ${errors.length} cases, largest score error ${Math.max(...errors).toExponential(1)}`);
      });

      it('an abort at any step leaves no tensor', async () => {
        const image = encode(git, model, [0, 1]);
        const before = memory().numTensors;
        for (let steps = 0; steps < 6; steps++) {
          const control = new AbortController();
          const open = () => {
            const session = startSession(git, image);
            let done = 0;
            const step: typeof session.step = (ids) => {
              if (done++ === steps) control.abort(new Error('enough'));
              return session.step(ids);
            };
            return { ...session, step, rows: 2, reorder: session.reorder, dispose: session.dispose };
          };
          await assert.rejects(generate(open, vocabularyOf(model), { signal: control.signal }), /enough/);
          assert.equal(memory().numTensors, before, `aborted in step ${steps}`);
        }
        disposeCache(image);
      });
    });
  }
}
