import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Browser, Page } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';
import { FEW } from './expected.js';

/** The example as its page in docs says: one command, then a browser. It runs from dist, as an application would. */
describe('examples/browser-worker', () => {
  let server: ChildProcess;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];
  before(async function () {
    if (!existsSync(`${ROOT}dist/browser.js`)) skipWithout(this, 'build', 'npm run build');
    browser = await launchChromium(this);
    server = spawn(process.execPath, [`${ROOT}examples/browser-worker/serve.mjs`, '0'], { cwd: ROOT });
    const address = await new Promise<string>((resolve, reject) => {
      server.stdout?.once('data', (text) => resolve(String(text).trim()));
      server.stderr?.once('data', (text) => reject(new Error(String(text))));
    });
    page = await browser.newPage({ viewport: { width: 1000, height: 720 } });
    page.on('pageerror', (error) => void complaints.push(error.message));
    page.on('response', (answer) => {
      const optional = /\/(tokenizer|processor_config)\.json$/.test(answer.url());
      if (answer.status() >= 400 && !optional) complaints.push(`${answer.status()} for ${answer.url()}`);
    });
    await page.goto(address);
    await page.waitForSelector('#samples button');
  });
  after(async () => {
    await browser?.close();
    server?.kill();
  });

  /** Waits for the caption of the image that was chosen last. */
  const said = async () => {
    await page.waitForFunction(() => document.querySelector('#status')?.textContent?.endsWith(' ms'));
    return [await page.textContent('#caption'), await page.textContent('#status')];
  };

  it('describes the images that come with it, with threads', async () => {
    for (const { name, text } of FEW) {
      await page.click(`[title="${name}"]`);
      await page.waitForFunction(
        (expected) => document.querySelector<HTMLImageElement>('#image')?.alt === expected,
        text,
      );
      assert.deepEqual([(await said())[0], await page.getAttribute('#image', 'alt')], [text, text]);
    }
    assert.equal(await page.textContent('#isolated'), 'cross-origin isolated');
    const cores = await page.evaluate(() => navigator.hardwareConcurrency);
    assert.equal(page.workers().length, Math.min(cores, 8), 'the worker, and threads for the other cores');
  });

  it('describes a file that is chosen: a WebP, whose decoder is fetched then', async () => {
    const [{ name, text }] = FEW as [(typeof FEW)[number]];
    const base64 = await page.$eval(`[title="${name}"] img`, async (image) => {
      const { naturalWidth: width, naturalHeight: height } = image as HTMLImageElement;
      const canvas = new OffscreenCanvas(width, height);
      canvas.getContext('2d')!.drawImage(image as HTMLImageElement, 0, 0);
      const blob = await canvas.convertToBlob({ type: 'image/webp', quality: 1 });
      return btoa(Array.from(new Uint8Array(await blob.arrayBuffer()), (c) => String.fromCharCode(c)).join(''));
    });
    const buffer = Buffer.from(base64, 'base64');
    assert.equal(buffer.subarray(8, 12).toString(), 'WEBP');
    await page.setInputFiles('#file', { name: 'own.webp', mimeType: 'image/webp', buffer });
    assert.equal((await said())[0], text);
  });

  it('says what is wrong with a file that is no image, and goes on', async () => {
    const buffer = Buffer.from('no image at all');
    await page.setInputFiles('#file', { name: 'own.png', mimeType: 'image/png', buffer });
    await page.waitForFunction(() => document.querySelector('#status')?.textContent?.includes('not-an-image'));
    await page.click(`[title="${FEW[0]!.name}"]`);
    assert.equal((await said())[0], FEW[0]!.text);
    assert.deepEqual(complaints, []);
  });
});
