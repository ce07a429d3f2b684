import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memory } from '@tensorflow/tfjs-core';
import { identifyImage } from '../../src/image/decode.js';
import { resize } from '../../src/image/resize.js';
import { decodeImage, type Image2Text, pipeline, RawImage } from '../../src/node.js';
import { ROOT } from '../support/fixtures.js';
import { BOOK, loadDemo, MUG, refusal } from './support.js';

describe('pipelines: RawImage', () => {
  let model: Image2Text;
  let book: RawImage;
  before(async () => {
    model = await loadDemo();
    book = await RawImage.read(BOOK);
  });
  after(() => model.dispose());

  it('reads paths and file contents to the RGB samples of decodeImage', async () => {
    const bytes = readFileSync(BOOK);
    const { data, width, height } = await decodeImage(bytes);
    for (const image of [book, await RawImage.fromBlob(new Blob([bytes])), await RawImage.fromURL(BOOK)]) {
      assert.ok(image instanceof RawImage && image.data instanceof Uint8ClampedArray);
      assert.deepEqual([image.size, image.channels], [[width, height], 3]);
      assert.deepEqual(Buffer.from(image.data), Buffer.from(data));
    }
    assert.equal(await RawImage.read(book), book);
  });

  it('converts between gray, RGB and RGBA in place, and splits', () => {
    const image = new RawImage(Uint8Array.of(10, 20, 30, 200, 100, 50), 2, 1, 3);
    const copy = image.clone();
    assert.equal(image.rgba(), image);
    assert.deepEqual([...image.data], [10, 20, 30, 255, 200, 100, 50, 255]);
    assert.deepEqual(
      image.split().map(({ data }) => [...data]),
      [
        [10, 200],
        [20, 100],
        [30, 50],
        [255, 255],
      ],
    );
    assert.deepEqual([...image.rgb().data], [...copy.data]);
    assert.deepEqual([...image.grayscale().data], [18, 124]);
    assert.deepEqual([...image.rgba().data], [18, 18, 18, 255, 124, 124, 124, 255]);
    assert.deepEqual([...new RawImage(Uint8Array.of(7, 9), 1, 1, 2).rgba().data], [7, 7, 7, 9]);
    assert.equal(copy.channels, 3);
  });

  it('crops with both corners included, moved to the edge', async () => {
    const image = new RawImage(Uint8Array.of(1, 2, 3, 4, 5, 6), 3, 2, 1);
    const part = await image.crop([1, 0, 9, 1]);
    assert.deepEqual(
      [part.size, [...part.data]],
      [
        [2, 2],
        [2, 3, 5, 6],
      ],
    );
    assert.ok(part instanceof RawImage);
    assert.equal(await image.crop([-1, 0, 9, 9]), image);
    assert.equal(await refusal(() => image.crop([2, 0, 1, 1])), 'OptionError crop: out-of-range');
  });

  it('pads with zeros and takes the middle, as transformers.js', async () => {
    const image = new RawImage(Uint8Array.of(1, 2, 3, 4, 5, 6), 3, 2, 1);
    const padded = await image.pad([1, 0, -3, 1]);
    assert.deepEqual(
      [padded.size, [...padded.data]],
      [
        [4, 3],
        [0, 1, 2, 3, 0, 4, 5, 6, 0, 0, 0, 0],
      ],
    );
    assert.equal(await image.pad([0, 0, 0, 0]), image);
    const middle = await image.center_crop(2, 3);
    assert.deepEqual(
      [middle.size, [...middle.data]],
      [
        [2, 3],
        [1, 2, 4, 5, 0, 0],
      ],
    );
    const around = await image.center_crop(5, 1);
    assert.deepEqual(
      [around.size, [...around.data]],
      [
        [5, 1],
        [0, 1, 2, 3, 0],
      ],
    );
    const rgba = await new RawImage(Uint8Array.of(1, 2, 3, 4), 1, 1, 4).center_crop(1, 2);
    assert.deepEqual([rgba.channels, [...rgba.data]], [4, [1, 2, 3, 4, 0, 0, 0, 0]]);
    assert.equal(await refusal(() => image.center_crop(0, 1)), 'OptionError center_crop: out-of-range');
    assert.equal(await refusal(() => image.pad([0.5, 0, 0, 0])), 'OptionError pad: out-of-range');
  });

  it('takes a mask as alpha, in place', async () => {
    const image = new RawImage(Uint8Array.of(1, 2, 3, 4, 5, 6), 2, 1, 3);
    const mask = new RawImage(Uint8Array.of(9, 255), 2, 1, 1);
    assert.equal(image.putAlpha(mask), image);
    assert.deepEqual([image.channels, [...image.data]], [4, [1, 2, 3, 9, 4, 5, 6, 255]]);
    assert.equal(await refusal(async () => image.putAlpha(image.clone())), 'OptionError mask: shapes-differ');
  });

  it('becomes a tensor of transformers.js and comes from one, channels first or last', async () => {
    const image = new RawImage(Uint8Array.of(1, 2, 3, 4, 5, 6), 1, 2, 3);
    const { dims, type, data, size } = image.toTensor();
    assert.deepEqual([dims, type, [...data], size], [[3, 2, 1], 'uint8', [1, 4, 2, 5, 3, 6], 6]);
    const last = image.toTensor('HWC');
    assert.deepEqual(
      [last.dims, [...last.data]],
      [
        [2, 1, 3],
        [1, 2, 3, 4, 5, 6],
      ],
    );
    for (const again of [RawImage.fromTensor({ dims, data }), RawImage.fromTensor(last, 'HWC')]) {
      assert.ok(again instanceof RawImage);
      assert.deepEqual([again.size, again.channels, [...again.data]], [[1, 2], 3, [...image.data]]);
    }
    const floats = { dims: [1, 1, 1], data: Float32Array.of(1) as never };
    assert.equal(await refusal(async () => RawImage.fromTensor(floats)), 'OptionError tensor: wrong-type');
    assert.equal(
      await refusal(async () => RawImage.fromTensor({ dims: [1, 1, 1, 1], data: Uint8Array.of(1) })),
      'OptionError tensor: wrong-type',
    );
    assert.equal(
      await refusal(async () => image.toTensor('NHWC' as never)),
      'OptionError channel_format: unknown-choice',
    );
  });

  it('is written as a PNG in Node, with its channels', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'raw-image-'));
    try {
      for (const channels of [1, 2, 3, 4] as const) {
        const image = new RawImage(
          Uint8Array.from({ length: 6 * channels }, (_, i) => i * 10),
          3,
          2,
          channels,
        );
        const path = join(folder, `${channels}.png`);
        await image.save(path);
        const read = await RawImage.read(path);
        assert.deepEqual([read.size, [...read.data]], [[3, 2], [...image.clone().rgb().data]]);
        assert.match((await identifyImage(readFileSync(path))).kind, /^8-bit (gray|gray and alpha|RGB|RGB and alpha)$/);
      }
      assert.equal(
        (await refusal(() => book.save(join(folder, 'a.jpg')))).replace(folder, ''),
        'ImageError undefined: image-format',
      );
      assert.deepEqual(readdirSync(folder).sort(), ['1.png', '2.png', '3.png', '4.png']);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('resizes alpha as Pillow: gray with alpha and RGBA, all six filters', async () => {
    const { cases } = JSON.parse(readFileSync(`${ROOT}test/fixtures/resize-alpha.json`, 'utf8'));
    assert.equal(cases.length, 12);
    for (const { width, height, channels, samples, to, resample, resized } of cases) {
      const image = new RawImage(new Uint8Array(Buffer.from(samples, 'base64')), width, height, channels);
      const { data } = await image.resize(to[0], to[1], { resample });
      assert.equal(Buffer.from(data).toString('base64'), resized, `${channels} channels, filter ${resample}`);
    }
  });

  it('resizes as Pillow, in every number of channels', async () => {
    const { width, height } = book;
    const source = { data: new Uint8Array(book.data), width, height };
    for (const [resample, filter] of [
      [3, 'bicubic'],
      ['lanczos', 'lanczos'],
      [undefined, 'bilinear'],
    ] as const) {
      const expected = resize(source, 50, 40, filter).data;
      const options = resample === undefined ? {} : { resample };
      assert.deepEqual(Buffer.from((await book.resize(50, 40, options)).data), Buffer.from(expected));
      const opaque = await book.clone().rgba().resize(50, 40, options);
      assert.deepEqual(Buffer.from(opaque.rgb().data), Buffer.from(expected));
      const [red] = book.split();
      const channel = expected.filter((_, i) => i % 3 === 0);
      assert.deepEqual(Buffer.from((await red!.resize(50, 40, options)).data), Buffer.from(channel));
    }
    const hidden = await new RawImage(Uint8Array.of(200, 0, 0, 255, 0, 250, 0, 0), 2, 1, 4).resize(1, 1);
    assert.deepEqual([...hidden.data], [199, 0, 0, 128], 'what cannot be seen is not mixed in');
    assert.deepEqual((await book.resize(null, height / 2)).size, [width / 2, height / 2]);
    assert.equal(await refusal(() => book.resize(4, 4, { resample: 9 })), 'OptionError resample: resize');
  });

  it('says where there are no canvases, and what data does not fit', async () => {
    for (const call of [async () => book.toCanvas(), () => book.toBlob()])
      assert.equal(await refusal(call), 'ImageError undefined: no-canvas');
    assert.equal(await refusal(async () => new RawImage(Uint8Array.of(1), 2, 1, 3)), 'ImageError undefined: raw-image');
  });

  it('is an image to every task and method, gray and RGBA too', async () => {
    const tensors = memory().numTensors;
    const mug = (await RawImage.read(MUG)).rgba();
    const both = async (call: (image: string | RawImage) => Promise<unknown>) =>
      assert.deepEqual(await call(mug), await call(MUG));
    const labels = ['a mug', 'a book'];
    const caption = await pipeline('image-to-text', model);
    await both((image) => caption(image));
    await both((image) => caption([image, BOOK]));
    const ask = await pipeline('visual-question-answering', model);
    await both((image) => ask(image, 'what is this?'));
    await both((image) => ask({ image, question: 'what is this?' }));
    const chat = await pipeline('image-text-to-text', model);
    await both((image) => chat(image, 'what is this?'));
    const classify = await pipeline('zero-shot-image-classification', model);
    await both((image) => classify(image, labels));
    const extract = await pipeline('image-feature-extraction', model);
    await both(async (image) => (await extract(image, { pool: true })).tolist());
    await both(async (image) => (await model.caption(image)).text);
    await both((image) => model.classify(image, labels));
    const gray = (await RawImage.read(MUG)).grayscale();
    assert.deepEqual(await caption(gray), await caption(gray.clone().rgb()));
    assert.equal(memory().numTensors, tensors);
  });
});
