import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import type { WeightFormat } from 'tfjs-backend-simd';
import { encodeImage, loadGit, startSession } from '../../src/index.js';
import { disposeCache, disposeGit } from '../../src/model/git.js';
import { fromDirectory, loadImage2Text } from '../../src/node.js';
import { readTensors } from '../../src/parity/cases.js';
import { largestError } from '../support/close.js';
import { DEMO, REFERENCE, ROOT, readJson } from '../support/fixtures.js';
import { useVariant, VARIANTS } from './support.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'int8', 'int8-fast'];

/**
 * Largest error of a logit of tiny-a against float64, as a part of the largest logit. Weights have 24, 8, 11 and some 7 digits; a
 * logit sums dozens of rounded products through six layers, so that a few times one rounding is left.
 */
const LOGIT_TOLERANCE: Readonly<Record<WeightFormat, number>> = {
  f32: 2e-6,
  bf16: 2e-2,
  f16: 2e-3,
  int8: 3e-2,
  'int8-fast': 6e-2,
};

/** At least so many of the demo's captions are those of the reference, word for word. */
const SAME_CAPTIONS: Readonly<Record<WeightFormat, number>> = { f32: 12, bf16: 12, f16: 12, int8: 12, 'int8-fast': 12 };

/** And where the words are the same, their log-probabilities are as close as this: the captions have sure words and close calls. */
const LOG_PROB_TOLERANCE: Readonly<Record<WeightFormat, number>> = {
  f32: 1e-4,
  bf16: 0.05,
  f16: 5e-3,
  int8: 0.05,
  'int8-fast': 0.2,
};

interface Expected {
  readonly images: readonly { file: string; greedy: { text: string; token_logprobs: number[] } }[];
}

describe('simd: weights kept in other formats', () => {
  before(() => useVariant('simd'));

  for (const format of FORMATS) {
    for (const { name } of VARIANTS) {
      it(`${format} on ${name}: the logits of tiny-a, token by token`, async () => {
        await useVariant(name);
        const folder = `${REFERENCE}tiny-a/`;
        const given = await readTensors(folder, 'forward_b1.safetensors');
        const [ids, logits] = [given.get('input_ids')!, given.get('logits.f64')!];
        const [, rows, vocabulary] = logits.shape as [number, number, number];
        const before = tf.memory().numTensors;
        const git = await loadGit(await fromDirectory(folder), { weights: format });
        const { values, shape } = given.get('pixel_values')!;
        const pixels = tf.tidy(() =>
          tf.transpose(tf.tensor4d(Float32Array.from(values), shape as [number, number, number, number]), [0, 2, 3, 1]),
        ) as tf.Tensor4D;
        const image = encodeImage(git, pixels);
        const session = startSession(git, image);
        const got: number[] = [];
        for (const id of Array.from(ids.values)) got.push(...(await session.step([[id]]))[0]!);
        session.dispose();
        disposeCache(image);
        disposeGit(git);
        pixels.dispose();
        assert.equal(tf.memory().numTensors, before);
        const expected = Array.from(logits.values).slice((rows - ids.values.length) * vocabulary);
        assert.equal(got.length, expected.length);
        const error = largestError(got, expected).error / expected.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
        console.log(`    ${format} on ${name}: largest error of a logit ${error.toExponential(1)} of the largest`);
        assert.ok(error <= LOGIT_TOLERANCE[format], `${error}`);
      });
    }

    it(`${format}: the captions of the demo`, async () => {
      await useVariant('simd');
      const { images } = readJson<Expected>(`${DEMO}expected.json`);
      const model = await loadImage2Text(DEMO, { weights: format });
      let [same, worst] = [0, 0];
      for (const { file, greedy } of images) {
        const said = await model.caption(`${ROOT}${file}`, { strategy: 'greedy', maxLength: 20 });
        if (said.text !== greedy.text) continue;
        same++;
        const logProbs = said.tokens.map(({ logProb }) => logProb);
        worst = Math.max(worst, largestError(logProbs, greedy.token_logprobs).error);
      }
      model.dispose();
      const share = `${same} of ${images.length} captions as the reference's`;
      console.log(`    ${format}: ${share}, their log-probabilities within ${worst.toExponential(1)}`);
      assert.equal(images.length, 12);
      assert.ok(same >= SAME_CAPTIONS[format], share);
      assert.ok(worst <= LOG_PROB_TOLERANCE[format], `${worst}`);
    });
  }
});
