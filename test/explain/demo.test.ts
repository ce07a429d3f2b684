import assert from 'node:assert/strict';
import { memory, profile } from '@tensorflow/tfjs-core';
import { decodeFrames, decodeImage } from '../../src/image/decode.js';
import type { RgbImage } from '../../src/image/raw-image.js';
import { resize } from '../../src/image/resize.js';
import { type AttentionMap, type Explanation, explainText, overlayPng, renderPage } from '../../src/index.js';
import { type Image2Text, loadImage2Text, video } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { expectClose, expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';

/** Middle of a map's brightest patch, in pixels of the image. */
function brightest({ grid, images }: Explanation, { patches }: AttentionMap): [x: number, y: number] {
  const place = patches.indexOf(Math.max(...patches));
  const { left, top, width, height } = images[0]!.seen;
  return [
    left + (((place % grid.columns) + 0.5) * width) / grid.columns,
    top + ((Math.floor(place / grid.columns) + 0.5) * height) / grid.rows,
  ];
}

const within = ([x, y]: [number, number], left: number, top: number, right: number, bottom: number): boolean =>
  x >= left && x <= right && y >= top && y <= bottom;

describe('the demo model explained', () => {
  let model: Image2Text;
  const open = (name: string): Promise<RgbImage> => decodeImage(readBin(`${EXAMPLES}${name}`));

  async function explain(image: RgbImage, prompt = ''): Promise<Explanation> {
    const ids = [model.tokenizer.clsId, ...model.tokenizer.encode(prompt, { addSpecialTokens: false })];
    const { text, tokens } = await model.caption(image, prompt === '' ? {} : { prompt });
    const all = [...ids, ...tokens.map(({ id }) => id)];
    const { imageConfig } = model;
    const input = { images: image, imageConfig, ids: all, promptLength: ids.length, prompt, text };
    const found = await explainText(model.git, model.tokenizer, input);
    const logProbs = tokens.map(({ logProb }) => logProb);
    expectClose(
      found.tokens.map(({ logProb }) => logProb),
      logProbs,
      1e-4,
      'as the search says',
    );
    return found;
  }

  before(async () => {
    await useBackend('wasm');
    model = await loadImage2Text(DEMO);
  });
  after(() => model.dispose());

  it('looks at the thing when it names it or its color', async () => {
    const mug = await explain(await open('blue-mug-juice.png')); // the mug: 40 to 300 across, its body to 256; 58 to 275 down
    assert.equal(mug.text, 'a blue mug with the word juice on it');
    const [, , noun] = mug.words;
    assert.ok(within(brightest(mug, noun!.mean), 220, 90, 300, 275), 'mug: where the handle begins');
    const book = await explain(await open('red-book-short.png')); // 51 to 270 across, its spine to 71; 20 to 305 down
    assert.ok(within(brightest(book, book.words[1]!.mean), 40, 20, 82, 305), 'red: the spine');
    assert.ok(within(brightest(book, book.words[2]!.mean), 71, 20, 270, 305), 'book: the cover');
  });

  it('takes what it reads from the printed word: rollout ends there', async () => {
    for (const [file, place, box] of [
      ['blue-mug-juice.png', 6, [60, 120, 245, 200]],
      ['red-book-short.png', 6, [70, 130, 250, 200]],
    ] as const) {
      const found = await explain(await open(file));
      const word = found.words[place]!;
      assert.ok(file.includes(word.text), word.text);
      assert.ok(
        within(brightest(found, word.rollout!), box[0], box[1], box[2], box[3]),
        `${word.text}: ${brightest(found, word.rollout!)}`,
      );
    }
  });

  it('an image that was encoded is not encoded again, but for rollout', async () => {
    /** How often an image is cut into patches meanwhile. */
    const encodings = async (run: () => Promise<unknown>): Promise<number> => {
      const { kernels } = await profile(async () => void (await run()) as never);
      return kernels.filter(({ name, outputShapes: [shape] }) => name === 'Transpose' && shape?.length === 5).length;
    };
    const source = await open('blue-mug-juice.png');
    const options = { strategy: 'greedy' } as const;
    let image: Awaited<ReturnType<typeof model.encode>> | undefined;
    assert.equal(await encodings(async () => (image = await model.encode(source))), 1);
    const found: Explanation[] = [];
    for (const [rollout, input, times] of [
      [false, image!, 0],
      [true, image!, 1],
      [false, source, 1],
      [true, source, 2],
    ] as const) {
      const count = await encodings(async () => found.push(await model.explain(input, { ...options, rollout })));
      assert.equal(count, times, `rollout ${rollout}, ${input === image ? 'encoded' : 'not encoded'} before`);
    }
    const [without, whole] = found as [Explanation, Explanation];
    assert.equal(without.text, whole.text);
    for (const [n, word] of without.words.entries()) {
      const same = whole.words[n]!;
      assert.equal(word.rollout, undefined);
      expectClose(word.mean.patches, same.mean.patches, 1e-6);
      expectClose([word.evidence, word.probability], [same.evidence, same.probability], 1e-4);
    }
    assert.throws(() => overlayPng(without, 0, { view: 'rollout' }), { name: 'OptionError', code: 'no-rollout' });
    image!.dispose();
  });

  it('stays where it was when the image gets wider: the crop is undone', async () => {
    // of the model's own height, so that nothing is resized: bicubic would reach over the edge of the crop
    const square = resize(await open('blue-mug-juice.png'), 96, 96, 'bicubic');
    const data = new Uint8Array(168 * 96 * 3);
    for (let y = 0; y < 96; y++) data.set(square.data.subarray(y * 288, (y + 1) * 288), (y * 168 + 36) * 3);
    const { imageConfig } = model;
    const ids = [model.tokenizer.clsId, ...model.tokenizer.encode('a blue mug', { addSpecialTokens: false })];
    const input = { imageConfig, ids, promptLength: 1, text: 'a blue mug' };
    const look = (image: RgbImage) => explainText(model.git, model.tokenizer, { ...input, images: image });
    const [found, wide] = [await look(square), await look({ data, width: 168, height: 96 })];
    assert.deepEqual(wide.images[0]!.seen, { left: 36, top: 0, width: 96, height: 96 });
    for (const [n, word] of wide.words.entries()) {
      expectClose(word.mean.patches, found.words[n]!.mean.patches, 1e-6);
      const [x, y] = brightest(found, found.words[n]!.mean);
      assert.deepEqual(brightest(wide, word.mean), [x + 36, y]);
    }
  });

  it('explains answers and videos, and leaves no tensor behind', async () => {
    const image = await open('red-book-short.png');
    await expectTensors(0, async () => {
      const answer = await explain(image, 'what color is the book?');
      assert.deepEqual([answer.text, answer.prompt, answer.words.length], ['red', 'what color is the book?', 2]);
    });
    const frames = await decodeFrames(readBin(`${EXAMPLES}video-1.gif`));
    const { text, tokens } = await model.caption(video(`${EXAMPLES}video-1.gif`));
    const ids = [model.tokenizer.clsId, ...tokens.map(({ id }) => id)];
    const before = memory().numTensors;
    const input = { images: frames, imageConfig: model.imageConfig, ids, promptLength: 1, text };
    const found = await explainText(model.git, model.tokenizer, input);
    assert.equal(memory().numTensors, before);
    assert.deepEqual([found.grid.frames, found.images.length], [frames.length, frames.length]);
    assert.equal(
      (await decodeImage(overlayPng(found, 1, { frame: frames.length - 1, legend: false }))).width,
      frames[0]!.width,
    );
    const page = renderPage(found);
    assert.equal([...page.matchAll(/<img /g)].length, frames.length);
    console.log(`      a page of ${(page.length / 1024).toFixed(0)} KiB`);
  });
});
