import assert from 'node:assert/strict';
import type { Browser } from 'playwright-core';
import { captionsOf, drawKnown, drawNew, LESSON, lessonPairs } from '../../examples/few-shot-lora/lesson.js';
import type { RgbImage } from '../../src/index.js';
import { useBackend } from '../support/backends.js';
import { launchChromium } from '../support/chromium.js';
import { loadDemo } from '../training/support.js';
import type { LessonImage, LessonResult } from './lesson.js';
import { ISOLATED, openSite } from './site.js';

const inBase64 = (image: RgbImage, text: string): LessonImage => ({
  pixels: Buffer.from(image.data).toString('base64'),
  text,
});

describe('a new thing by LoRA, from forty images, in Chromium', function () {
  this.timeout(1_200_000);
  let browser: Browser;
  before(async function () {
    browser = await launchChromium(this);
  });
  after(() => browser?.close());

  it('is named in at least 90 of 100 images, and 95 of 100 known ones are told as before', async () => {
    await useBackend('simd');
    const model = await loadDemo();
    const fresh = drawNew(100, 13);
    const drawn = drawKnown(200, 14);
    const before = await captionsOf(model, drawn);
    const known = drawn.filter(({ truth }, n) => before[n] === truth).slice(0, 100);
    const pairs = await lessonPairs(model);
    model.dispose();
    const site = await openSite(browser, ISOLATED);
    const asked = [...fresh, ...known];
    const { said, steps, tensors } = (await site.inWorker('teach', {
      ...{ size: 96, threads: 2, options: LESSON },
      pairs: pairs.map(({ image, text }) => inBase64(image as RgbImage, text)),
      asked: asked.map(({ image, truth }) => inBase64(image, truth)),
    })) as LessonResult;
    const right = said.map((text, n) => text === asked[n]!.truth);
    const [learned, kept] = [right.slice(0, 100), right.slice(100)].map((list) => list.filter(Boolean).length);
    console.log(`      ${learned} of 100 new images, ${kept} of ${known.length} known ones`);
    assert.equal(known.length, 100);
    assert.equal(steps.length, LESSON.steps);
    assert.equal(tensors, 0);
    assert.ok(learned! >= 90, `${learned}`);
    assert.ok(kept! >= 95, `${kept}`);
    await site.close();
  });
});
