import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { DEMO, readBin } from '../support/fixtures.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import { captionOf, openSite, type Site } from './site.js';

const MUG = 'a blue mug with the word juice on it';
const SHIRT = 'a black shirt that says press';
const REPO = 'owner/demo';

/** What takes long or needs a browser of its own. */
describe('the page, in harder conditions', function () {
  this.timeout(240_000);
  let browser: Browser;
  let site: Site;
  let hub: LocalHub;
  before(async function () {
    browser = await launchChromium(this);
    site = await openSite();
    hub = await startHub();
    const files = readdirSync(DEMO).map((name) => [
      name,
      { content: readBin(`${DEMO}${name}`), lfs: /safetensors$/.test(name) },
    ]);
    hub.commit(REPO, Object.fromEntries(files));
    hub.handler = (_, response) => {
      response.setHeader('access-control-allow-origin', '*');
      return false;
    };
  });
  after(async () => {
    await browser?.close();
    await hub?.close();
    await site?.close();
  });

  const open = async (context: BrowserContext): Promise<Page> => {
    const page = await context.newPage();
    await page.goto(site.url);
    await captionOf(page, MUG);
    return page;
  };
  /** Pages without service workers are not isolated here: the host sends no headers. */
  const plain = () => browser.newContext({ serviceWorkers: 'block' });

  it('works where nothing isolates it, with one thread', async () => {
    const context = await plain();
    const page = await open(context);
    assert.equal(await page.evaluate(() => crossOriginIsolated), false);
    assert.match((await page.textContent('#times'))!, /simd, 1 thread$/);
    await context.close();
  });

  it('a worker that is lost is said to be, and another one goes on', async () => {
    const context = await plain();
    const page = await open(context);
    await page.workers()[0]!.evaluate('self.close()');
    await page.click('[title="A shirt"]');
    await page.waitForFunction(() => /worker has ended/.test(document.querySelector('#problem')!.textContent!));
    await captionOf(page, SHIRT);
    await context.close();
  });

  it('two tabs work side by side', async () => {
    const context = await browser.newContext();
    const first = await open(context);
    const second = await open(context);
    await Promise.all([first, second].map((page) => page.click('[title="A shirt"]')));
    await Promise.all([first, second].map((page) => captionOf(page, SHIRT)));
    await context.close();
  });

  it('a download from the Hub is paused, goes on where it was, is kept and cleared', async () => {
    const context = await plain();
    const parts: string[] = [];
    let hold: Promise<void> | undefined;
    await context.route('https://huggingface.co/**', async (route) => {
      const request = route.request();
      const { pathname, search } = new URL(request.url());
      const range = request.headers()['range'];
      if (range !== undefined && pathname.endsWith('model.safetensors')) parts.push(range);
      if (range?.startsWith('bytes=0-') === false) await hold;
      const response = await route.fetch({ url: `${hub.url}${pathname}${search}` });
      await route.fulfill({ response }).catch(() => undefined); // the page no longer waits
    });
    const page = await open(context);
    let release = (): void => undefined;
    hold = new Promise((resolve) => {
      release = resolve;
    });
    await page.click('#open-settings');
    await page.fill('#repo', REPO);
    await page.click('#model-form button[type=submit]');
    await page.waitForFunction(() => (document.querySelector('#progress') as HTMLProgressElement).value > 20);
    await page.click('#pause');
    await page.waitForFunction(() => /Paused/.test(document.querySelector('#progress-text')!.textContent!));
    hold = undefined;
    release();
    await page.click('#pause');
    await page.waitForFunction(() => /^Ready/.test(document.querySelector('#progress-text')!.textContent!));
    const first = parts.filter((range) => range.startsWith('bytes=0-'));
    assert.ok(new Set(parts).size > 1, parts.join());
    assert.equal(first.length, 1, parts.join());
    await page.waitForFunction(() => / MB of checkpoints/.test(document.querySelector('#cache')!.textContent!));
    await page.click('#clear');
    await page.waitForFunction(() => /No downloaded/.test(document.querySelector('#cache')!.textContent!));
    await page.click('#close-settings');
    await captionOf(page, MUG);
    await context.close();
  });

  it('files from the disk, and files that are no checkpoint', async () => {
    const context = await plain();
    const page = await open(context);
    await page.click('#open-settings');
    await page.setInputFiles(
      '#model-files',
      readdirSync(DEMO).map((name) => `${DEMO}${name}`),
    );
    await page.waitForFunction(() => document.querySelector('#model-name')?.textContent === 'Your files');
    await page.waitForFunction(() => document.documentElement.dataset['model'] === 'Your files');
    await page.setInputFiles('#model-files', `${DEMO}vocab.txt`);
    await page.waitForFunction(() => /config.json/.test(document.querySelector('#progress-text')!.textContent!));
    await context.close();
  });

  it('100 captions leave nothing behind in the page', async () => {
    const context = await browser.newContext();
    const page = await open(context);
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    const session = await context.newCDPSession(page);
    await session.send('Performance.enable');
    /** Used memory of the page's own scripts after a collection; a worker's is not in it. */
    const memory = async () => {
      await session.send('HeapProfiler.collectGarbage');
      const { metrics } = await session.send('Performance.getMetrics');
      return metrics.find(({ name }) => name === 'JSHeapUsedSize')!.value;
    };
    const round = async () => {
      for (const [title, text] of [
        ['A shirt', SHIRT],
        ['A mug', MUG],
      ] as const) {
        await page.click(`[title="${title}"]`);
        await captionOf(page, text);
      }
    };
    for (let n = 0; n < 10; n++) await round();
    const before = await memory();
    for (let n = 0; n < 50; n++) await round();
    const growth = (await memory()) - before;
    console.log(`      growth over 100 captions: ${(growth / 1e6).toFixed(2)} MB of ${(before / 1e6).toFixed(0)} MB`);
    assert.ok(growth < 2e6, `${growth} bytes`);
    await context.close();
  });
});
