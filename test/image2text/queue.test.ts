import assert from 'node:assert/strict';
import { memory, stack, tensor3d } from '@tensorflow/tfjs-core';
import { type CaptionOptions, decodeImage, type Image2Text, ImageError, loadImage2Text } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';

const MUG = `${EXAMPLES}blue-mug-juice.png`;
const BOOK = `${EXAMPLES}red-book-short.png`;
const TEXTS = ['a blue mug with the word juice on it', 'a red book with the title short'];
const GREEDY = { strategy: 'greedy', maxLength: 20 } as const;

/** Counts what the model is made to do. */
function counter() {
  const counts = { encodes: 0, steps: 0 };
  const trace: NonNullable<CaptionOptions['trace']> = (name: string) => {
    if (name === 'vision.embeddings') counts.encodes++;
    if (name === 'text.embeddings') counts.steps++;
  };
  return { counts, trace };
}

describe('calls made at once', () => {
  let model: Image2Text;
  before(async () => {
    await useBackend('simd');
    model = await loadImage2Text(DEMO);
  });
  after(() => model.dispose());
  const images = Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? MUG : BOOK));

  it('twenty captions cost what a list of twenty costs, and the first does not wait for the last', async () => {
    const list = counter();
    await model.caption(images, { ...GREEDY, trace: list.trace });
    const single = counter();
    const ended: number[] = [];
    let encodedAtFirst = 0;
    await expectTensors(0, () =>
      Promise.all(
        images.map(async (image, n) => {
          const { text } = await model.caption(image, { ...GREEDY, trace: single.trace });
          if (ended.push(n) === 1) encodedAtFirst = single.counts.encodes;
          assert.equal(text, TEXTS[n % 2]);
        }),
      ),
    );
    assert.deepEqual(single.counts, list.counts);
    assert.equal(list.counts.encodes, 20);
    assert.deepEqual(ended, [...images.keys()], 'first in, first out');
    assert.ok(encodedAtFirst <= 8, `${encodedAtFirst} images were encoded before the first answer`);
  });

  it('many calls that wait, also on one signal, are no leak of listeners to Node', async () => {
    const own = await loadImage2Text(DEMO);
    const warnings: Error[] = [];
    const warn = (warning: Error) => void warnings.push(warning);
    process.on('warning', warn);
    const { signal } = new AbortController();
    const short = { strategy: 'greedy', maxNewTokens: 1 } as const;
    await Promise.all(images.map((image) => own.caption(image, short)));
    await Promise.all(images.map((image) => own.caption(image, { ...short, signal })));
    const waits = images.map((image) => own.caption(image, short));
    own.dispose();
    for (const wait of waits) await assert.rejects(wait, { name: 'DisposedError' });
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', warn);
    assert.deepEqual(warnings, []);
  });

  it('batches have at most maxBatch rows', async () => {
    const own = await loadImage2Text(DEMO, { maxBatch: 3 });
    const { counts, trace } = counter();
    const rows: number[] = [];
    const widths: NonNullable<CaptionOptions['trace']> = (name, x) => {
      trace(name, x);
      if (name === 'text.embeddings') rows.push(x.shape[0]!);
    };
    await Promise.all(images.slice(0, 7).map((image) => own.caption(image, { ...GREEDY, trace: widths })));
    own.dispose();
    assert.deepEqual([Math.max(...rows), counts.encodes], [3, 7]);
  });

  it('a long list lets a later call pass after a batch', async () => {
    const ended: string[] = [];
    const long = model.caption(images, { ...GREEDY, batchSize: 2 }).then(() => ended.push('long'));
    const short = model.caption(MUG, GREEDY).then(() => ended.push('short'));
    await Promise.all([long, short]);
    assert.deepEqual(ended, ['short', 'long']);
  });

  it('an abort of one leaves the others of its batch alone', async () => {
    await expectTensors(0, async () => {
      const controller = new AbortController();
      const { counts, trace } = counter();
      const stop: NonNullable<CaptionOptions['trace']> = (name, x) => {
        trace(name, x);
        if (counts.steps === 2) controller.abort(new Error('enough'));
      };
      const calls = images
        .slice(0, 4)
        .map((image, n) =>
          model.caption(image, { ...GREEDY, trace: stop, ...(n === 1 ? { signal: controller.signal } : {}) }),
        );
      const [first, second, third] = await Promise.allSettled(calls);
      assert.equal(first?.status === 'fulfilled' && first.value.text, TEXTS[0]);
      assert.match(String(second?.status === 'rejected' && second.reason), /enough/);
      assert.equal(third?.status === 'fulfilled' && third.value.text, TEXTS[0]);
      assert.equal(counts.encodes, 4, 'nothing was computed twice');
    });
  });

  it('a call that is aborted while it waits is never computed', async () => {
    const { counts, trace } = counter();
    const controller = new AbortController();
    const first = model.caption(MUG, { ...GREEDY, batchSize: 1, trace });
    const second = model.caption(BOOK, { ...GREEDY, batchSize: 1, trace, signal: controller.signal });
    controller.abort(new Error('gone'));
    await assert.rejects(second, /gone/);
    assert.equal((await first).text, TEXTS[0]);
    assert.equal(counts.encodes, 1);
  });

  it('a listener may call the model', async () => {
    let inner = '';
    const onToken = async ({ index }: { index: number }) => {
      if (index === 1) inner = (await model.caption(BOOK, GREEDY)).text;
    };
    assert.equal((await model.caption(MUG, { ...GREEDY, onToken })).text, TEXTS[0]);
    assert.equal(inner, TEXTS[1]);
  });

  it('one broken image ends its own call alone, and in a list it is the error at its place where that is asked for', async () => {
    await expectTensors(0, async () => {
      const broken = new Uint8Array(200).fill(7);
      const [a, b, c] = await Promise.allSettled([MUG, broken, BOOK].map((image) => model.caption(image, GREEDY)));
      assert.equal(a?.status === 'fulfilled' && a.value.text, TEXTS[0]);
      assert.ok(b?.status === 'rejected' && b.reason instanceof ImageError);
      assert.equal(c?.status === 'fulfilled' && c.value.text, TEXTS[1]);
      const found = await model.caption([MUG, broken, BOOK, 'nowhere.png'], { ...GREEDY, onError: 'collect' });
      assert.deepEqual(
        found.map((one) => (one instanceof Error ? one.name : one.text)),
        [TEXTS[0], 'ImageError', TEXTS[1], 'ImageError'],
      );
      await assert.rejects(model.caption([MUG, broken], GREEDY), ImageError);
      await assert.rejects(model.caption(MUG, { onError: 'ignore' } as never), /onError: unknown-choice/);
    });
  });

  it('a tensor [images, height, width, 3] is a batch of images', async () => {
    const [mug, book] = await Promise.all([MUG, BOOK].map((path) => decodeImage(readBin(path))));
    assert.deepEqual([mug!.width, mug!.height], [book!.width, book!.height]);
    const tensors = [mug!, book!].map(({ data, width, height }) =>
      tensor3d(Float32Array.from(data), [height, width, 3]),
    );
    const batch = stack(tensors);
    const before = memory().numTensors;
    const found = (await model.caption(batch, GREEDY)) as unknown as { text: string }[];
    assert.deepEqual(
      found.map(({ text }) => text),
      TEXTS,
    );
    assert.equal(memory().numTensors, before);
    for (const one of [batch, ...tensors]) one.dispose();
  });

  it('an encoded image that is disposed of while a call about it waits is kept until that call has ended', async () => {
    await expectTensors(0, async () => {
      const encoded = await model.encode(MUG);
      const waits = model.caption([BOOK, BOOK], { ...GREEDY, batchSize: 1 });
      const call = model.caption(encoded, GREEDY);
      encoded.dispose();
      assert.equal((await call).text, TEXTS[0]);
      await waits;
    });
  });
});
