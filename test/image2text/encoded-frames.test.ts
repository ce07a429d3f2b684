import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { memory, type Tensor } from '@tensorflow/tfjs-core';
import { type EncodedImage, frames, type Image2Text, loadImage2Text, video } from '../../src/node.js';
import { DEMO, EXAMPLES, ROOT, readJson } from '../support/fixtures.js';

const GREEDY = { strategy: 'greedy' } as const;

/** Frames that were encoded one by one, and the same frames at once. */
describe('a video of encoded frames', () => {
  let model: Image2Text;
  let images: string[];
  let encoded: EncodedImage[];
  before(async () => {
    model = await loadImage2Text('demo', { backend: 'simd' });
    const [first] = readJson<{ videos: { frames: string }[] }>(`${DEMO}expected.json`).videos;
    images = [1, 2, 3, 4, 5, 6].map((n) => `${ROOT}${first!.frames}/frame-${n}.png`);
    images.push(`${EXAMPLES}blue-mug-juice.png`);
  });
  beforeEach(async () => {
    encoded = await Promise.all(images.map((image) => model.encode(image)));
  });
  afterEach(() => {
    for (const image of encoded) image.dispose();
  });
  after(() => model.dispose());

  it('every method says the same to the bit, at any places of the frames, and leaves no tensor behind', async () => {
    const orders = [[0, 1, 2, 3, 4, 5], [5, 3, 3, 0, 6, 1], [2], [6, 4]];
    for (const order of orders) {
      const [given, known] = [frames(order.map((n) => images[n]!)), frames(order.map((n) => encoded[n]!))];
      const tensors = memory().numTensors;
      assert.deepEqual(await model.caption(known), await model.caption(given), `${order}`);
      const [a, b] = await model.caption([known, given], GREEDY);
      assert.deepEqual(a, b);
      assert.deepEqual(await model.embed(known, { pool: 'none' }), await model.embed(given, { pool: 'none' }));
      assert.deepEqual(
        await model.answer(known, ['what moves?'], GREEDY),
        await model.answer(given, ['what moves?'], GREEDY),
      );
      const pieces: string[] = [];
      for await (const piece of model.stream(known, GREEDY)) pieces.push(piece);
      assert.equal(pieces.join(''), a!.text);
      assert.deepEqual(
        await model.explain(known, { ...GREEDY, rollout: false }),
        await model.explain(given, { ...GREEDY, rollout: false }),
      );
      const kept = await model.encode(known);
      assert.deepEqual(await model.caption(kept, GREEDY), b);
      kept.dispose();
      assert.equal(memory().numTensors, tensors);
    }
  });

  it('encodes no frame again, and takes the middles of more frames than the model has places for', async () => {
    const stages = new Set<string>();
    const trace = (name: string, _: Tensor) => void stages.add(name);
    await model.caption(frames(encoded.slice(0, 6)), { ...GREEDY, trace });
    assert.ok(
      stages.has('visual_projection') && ![...stages].some((name) => name.startsWith('vision.')),
      `${[...stages]}`,
    );
    assert.deepEqual(await model.caption(frames(encoded), GREEDY), await model.caption(frames(images), GREEDY));
  });

  it('frames of both kinds, and an image of its own, are as they were', async () => {
    const mixed = frames([encoded[0]!, images[1]!]);
    assert.deepEqual(await model.caption(mixed, GREEDY), await model.caption(frames(images.slice(0, 2)), GREEDY));
    assert.deepEqual(await model.caption(encoded[6]!), await model.caption(images[6]!));
  });

  it('a frame that is disposed of in a call is freed after it; one that was before is an error', async () => {
    const [first] = encoded as [EncodedImage];
    const said = await model.caption(frames(images.slice(0, 2)), GREEDY);
    const tensors = memory().numTensors;
    const call = model.caption(frames(encoded.slice(0, 2)), GREEDY);
    first.dispose();
    assert.deepEqual(await call, said);
    assert.ok(memory().numTensors < tensors);
    const after = memory().numTensors;
    await assert.rejects(model.caption(frames(encoded.slice(0, 2))), { code: 'image-disposed' });
    await assert.rejects(
      async () => {
        for await (const _ of model.stream(frames(encoded.slice(0, 2)))) assert.fail();
      },
      { code: 'image-disposed' },
    );
    assert.equal(memory().numTensors, after);
  });

  it('an abort leaves nothing behind', async () => {
    const tensors = memory().numTensors;
    for (const run of [
      (signal: AbortSignal) => model.encode(images[0]!, { signal }),
      (signal: AbortSignal) => model.encode(frames(encoded), { signal }),
    ]) {
      for (const turns of [0, 2, 6, 9]) {
        const stop = new AbortController();
        const call = run(stop.signal);
        call.catch(() => undefined);
        for (let n = 0; n < turns; n++) await new Promise((resolve) => setImmediate(resolve));
        stop.abort(new Error('enough'));
        const found = await call.catch((error: Error) => error);
        if (found instanceof Error) assert.equal(found.message, 'enough');
        else found.dispose();
        assert.equal(memory().numTensors, tensors);
      }
    }
  });

  it('what cannot be a frame is refused: another model’s, a video, another size', async () => {
    const gif = await model.encode(video(readFileSync(`${EXAMPLES}video-1.gif`)));
    await assert.rejects(model.caption(frames([encoded[0]!, gif])), { code: 'not-an-image' });
    gif.dispose();
    const other = await loadImage2Text('demo', { backend: 'simd' });
    await assert.rejects(other.caption(frames(encoded)), { code: 'other-model' });
    other.dispose();
    const wide = await loadImage2Text('demo', {
      backend: 'simd',
      preprocessing: 'original',
      keepRatio: { min: 96, max: 192 },
    });
    const sizes = [
      { width: 90, height: 90 },
      { width: 180, height: 90 },
    ].map((size) => ({
      ...size,
      data: new Uint8ClampedArray(size.width * size.height * 4),
    }));
    const both = await Promise.all(sizes.map((image) => wide.encode(image)));
    await assert.rejects(wide.caption(frames(both)), { code: 'image-batch' });
    await assert.rejects(wide.caption(frames(sizes)), { code: 'image-batch' });
    wide.dispose();
  });
});
