import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { type Caption, encodeImage, type Git, loadGit, startSession } from '../../src/index.js';
import { disposeCache, disposeGit } from '../../src/model/git.js';
import { fromDirectory, type Image2Text, loadImage2Text } from '../../src/node.js';
import { DEMO, EXAMPLES, REFERENCE } from '../support/fixtures.js';
import { holds, useVariant } from './support.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'int8', 'int8-fast'];
const SETTINGS = [
  ['simd-relaxed-unshared', 1],
  ['simd-plain-unshared', 1],
  ['simd-plain-shared', 2],
  ['simd-threads', 2],
] as const;

/** The bits of a number. */
const bitsOf = (values: Float32Array) => Buffer.from(values.slice().buffer).toString('hex');

/** Logits of a row after each of its steps, in a session over `images`; row r looks at image r. */
async function play(
  git: Git,
  pixels: tf.Tensor4D,
  rows: readonly (readonly (readonly number[])[])[],
): Promise<string[][]> {
  const image = encodeImage(git, pixels);
  const session = startSession(git, image);
  const received: string[][] = rows.map(() => []);
  try {
    for (let turn = 0; turn < rows[0]!.length; turn++) {
      const logits = await session.step(rows.map((row) => row[turn]!));
      for (const [r, values] of logits.entries()) received[r]!.push(bitsOf(values));
    }
    return received;
  } finally {
    session.dispose();
    disposeCache(image);
  }
}

const DEMO_IMAGES = ['black-round-sign-sky.jpg', 'blue-mug-juice.png', 'brown-bottle-bank.png', 'red-book-short.png'];

