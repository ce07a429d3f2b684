import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { memory, setBackend, tensor3d } from '@tensorflow/tfjs-core';
import { decodeImage } from '../../src/image/decode.js';
import type { Caption, CaptionOptions, Image2Text, ImageInput } from '../../src/node.js';
import { DisposedError, loadImage2Text } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';
import { FULL } from '../support/full.js';

const MUG = `${EXAMPLES}blue-mug-juice.png`;
const SHIRT = `${EXAMPLES}black-shirt-press.jpg`;
const MUG_TEXT = 'a blue mug with the word juice on it';

/** Counts what the model is made to do. */
function counter(): {
  readonly trace: NonNullable<CaptionOptions['trace']>;
  encodes: number;
  prefills: number;
  steps: number;
} {
  const counts = { encodes: 0, prefills: 0, steps: 0, trace: (_name: string) => {} };
  counts.trace = (name) => {
    if (name === 'vision.embeddings') counts.encodes++;
    if (name === 'visual_projection') counts.prefills++;
    if (name === 'text.embeddings') counts.steps++;
  };
  return counts;
}

describe('Image2Text', () => {
  let model: Image2Text;
  before(async () => {
    await useBackend('wasm');
    model = await loadImage2Text(DEMO);
  });
  after(() => model.dispose());

  describe('one encoding per image', () => {
    for (const options of [
      { strategy: 'greedy' },
      { strategy: 'beam', numBeams: 4 },
      { strategy: 'original' },
      { strategy: 'sample', numReturnSequences: 5 },
    ] as const) {
      it(`${options.strategy}: however many tokens, beams or samples`, async () => {
        const counts = counter();
        await model.caption(MUG, { ...options, maxLength: 20, trace: counts.trace });
        assert.deepEqual([counts.encodes, counts.prefills], [1, 1]);
        assert.ok(counts.steps > 5, `${counts.steps} steps`);
      });
    }

    it('a hundred questions over one image', async () => {
      const counts = counter();
      const questions = Array.from({ length: 100 }, (_, n) =>
        n % 2 === 0 ? 'what is this?' : 'what color is the mug?',
      );
      const answers = await expectTensors(0, () =>
        model.answer(MUG, questions, { strategy: 'greedy', maxNewTokens: 6, batchSize: 50, trace: counts.trace }),
      );
      assert.deepEqual([counts.encodes, counts.prefills], [1, 1]);
      assert.deepEqual(
        answers.slice(0, 2).map(({ text }) => text),
        ['a mug', 'blue'],
      );
      for (const [n, { text }] of answers.entries()) assert.equal(text, answers[n % 2]!.text);
    });

    it('an image that was looked at, for every kind of call, until it is disposed', async () => {
      const counts = counter();
      await expectTensors(0, async () => {
        const seen = await model.encode(MUG, { trace: counts.trace });
        assert.equal((await model.caption(seen, { trace: counts.trace })).text, MUG_TEXT);
        assert.equal(
          (await model.answer(seen, 'what is this?', { strategy: 'greedy', trace: counts.trace })).text,
          'a mug',
        );
        const pieces: string[] = [];
        for await (const piece of model.stream(seen, { trace: counts.trace })) pieces.push(piece);
        assert.equal(pieces.join(''), MUG_TEXT);
        const [best] = await model.classify(seen, ['a mug', 'a sign'], {
          prompt: 'what is this?',
          trace: counts.trace,
        });
        assert.equal(best!.label, 'a mug');
        const both = await model.caption([seen, SHIRT, seen], { strategy: 'greedy', trace: counts.trace });
        assert.deepEqual(
          both.map(({ text }) => text),
          [MUG_TEXT, 'a black shirt that says press', MUG_TEXT],
        );
        assert.deepEqual([counts.encodes, counts.prefills], [2, 2], 'the mug once and the shirt once');
        const inFlight = model.caption(seen);
        seen.dispose();
        seen.dispose();
        await assert.rejects(model.caption(seen), DisposedError);
        assert.equal((await inFlight).text, MUG_TEXT, 'what was called before goes on');
      });
    });

    it('a thousand class names, with fewer than a thousand decodes', async () => {
      const counts = counter();
      const colors = ['red', 'blue', 'green', 'black', 'white', 'orange', 'pink', 'brown', 'yellow', 'purple'];
      const things = ['sign', 'round sign', 'book', 'bottle', 'mug', 'shirt', 'phone', 'ticket', 'cup', 'box'];
      const words = ['juice', 'dream', 'press', 'bank', 'sky', 'toy', 'old', 'thanks', 'short', 'tower'];
      const labels = colors.flatMap((c) =>
        things.flatMap((t) => words.map((w) => `a ${c} ${t} with the word ${w} on it`)),
      );
      const ranked = await expectTensors(0, () => model.classify(MUG, labels, { topK: 1000, trace: counts.trace }));
      assert.equal(ranked[0]!.label, MUG_TEXT);
      assert.equal(counts.encodes, 1);
      assert.ok(counts.steps < 1000, `${counts.steps} decoder calls`);
      const total = ranked.reduce((sum, { probability }) => sum + probability, 0);
      assert.ok(Math.abs(total - 1) < 1e-9, `probabilities sum to ${total}`);
      const [alone] = await model.score(MUG, [MUG_TEXT]);
      assert.ok(Math.abs(alone!.logProb - ranked[0]!.logProb) < 1e-5, 'the same likelihood as scored alone');
      console.log(`      1,000 names: ${counts.steps} decoder calls`);
    });
  });

  it('takes a path, a file URL, bytes, a Buffer, a Blob, samples with and without alpha, and a tensor', async () => {
    const bytes = readFileSync(MUG);
    const { data, width, height } = await decodeImage(bytes);
    const rgba = new Uint8ClampedArray(width * height * 4).map((_, i) =>
      i % 4 === 3 ? 9 : data[(i >> 2) * 3 + (i % 4)]!,
    );
    const tensor = tensor3d(Float32Array.from(data), [height, width, 3]);
    const inputs: ImageInput[] = [
      ...[MUG, new URL(`file://${MUG}`), `data:image/png;base64,${bytes.toString('base64')}`],
      ...[bytes, new Uint8Array(bytes), new Uint8Array(bytes).buffer, new Blob([new Uint8Array(bytes)])],
      ...[{ data, width, height }, { data: rgba, width, height }, tensor],
    ];
    for (const input of inputs) {
      const { text } = await expectTensors(0, () => model.caption(input, { strategy: 'greedy' }));
      assert.equal(text, MUG_TEXT);
    }
    tensor.dispose();
  });

  it('a batch equals its single runs to the last bit, whatever the batch size', async () => {
    const images = [MUG, SHIRT, `${EXAMPLES}red-book-short.png`];
    const single: Caption[] = [];
    for (const image of images) single.push(await model.caption(image, { maxLength: 20 }));
    for (const batchSize of [1, 2, 8]) {
      const batch = await expectTensors(0, () => model.caption(images, { maxLength: 20, batchSize }));
      assert.deepEqual(
        batch.map(({ text }) => text),
        single.map(({ text }) => text),
      );
      for (const [n, caption] of batch.entries()) assert.ok(Math.abs(caption.score - single[n]!.score) < 1e-5);
    }
  });

  it('questions of different length in one batch equal their single runs', async () => {
    const questions = ['what is this?', 'what does the mug say?', 'what color is the mug?'];
    const together = await model.answer(MUG, questions, { strategy: 'beam', numBeams: 3, maxNewTokens: 8 });
    for (const [n, question] of questions.entries()) {
      const alone = await model.answer(MUG, question, { strategy: 'beam', numBeams: 3, maxNewTokens: 8 });
      assert.equal(together[n]!.text, alone.text);
      assert.ok(Math.abs(together[n]!.score - alone.score) < 1e-5, `${together[n]!.score} ${alone.score}`);
    }
  });

  it('streams pieces whose concatenation is the caption; leaving early stops and frees', async () => {
    const pieces: string[] = [];
    await expectTensors(0, async () => {
      for await (const piece of model.stream(MUG)) pieces.push(piece);
    });
    assert.equal(pieces.join(''), MUG_TEXT);
    assert.ok(pieces.length > 5, JSON.stringify(pieces));
    await expectTensors(0, async () => {
      for await (const piece of model.stream(MUG)) {
        assert.equal(piece, 'a');
        break;
      }
    });
    const answer: string[] = [];
    for await (const piece of model.stream(MUG, { question: 'what color is the mug?' })) answer.push(piece);
    assert.equal(answer.join(''), 'blue');
  });

  // At 40 places spread over the first hundred, or with `npm run test:full` at each of them twice.
  const ABORTS = FULL ? 200 : 40;
  it(`an abort at any step leaves nothing behind, ${ABORTS} times over`, async () => {
    const before = memory().numTensors;
    for (let run = 0; run < ABORTS; run++) {
      const controller = new AbortController();
      let calls = 0;
      const trace = () => {
        if (++calls > (FULL ? run % 100 : Math.floor(2.5 * run))) controller.abort(new Error('enough'));
      };
      const strategy = (['greedy', 'original', 'beam', 'sample'] as const)[run % 4]!;
      await assert.rejects(
        model.caption(MUG, { strategy, minLength: 30, maxLength: 60, signal: controller.signal, trace }),
        /enough/,
      );
      assert.equal(memory().numTensors, before, `run ${run}`);
    }
  });

  it('an abort from a timer is noticed while the model writes', async () => {
    const controller = new AbortController();
    const counts = counter();
    setTimeout(() => controller.abort(new Error('late')), 1);
    const signal = controller.signal;
    await assert.rejects(
      model.caption(MUG, { strategy: 'greedy', minLength: 62, maxLength: 63, signal, trace: counts.trace }),
      /late/,
    );
    assert.ok(counts.steps < 60, `${counts.steps} steps before the timer was noticed`);
  });

  it('fifty calls at once give what fifty in a row give', async () => {
    const calls = Array.from({ length: 50 }, (_, n) =>
      model.caption(n % 2 === 0 ? MUG : SHIRT, { strategy: 'greedy' }),
    );
    const texts = (await expectTensors(0, () => Promise.all(calls))).map(({ text }) => text);
    for (const [n, text] of texts.entries())
      assert.equal(text, n % 2 === 0 ? MUG_TEXT : 'a black shirt that says press');
  });

  it('embeds: tokens, mean and class vector of one shape family', async () => {
    const all = await expectTensors(0, () => model.embed(MUG, { pool: 'none' }));
    assert.deepEqual(all.shape, [65, 128]);
    const cls = await model.embed(MUG, { pool: 'class' });
    assert.deepEqual([...cls.data], [...all.data.slice(0, 128)]);
    const mean = await model.embed(MUG, { stage: 'projected' });
    assert.deepEqual(mean.shape, [128]);
  });

  it('alternatives are the next best, in order', async () => {
    const { score, alternatives } = await model.caption(MUG, { strategy: 'beam', numBeams: 4, numReturnSequences: 4 });
    const scores = [score, ...alternatives.map((other) => other.score)];
    assert.equal(scores.length, 4);
    assert.deepEqual(
      [...scores].sort((a, b) => b - a),
      scores,
    );
  });

  it('a prompt goes on and is not repeated', async () => {
    const { text } = await model.caption(MUG, { prompt: 'a blue mug with', strategy: 'greedy' });
    assert.equal(text, 'the word juice on it');
  });

  it('leaves the backend as it is', async () => {
    await setBackend('cpu');
    const { getBackend } = await import('@tensorflow/tfjs-core');
    await model.caption(MUG, { strategy: 'greedy', maxNewTokens: 1 });
    assert.equal(getBackend(), 'cpu');
    await setBackend('wasm');
  });

  it('dispose stops calls in flight, refuses later ones, and may come twice', async () => {
    const before = memory().numTensors;
    const own = await loadImage2Text(DEMO);
    const inFlight = own.caption(MUG, {
      trace: (name) => {
        if (name === 'text.embeddings') own.dispose(); // at every step: the first one ends it
      },
    });
    await assert.rejects(inFlight, DisposedError);
    await assert.rejects(own.caption(MUG), DisposedError);
    assert.equal(memory().numTensors, before);
  });

  it('a load that is aborted leaves nothing behind', async () => {
    const before = memory().numTensors;
    const controller = new AbortController();
    let seen = 0;
    const onProgress = () => {
      if (++seen === 20) controller.abort(new Error('enough'));
    };
    await assert.rejects(loadImage2Text(DEMO, { signal: controller.signal, onProgress }), /enough/);
    assert.equal(memory().numTensors, before);
  });
});
