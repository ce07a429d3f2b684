import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PNG } from 'pngjs';
import { OptionError } from '../../src/errors.js';
import { PAINT } from '../../src/explain/overlay.js';
import { decodeImage } from '../../src/image/decode.js';
import { heatMap, overlayPng } from '../../src/index.js';
import { madeUp } from './made-up.js';

describe('heat maps', () => {
  const grid = { frames: 1, rows: 3, columns: 4 };
  const patches = Float32Array.from({ length: 12 }, (_, i) => ((i * 7) % 12) / 11);

  it('have exactly the weight of a patch at its middle, smooth or not', () => {
    const area = { left: 5, top: 2, width: 44, height: 33 }; // 11 pixels a patch: the middle of a patch is that of a pixel
    for (const filling of ['smooth', 'patches'] as const) {
      const { values } = heatMap({ patches }, grid, 0, area, 60, 40, filling);
      patches.forEach((weight, i) => {
        const [x, y] = [5 + (i % 4) * 11 + 5, 2 + Math.floor(i / 4) * 11 + 5];
        assert.ok(Math.abs(values[y * 60 + x]! - weight) < 1e-6, `${filling} ${i}`);
      });
      assert.equal(values[0], 0);
      assert.equal(values[20 * 60 + 50], 0);
    }
  });

  it('stay between 0 and the largest weight, and even weights stay even', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: 12, maxLength: 12 }), (weights) => {
        const { values } = heatMap(
          { patches: Float32Array.from(weights) },
          grid,
          0,
          { left: -3.3, top: 1.7, width: 41, height: 20 },
          30,
          25,
        );
        const most = Math.max(...weights);
        assert.ok(values.every((value) => value >= 0 && value <= most + 1e-6));
      }),
      { numRuns: 100, seed: 3 },
    );
    const even = heatMap(
      { patches: new Float32Array(12).fill(0.25) },
      grid,
      0,
      { left: 0, top: 0, width: 30, height: 25 },
      30,
      25,
    );
    assert.ok(even.values.every((value) => Math.abs(value - 0.25) < 1e-6));
  });

  it('take the frame that is asked for', () => {
    const two = { frames: 2, rows: 1, columns: 1 };
    const area = { left: 0, top: 0, width: 2, height: 2 };
    const look = { patches: Float32Array.of(0.25, 0.75) };
    assert.deepEqual([...heatMap(look, two, 1, area, 2, 2).values], [0.75, 0.75, 0.75, 0.75]);
  });
});

describe('overlays', () => {
  it('are PNGs that two decoders read alike, of the size of the image and its legend', async () => {
    const explanation = madeUp({ width: 90, height: 60 });
    const bytes = overlayPng(explanation, 1);
    const [ours, theirs] = [await decodeImage(bytes), PNG.sync.read(Buffer.from(bytes))];
    assert.deepEqual([ours.width, ours.height, theirs.width, theirs.height], [90, 86, 90, 86]);
    for (let i = 0; i < 90 * 86; i++)
      assert.deepEqual([...ours.data.subarray(i * 3, i * 3 + 3)], [...theirs.data.subarray(i * 4, i * 4 + 3)]);
    assert.deepEqual(overlayPng(explanation, 1), bytes);
  });

  it('light the patch on the given image, and dim what was cut away', async () => {
    const explanation = madeUp({ width: 90, height: 60 }); // seen: the middle 60 columns; word 1 looks at patch [0, 1] of 2 by 2
    const { data, width } = await decodeImage(overlayPng(explanation, 1, { legend: false, filling: 'patches' }));
    const at = (x: number, y: number) => [...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)];
    const gray = 120;
    for (const [x, y] of [
      [45, 0],
      [74, 29],
      [60, 15],
    ])
      assert.deepEqual(at(x!, y!), [gray, gray, gray]);
    for (const [x, y] of [
      [44, 0],
      [15, 59],
      [60, 30],
    ])
      assert.deepEqual(at(x!, y!), new Array(3).fill(Math.round(gray * (1 - PAINT.veil))));
    for (const [x, y] of [
      [14, 0],
      [75, 30],
      [89, 59],
    ])
      assert.deepEqual(at(x!, y!), new Array(3).fill(Math.round(gray * PAINT.unseen)));
  });

  it('keep the colors of the image: a pixel only gets darker', async () => {
    const made = madeUp({ width: 90, height: 60 });
    const data = Uint8Array.from({ length: 90 * 60 * 3 }, (_, i) => [250, 120, 40][i % 3]!);
    const images = [{ ...made.images[0]!, image: { data, width: 90, height: 60 } }];
    const painted = await decodeImage(overlayPng({ ...made, images }, 1, { legend: false }));
    const levels = new Set<number>();
    for (let y = 0; y < 60; y++) {
      for (let x = 15; x < 75; x++) {
        const [r, g, b] = painted.data.subarray((y * 90 + x) * 3, (y * 90 + x) * 3 + 3);
        const light = r! / 250;
        levels.add(r!);
        assert.ok(Math.abs(g! - 120 * light) <= 0.8 && Math.abs(b! - 40 * light) <= 0.8, `${[r, g, b]}`);
      }
    }
    assert.ok(levels.size > 50 && levels.has(250));
  });

  it('with a shared scale show how much: the weaker word is darker', async () => {
    const explanation = madeUp({ width: 90, height: 60 }); // word 0 gives its brightest patch half of what word 1 gives
    const level = async (word: number, scale: 'word' | 'shared') => {
      const { data } = await decodeImage(overlayPng(explanation, word, { scale, legend: false, filling: 'patches' }));
      return Math.max(...data);
    };
    assert.equal(await level(0, 'word'), await level(1, 'word'));
    assert.ok((await level(0, 'shared')) < (await level(1, 'shared')));
  });

  it('shrink large images with all that lies on them', async () => {
    const explanation = madeUp({ width: 90, height: 60 });
    const { width, height } = await decodeImage(overlayPng(explanation, 1, { maxSide: 45, legend: false }));
    assert.deepEqual([width, height], [45, 30]);
    const narrow = await decodeImage(overlayPng(madeUp({ width: 9, height: 6 }), 0));
    assert.deepEqual([narrow.width, narrow.height], [9, 32]);
  });

  it('refuse words, frames, layers and heads that are not there', () => {
    const explanation = madeUp({ width: 90, height: 60 });
    const odd: [string, () => unknown][] = [
      ['word', () => overlayPng(explanation, 3)],
      ['word', () => overlayPng(explanation, -1)],
      ['frame', () => overlayPng(explanation, 0, { frame: 1 })],
      ['view.layer', () => overlayPng(explanation, 0, { view: { layer: 2 } })],
      ['view.head', () => overlayPng(explanation, 0, { view: { layer: 0, head: 2 } })],
      ['view', () => overlayPng(explanation, 0, { view: 'sideways' as never })],
      ['maxSide', () => overlayPng(explanation, 0, { maxSide: 0 })],
    ];
    for (const [path, draw] of odd) assert.throws(draw, (e) => e instanceof OptionError && e.path === path);
  });
});