describe('simd: a text has the same bits alone and in company', () => {
  for (const [variant, threads] of SETTINGS) {
    for (const format of FORMATS) {
      it(`logits of tiny-a, ${format} on ${variant}: images in a batch, rows of other lengths, tokens in parts`, async () => {
        await useVariant(variant);
        setThreads(threads, variant);
        const git = await loadGit(await fromDirectory(`${REFERENCE}tiny-a/`), { weights: format });
        const { vocabSize, vision } = git.config;
        const side = vision.imageSize;
        const token = fc.integer({ min: 1, max: vocabSize - 1 });
        await holds(
          fc.record({
            rows: fc.array(fc.array(token, { minLength: 6, maxLength: 14 }), { minLength: 2, maxLength: 4 }),
            cuts: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 4, maxLength: 4 }),
            seed: fc.nat(1000),
          }),
          async ({ rows, cuts, seed }) => {
            const pixels: tf.Tensor4D = tf.randomUniform([rows.length, side, side, 3], -2, 2, 'float32', seed + 1);
            // The prompt has another length in each row; then one token at a time.
            const steps = rows.map((row, r) => {
              const first = Math.min(cuts[r]!, row.length - 3);
              return [row.slice(0, first), [row[first]!], [row[first + 1]!], [row[first + 2]!]];
            });
            const together = await play(git, pixels, steps);
            for (const [r, row] of steps.entries()) {
              const own = tf.slice(pixels, [r, 0, 0, 0], [1, side, side, 3]) as tf.Tensor4D;
              const [alone] = await play(git, own, [row]);
              assert.deepEqual(alone, together[r], `row ${r} alone`);
              const [inParts] = await play(git, own, [row.flat().map((id) => [id])]);
              assert.deepEqual(inParts!.slice(row[0]!.length - 1), together[r], `row ${r} token by token`);
              own.dispose();
            }
            pixels.dispose();
          },
          5,
        );
        disposeGit(git);
      });
    }
  }

  for (const [variant, threads] of SETTINGS) {
    for (const format of FORMATS) {
      it(`tiny-a, ${format} on ${variant}: a step in one call and layer by layer, which a trace asks for`, async () => {
        await useVariant(variant);
        setThreads(threads, variant);
        const git = await loadGit(await fromDirectory(`${REFERENCE}tiny-a/`), { weights: format });
        const side = git.config.vision.imageSize;
        const pixels: tf.Tensor4D = tf.randomUniform([2, side, side, 3], -2, 2, 'float32', 5);
        const image = encodeImage(git, pixels);
        const before = tf.memory().numTensors;
        const found: string[][] = [];
        for (const trace of [undefined, () => {}]) {
          const session = startSession(git, image, trace);
          const bits: string[] = [];
          const step = async (...ids: number[][]) => bits.push(...(await session.step(ids)).map(bitsOf));
          await step([1], [2]);
          session.reorder([0, 0, 0, 1, 1, 1]); // beams
          await step([3], [4], [5], [6], [7], [8]);
          session.reorder([1, 1, 0, 4]); // rows that no longer share their image evenly
          await step([9], [10], [11], [12]);
          await step([1, 2, 3], [4], [5, 6], [7]); // rows of other lengths: the columns that fill them up are hidden from here on
          await step([9], [10], [11], [12]);
          session.dispose();
          found.push(bits);
        }
        assert.deepEqual(found[0], found[1]);
        assert.equal(tf.memory().numTensors, before);
        const session = startSession(git, image);
        const { kernels } = await tf.profile(async () => {
          await session.step([[1], [2]]);
          return tf.scalar(0);
        });
        const names = kernels.map(({ name }) => name).filter((name) => name.startsWith('Git'));
        assert.deepEqual(names, ['GitDecoderStep']);
        session.dispose();
        disposeCache(image);
        pixels.dispose();
        disposeGit(git);
      });
    }
  }

  for (const variant of ['simd-threads', 'simd-plain-shared']) {
    it(`beams and questions on ${variant}: with 1, 2 and 3 threads, in every format, as each text alone`, async () => {
      await useVariant(variant);
      for (const format of FORMATS) {
        const git = await loadGit(await fromDirectory(`${REFERENCE}tiny-a/`), { weights: format });
        const { vocabSize, vision } = git.config;
        const side = vision.imageSize;
        const token = fc.integer({ min: 1, max: vocabSize - 1 });
        const text = fc.array(token, { minLength: 3, maxLength: 9 });
        await holds(
          fc.record({
            // Two images with up to five texts each: rows of other lengths, which share what was kept of their image.
            texts: fc.array(fc.tuple(fc.nat(1), text), { minLength: 2, maxLength: 7 }),
            threads: fc.shuffledSubarray([1, 2, 3], { minLength: 3 }),
            seed: fc.nat(1000),
          }),
          async ({ texts, threads, seed }) => {
            const pixels: tf.Tensor4D = tf.randomUniform([2, side, side, 3], -2, 2, 'float32', seed + 1);
            const rows = [...texts].sort(([a], [b]) => a - b);
            /** Logits after the first token, after each row's middle all at once, and after its last token. */
            const logits = async (own: readonly (readonly [number, readonly number[]])[]): Promise<string[][]> => {
              const image = encodeImage(git, pixels);
              const session = startSession(git, image);
              const found: string[][] = own.map(() => []);
              try {
                await session.step([[1], [1]]);
                session.reorder(own.map(([n]) => n)); // as beams do
                for (const part of [
                  (ids: readonly number[]) => ids.slice(0, -1),
                  (ids: readonly number[]) => ids.slice(-1),
                ]) {
                  const answers = await session.step(own.map(([, ids]) => part(ids)));
                  for (const [r, values] of answers.entries()) found[r]!.push(bitsOf(values));
                }
                return found;
              } finally {
                session.dispose();
                disposeCache(image);
              }
            };
            setThreads(threads[0]!, variant);
            const together = await logits(rows);
            for (const count of threads.slice(1)) {
              setThreads(count, variant);
              assert.deepEqual(await logits(rows), together, `${format}: ${count} threads`);
            }
            for (const [r, row] of rows.entries()) {
              assert.deepEqual((await logits([row]))[0], together[r], `${format}: text ${r} alone`);
            }
            pixels.dispose();
          },
          3,
        );
        disposeGit(git);
      }
      setThreads(1, variant);
    });
  }

  describe('the demo', () => {
    let model: Image2Text;
    const files = DEMO_IMAGES.map((name) => `${EXAMPLES}${name}`);
    before(async () => {
      await useVariant('simd');
      model = await loadImage2Text(DEMO);
    });
    after(() => model.dispose());

    for (const strategy of ['greedy', 'beam', 'original'] as const) {
      it(`captions of a batch in any order are those of each image alone, ${strategy}`, async () => {
        const options = { strategy, maxLength: 12 };
        const alone: Caption[] = [];
        for (const file of files) alone.push(await model.caption(file, options));
        for (const order of [
          [0, 1, 2, 3],
          [3, 1],
          [2, 0, 1],
        ]) {
          const together = await model.caption(
            order.map((i) => files[i]!),
            options,
          );
          assert.deepEqual(
            together,
            order.map((i) => alone[i]),
          );
        }
      });
    }

    it('scores of many texts are those of each alone', async () => {
      const texts = ['a red square', 'a cat', 'a yellow circle above a blue triangle', 'two green stars'];
      const together = await model.score(files[0]!, texts);
      for (const [i, text] of texts.entries()) assert.deepEqual(await model.score(files[0]!, [text]), [together[i]]);
    });
  });
});
