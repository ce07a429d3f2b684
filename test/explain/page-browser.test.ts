import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { renderPage } from '../../src/index.js';
import { launchChromium } from '../support/chromium.js';
import { madeUp } from './made-up.js';

describe('the page in a browser', () => {
  let browser: Browser;
  let page: Page;
  const said: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'explain-'));

  before(async function () {
    browser = await launchChromium(this);
    page = await browser.newPage({ viewport: { width: 1100, height: 800 }, reducedMotion: 'reduce' });
    page.on('console', (message) => void said.push(message.text()));
    page.on('pageerror', (error) => void said.push(String(error)));
    page.on('request', (request) => {
      if (!/^(?:file|data):/.test(request.url())) said.push(request.url());
    });
    const made = madeUp({ width: 90, height: 60 });
    const even = { patches: new Float32Array(4).fill(0.0004), classToken: 0.0006, text: 0.9978 };
    const words = made.words.map((word, n) => (n === 2 ? { ...word, rollout: even } : word));
    const explanation = { ...made, words };
    const file = join(folder, 'page.html');
    writeFileSync(file, renderPage(explanation));
    await page.goto(pathToFileURL(file).href);
  });
  after(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  const text = (selector: string): Promise<string | null> => page.textContent(selector);
  /** Alpha at the middle of each of the 2 by 2 patches. */
  const alphas = (): Promise<number[]> =>
    page.$eval('.veil', (element) => {
      const [w, h] = [(element as HTMLCanvasElement).width, (element as HTMLCanvasElement).height];
      const context = new OffscreenCanvas(w, h).getContext('2d', { willReadFrequently: true })!; // the page's own is never read
      context.drawImage(element as HTMLCanvasElement, 0, 0);
      return [
        [0.25, 0.25],
        [0.75, 0.25],
        [0.25, 0.75],
        [0.75, 0.75],
      ].map(([x, y]) => context.getImageData(Math.floor(x! * w), Math.floor(y! * h), 1, 1).data[3]!);
    });
  const litPatch = async (): Promise<number> => {
    const values = await alphas();
    return values.indexOf(Math.min(...values)); // the veil is thinnest there
  };

  it('opens with a word lit, and lights the patch of the word that is pointed at', async () => {
    assert.deepEqual([await text('#said'), await litPatch()], ['two', 1]);
    await page.hover('.word >> nth=0');
    assert.deepEqual([await text('#said'), await litPatch(), await text('#share-image')], ['one', 0, '40 %']);
    await page.mouse.move(2, 2);
    assert.deepEqual([await text('#said'), await litPatch()], ['two', 1]);
  });

  it('can be walked with the keyboard, and put out', async () => {
    await page.keyboard.press('ArrowLeft'); // from the word that the page opens with, before anything has the focus
    assert.deepEqual([await text('#said'), await litPatch()], ['one', 0]);
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    assert.deepEqual([await text('#said'), await litPatch()], ['end', 3]);
    await page.keyboard.press('Home');
    assert.equal(await text('#said'), 'one');
    assert.equal(await page.$$eval('body.lit', (found) => found.length), 1);
    await page.keyboard.press('Escape');
    assert.equal(await page.$$eval('body.lit', (found) => found.length), 0);
  });

  it('changes view, scale and drawing', async () => {
    await page.click('.word >> nth=0');
    assert.equal(await text('#top'), '40 %');
    await page.click('text=one scale for all words');
    assert.equal(await text('#top'), '80 %');
    await page.click('[data-view="1"]');
    assert.equal(await page.getAttribute('[data-view="1"]', 'aria-pressed'), 'true');
    await page.click('[title="layer 2, head 1"]');
    assert.equal(await page.getAttribute('[data-view="0"]', 'aria-pressed'), 'false');
    await page.click('text=patches as they are');
    await page.click('text=own scale');
    assert.deepEqual([await litPatch(), await text('#top')], [0, '40 %']);
  });

  it('says where attention is spread and where a share is nearly nothing', async () => {
    const isHidden = () => page.$eval('#nowhere', (element) => (element as HTMLElement).hidden);
    await page.click('.word >> nth=2');
    await page.click('[data-view="0"]');
    assert.equal(await isHidden(), true);
    await page.click('[data-view="1"]');
    assert.deepEqual(
      [await isHidden(), await text('#share-token'), await text('#peak')],
      [false, '< 0.1 %', '< 0.1 %'],
    );
    await page.click('[data-view="0"]');
  });

  it('fits a telephone, asks for nothing and complains of nothing', async () => {
    await page.setViewportSize({ width: 360, height: 640 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    assert.deepEqual(said, []);
  });
});
