import assert from 'node:assert/strict';
import { memory } from '@tensorflow/tfjs-core';
import type { Caption, Image2Text } from '../../src/node.js';
import { frames, loadImage2Text } from '../../src/node.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectClose } from '../support/close.js';
import { DEMO, ROOT, readJson } from '../support/fixtures.js';
import { FULL } from '../support/full.js';

interface Said {
  readonly ids: number[];
  readonly text: string;
  readonly score: number;
  readonly token_logprobs: number[];
  readonly max_steps: number;
}
interface Expected {
  readonly images: readonly {
    readonly file: string;
    readonly greedy: Said;
    readonly hf_beam4: Said;
    readonly original_beam: Said;
    readonly answers: readonly { question: string; answer: string; ids: number[]; token_logprobs: number[] }[];
  }[];
  readonly videos: readonly { readonly frames: string; readonly greedy: Said }[];
}

const expected = readJson<Expected>(`${DEMO}expected.json`);
const END = 3;
const ids = ({ tokens }: Caption) => tokens.map(({ id }) => id);
const logProbs = ({ tokens }: Caption) => tokens.map(({ logProb }) => logProb);

/** Both are float32; log-probabilities of well separated words agree to its noise. */
const TOLERANCE = 1e-4;

for (const backend of BACKENDS) {
  describe(`the demo checkpoint on ${backend}: words as expected.json has them, which transformers confirmed`, () => {
    let model: Image2Text;
    let tensors = 0;
    let worst = 0;
    before(async () => {
      await useBackend(backend);
      tensors = memory().numTensors;
      model = await loadImage2Text(DEMO);
    });
    after(() => {
      model.dispose();
      assert.equal(memory().numTensors, tensors, 'tensors leaked');
      console.log(`      largest difference of a log-probability or score on ${backend}: ${worst.toExponential(1)}`);
    });
    const close = (got: ArrayLike<number>, want: ArrayLike<number>, what: string) => {
      worst = Math.max(worst, expectClose(got, want, TOLERANCE, what));
    };

    // Two images on tfjs's backends, all and the videos in `npm run test:full`.
    const few = backend !== 'simd' && !FULL;
    for (const { file, greedy, hf_beam4, original_beam, answers } of expected.images.slice(0, few ? 2 : undefined)) {
      const path = `${ROOT}${file}`;
      it(`${file}: greedy`, async () => {
        const said = await model.caption(path, { strategy: 'greedy', maxLength: 20 });
        assert.equal(said.text, greedy.text);
        assert.deepEqual([2, ...ids(said)], greedy.ids);
        close(logProbs(said), greedy.token_logprobs, 'token log-probabilities');
      });
      it(`${file}: Hugging Face's beam search`, async () => {
        const said = await model.caption(path, { strategy: 'beam', numBeams: 4, maxLength: 20 });
        assert.equal(said.text, hf_beam4.text);
        assert.deepEqual([2, ...ids(said)], hf_beam4.ids);
        close([said.score], [hf_beam4.score], 'score');
      });
      it(`${file}: the original's beam search, the default`, async () => {
        const said = await model.caption(path, { maxLength: original_beam.max_steps });
        assert.equal(said.text, original_beam.text);
        assert.deepEqual(
          ids(said).filter((id) => id !== END),
          original_beam.ids,
        );
        close([said.score], [original_beam.score], 'score');
      });
      it(`${file}: ${answers.length} questions at once`, async () => {
        const said = await model.answer(
          path,
          answers.map(({ question }) => question),
          { strategy: 'greedy', maxLength: 20 },
        );
        assert.equal(said.length, answers.length);
        said.forEach((answer, n) => {
          assert.equal(answer.question, answers[n]!.question);
          assert.equal(answer.text, answers[n]!.answer);
          close(logProbs(answer), answers[n]!.token_logprobs, 'answer log-probabilities');
        });
      });
    }

    for (const video of few ? [] : expected.videos) {
      it(`${video.frames}: frames, the folder's images`, async () => {
        const images = [1, 2, 3, 4, 5, 6].map((n) => `${ROOT}${video.frames}/frame-${n}.png`);
        const said = await model.caption(frames(images), { strategy: 'greedy', maxLength: 20 });
        assert.equal(said.text, video.greedy.text);
        close(logProbs(said), video.greedy.token_logprobs, 'video log-probabilities');
      });
    }
  });
}
