import assert from 'node:assert/strict';
import fc from 'fast-check';
import { seededRandom } from '../../src/generation/generate.js';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { epochOrder, padBatch, randomResizedCrop, readPairs, tokenizePair } from '../../src/training/data.js';
import { useBackend } from '../support/backends.js';
import { loadDemo } from './support.js';

const IGNORED = -100;

describe('pairs as tokens', () => {
  let tokenizer: Tokenizer;
  before(async () => {
    await useBackend('cpu');
    const model = await loadDemo();
    ({ tokenizer } = model);
    model.dispose();
  });
  const ids = (text: string): number[] => [...tokenizer.encode(text, { addSpecialTokens: false })];
  const pairOf = (text: string, more: object = {}, maxTokens = 40) =>
    tokenizePair(tokenizer, { image: 'x.png', text, ...more }, 'x', maxTokens);

  it('text and its end are learned, [CLS], prompt and question are not', () => {
    const { ids: row, labels, promptIds } = pairOf('a red book');
    assert.deepEqual(row, [tokenizer.clsId, ...ids('a red book'), tokenizer.sepId]);
    assert.deepEqual(labels, [IGNORED, ...ids('a red book'), tokenizer.sepId]);
    assert.deepEqual(promptIds, [tokenizer.clsId]);
    for (const more of [{ prompt: 'a photo of' }, { question: 'a photo of' }]) {
      const found = pairOf('a red book', more);
      const before = ids('a photo of');
      assert.deepEqual(found.ids, [tokenizer.clsId, ...before, ...ids('a red book'), tokenizer.sepId]);
      const silent = [tokenizer.clsId, ...before].map(() => IGNORED);
      assert.deepEqual(found.labels, [...silent, ...ids('a red book'), tokenizer.sepId]);
      assert.equal(found.isCut, false);
    }
  });

  it('what is longer than the limit is cut as the original cuts it: each to the limit, both to their last tokens', () => {
    const text = ids('a red book a blue mug');
    const long = pairOf('a red book a blue mug', {}, 4);
    assert.deepEqual(long.ids, [tokenizer.clsId, ...text.slice(0, 4), tokenizer.sepId]);
    assert.equal(long.isCut, true);
    const prompt = ids('a photo of');
    const both = pairOf('a red book', { prompt: 'a photo of' }, 5);
    assert.deepEqual(both.ids, [tokenizer.clsId, ...[...prompt, ...ids('a red book')].slice(-3), tokenizer.sepId]);
    assert.equal(both.labels.filter((label) => label !== IGNORED).length, 4);
  });

  it('rows of a batch are padded, and padding is never learned', () => {
    const batch = padBatch([pairOf('a red book'), pairOf('a')], tokenizer.padId);
    assert.deepEqual(
      batch.ids.map((row) => row.length),
      [5, 5],
    );
    assert.deepEqual(batch.ids[1]!.slice(3), [tokenizer.padId, tokenizer.padId]);
    assert.deepEqual(batch.labels[1]!.slice(3), [IGNORED, IGNORED]);
  });

  it('come from any async iterable', async () => {
    async function* made() {
      yield { image: 'a.png', text: 'a red book' };
      yield new Error('no such line');
      yield { image: 'b.png', text: '  ' };
      yield { image: 'c.png', text: 'a blue mug' };
    }
    const skipped: string[] = [];
    const pairs = await readPairs(made(), tokenizer, 40, (source, error) =>
      skipped.push(`${source}: ${error.message}`),
    );
    assert.deepEqual(
      pairs.map(({ source }) => source),
      ['pair 1', 'pair 4'],
    );
    assert.match(skipped.join('\n'), /^pair 2: no such line\npair 3: .*expected a text/);
    await assert.rejects(
      readPairs(7 as never, tokenizer, 40, () => {}),
      /expected pairs/,
    );
  });
});

describe('the order of an epoch', () => {
  it('has every pair once, another order in every epoch, the same by the same seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), fc.nat(9), fc.nat(), (count, epoch, seed) => {
        const order = epochOrder(count, epoch, seed, true);
        assert.deepEqual(
          [...order].sort((a, b) => a - b),
          [...Array(count).keys()],
        );
        assert.deepEqual(epochOrder(count, epoch, seed, true), order);
        assert.deepEqual([...epochOrder(count, epoch, seed, false)], [...Array(count).keys()]);
        if (count > 20) assert.notDeepEqual(epochOrder(count, epoch + 1, seed, true), order);
      }),
      { seed: 1, numRuns: 100 },
    );
  });
});

describe("the original's augmentation", () => {
  /** An image whose pixels say where they are. */
  const image = (width: number, height: number) => ({
    width,
    height,
    data: Uint8Array.from({ length: width * height * 3 }, (_, i) => {
      const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
      return i % 3 === 0 ? x : i % 3 === 1 ? y : 0;
    }),
  });

  it('keeps 0.8 to 1 of the area in a ratio of 3/4 to 4/3, anywhere', () => {
    const size = 100;
    const areas: number[] = [];
    const lefts: number[] = [];
    for (let seed = 0; seed < 300; seed++) {
      // Resized to one pixel for every pixel of the image, the slopes of the corners' values tell the part.
      const { data, width, height } = randomResizedCrop(
        image(size, size),
        { width: size, height: size },
        seededRandom(seed),
      );
      assert.deepEqual([width, height], [size, size]);
      const at = (x: number, y: number, channel: number) => data[(y * size + x) * 3 + channel]!;
      const [w, h] = [at(size - 1, 0, 0) - at(0, 0, 0) + 1, at(0, size - 1, 1) - at(0, 0, 1) + 1];
      areas.push((w * h) / size ** 2);
      lefts.push(at(0, 0, 0));
      assert.ok(w / h > 3 / 4 - 0.03 && w / h < 4 / 3 + 0.03, `${w} by ${h}`);
    }
    assert.ok(Math.min(...areas) > 0.78 && Math.min(...areas) < 0.83, `${Math.min(...areas)}`);
    assert.ok(Math.max(...areas) > 0.97 && Math.max(...areas) <= 1, `${Math.max(...areas)}`);
    assert.ok(new Set(lefts).size > 10);
  });

  it('takes the middle of an image that is too long for such a part', () => {
    const { data } = randomResizedCrop(image(250, 20), { width: 27, height: 20 }, seededRandom(1));
    const center = data[(10 * 27 + 13) * 3]!;
    assert.ok(Math.abs(center - 125) <= 1, `${center}`);
  });
});
