import assert from 'node:assert/strict';
import { type BatchPlan, type DrawnBatch, startDrawing } from '../../examples/train-demo/batches.js';

describe('what examples/train-demo learns at a step', () => {
  const plan: BatchPlan = {
    part: 'images',
    ...{ seed: 3, steps: 1000, images: 6, videos: 2, grid: 8, patchSize: 12 },
    ...{ mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
  };
  let drawing: ReturnType<typeof startDrawing>;
  before(() => {
    drawing = startDrawing(plan);
  });
  after(() => drawing.stop());

  /** The first step from `from` on that has videos, or has none. */
  async function stepWith(videos: boolean, from: number): Promise<DrawnBatch[]> {
    for (let step = from; ; step++) {
      const drawn = await drawing.draw(step);
      if (drawn.length === (videos ? 2 : 1)) return drawn;
    }
  }

  const check = ({ pixels, shape, patches, known }: DrawnBatch, count: number, kept: number): void => {
    assert.equal(
      pixels.length,
      shape.reduce((a, b) => a * b),
    );
    assert.ok(pixels.every((value) => value >= -2 && value <= 2) && pixels.some((value) => value !== pixels[0]));
    assert.equal(patches.length, count);
    for (const row of patches) {
      assert.equal(new Set(row).size, kept);
      assert.equal(row.length, kept);
      assert.ok(row.every((patch) => Number.isInteger(patch) && patch >= 0 && patch < 64));
    }
    for (const [n, { patches: print, letters, word }] of (known && 'print' in known ? known.print : []).entries()) {
      assert.deepEqual(patches[n]!.slice(0, print.length), print); // no print is left out
      assert.ok(print.length > 0 && letters.length === 3 * print.length && word.some((letter) => letter > 0));
      // What is seen of the word in a row of patches are letters of it.
      for (const letter of letters) assert.ok(letter === 0 || word.includes(letter));
    }
  };

  it('reading first, from the print and few other patches; then texts, videos, and at last all patches', async () => {
    const [reading] = await stepWith(false, 0);
    check(reading!, 6, 13);
    assert.deepEqual([reading!.shape, reading!.texts], [[6, 96, 96, 3], []]);
    const [speaking] = await stepWith(false, 500);
    check(speaking!, 6, 23);
    assert.equal(speaking!.texts.length, 6);
    const [images, videos] = await stepWith(true, 700);
    check(images!, 6, 23);
    check(videos!, 12, 15);
    assert.deepEqual(videos!.shape, [2, 6, 96, 96, 3]);
    for (const { text } of videos!.texts) assert.match(text, / moves (left|right)$/);
    const [all, allOfVideos] = await stepWith(true, 900);
    check(all!, 6, 64);
    check(allOfVideos!, 12, 64);
  });

  it('then videos at every step, from the patches of the object, and where it is', async () => {
    const second = startDrawing({ ...plan, part: 'videos' });
    try {
      const [images, videos] = await second.draw(5);
      check(images!, 6, 23);
      check(videos!, 12, 16);
      const { places } = videos!.known as { places: readonly number[] };
      for (const [n, { text }] of videos!.texts.entries()) {
        const moved = places[6 * n + 5]! - places[6 * n]!;
        assert.equal(text.endsWith(' moves right'), moved > 0);
        assert.ok(Math.abs(Math.abs(moved) - 0.23) < 1e-9);
      }
    } finally {
      await second.stop();
    }
  });

  it('depends on the seed and the number of the step alone', async () => {
    const others = [startDrawing(plan), startDrawing({ ...plan, seed: 4 })];
    try {
      await drawing.draw(1);
      const [once, again, seeded] = [await drawing.draw(600), await others[0]!.draw(600), await others[1]!.draw(600)];
      assert.deepEqual(again, once);
      assert.notDeepEqual(seeded, once);
    } finally {
      for (const other of others) await other.stop();
    }
  });
});
