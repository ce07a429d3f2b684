import assert from 'node:assert/strict';
import { setThreads } from 'tfjs-backend-simd';
import { examine, LESSON, lessonPairs } from '../../examples/few-shot-lora/lesson.js';
import type { Image2Text } from '../../src/image2text/image2text.js';
import { train } from '../../src/training/index.js';
import { useBackend } from '../support/backends.js';
import { loadDemo } from './support.js';

describe('a new thing by LoRA, from forty images', function () {
  this.timeout(1_200_000);
  let model: Image2Text;
  before(async () => {
    await useBackend('simd');
    setThreads(2);
    model = await loadDemo();
  });
  after(() => model.dispose());

  it('is named in at least 90 of 100 images, and 95 of 100 known ones are told as before', async () => {
    const { learned, kept } = await examine(model, async () => {
      const result = await train(model, await lessonPairs(model), LESSON);
      model.useAdapter(result.adapter);
      result.dispose();
    });
    console.log(`      ${100 * learned} of 100 new images, ${100 * kept} of 100 known ones`);
    assert.ok(learned >= 0.9, `${learned}`);
    assert.ok(kept >= 0.95, `${kept}`);
  });
});
