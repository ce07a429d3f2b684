import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Browser } from 'playwright-core';
import { decodeImage } from '../../src/image/decode.js';
import { launchChromium } from '../support/chromium.js';
import { EXAMPLES, readBin } from '../support/fixtures.js';
import { ISOLATED, openSite, type TestPage } from './site.js';

const IMAGE = 'blue-mug-juice.png';

describe('images that a page shows', () => {
  let browser: Browser;
  let site: TestPage;
  before(async function () {
    browser = await launchChromium(this);
    site = await openSite(browser, ISOLATED);
  });
  after(async () => {
    await site?.close();
    await browser?.close();
  });

  it('have the pixels of their files, as image, canvas, bitmap, frame and in a worker', async () => {
    const { data, width, height } = await decodeImage(readBin(`${EXAMPLES}${IMAGE}`), { file: IMAGE });
    const expected = { width, height, hash: createHash('sha256').update(data).digest('hex') };
    const seen = (await site.inPage('pixels', { image: IMAGE })) as Record<string, typeof expected>;
    const inWorker = (await site.inWorker('pixels', { image: IMAGE })) as typeof seen;
    assert.deepEqual(Object.keys(seen), ['bitmap', 'offscreen', 'frame', 'image', 'canvas']);
    assert.deepEqual(Object.keys(inWorker), ['bitmap', 'offscreen', 'frame']);
    for (const [kind, pixels] of [...Object.entries(seen), ...Object.entries(inWorker)]) {
      assert.deepEqual(pixels, expected, kind);
    }
  });

  it('are refused by name where they are not loaded, or of another origin', async () => {
    const refused = (await site.inPage('refusedPixels')) as string[];
    assert.match(refused[0]!, /not-loaded/);
    assert.match(refused[1]!, /other-origin/);
  });
});
