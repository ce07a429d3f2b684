import assert from 'node:assert/strict';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { FEW } from './expected.js';
import { ISOLATED, openSite, type TestPage } from './site.js';

const { name: image, text } = FEW.find(({ name }) => name.endsWith('.png'))!;

describe('pipeline in a page', () => {
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

  it('says of an address, an element, a canvas and a RawImage what is said in Node; env names the folder of models', async () => {
    const texts = (await site.inPage('pipeline', { image })) as Record<string, string>;
    const kinds = ['address', 'blob', 'rgbImage', 'canvasOfRawImage', 'element', 'canvas'];
    assert.deepEqual(texts, Object.fromEntries(kinds.map((kind) => [kind, text])));
    assert.ok(site.asked.includes('/weights/demo/model.safetensors'));
    const inWorker = await site.inWorker('pipeline', { image });
    assert.deepEqual(inWorker, Object.fromEntries(kinds.slice(0, 4).map((kind) => [kind, text])));
    assert.deepEqual(site.complaints, []);
  });
});
