import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encode } from 'fast-png';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { drawNew, NEW_CAPTION } from '../../examples/few-shot-lora/lesson.js';
import { launchChromium } from '../support/chromium.js';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import { skipWithout } from '../support/skip.js';
import { captionOf, openSite, type Site } from './site.js';

const MUG = 'a blue mug with the word juice on it';
const SHIRT = 'a black shirt that says press';
const REPO = 'owner/demo';

const hasFfmpeg = (): boolean => spawnSync('ffmpeg', ['-version']).status === 0;

/** What takes long or needs a browser of its own. */
describe('the page, in harder conditions', function () {
  this.timeout(600_000);
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
    await captionOf(page, SHIRT);
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
    await page.click('[title="A mug"]');
    await page.waitForFunction(() => /worker has ended/.test(document.querySelector('#problem')!.textContent!));
    await captionOf(page, MUG);
    await context.close();
  });

  it('two tabs work side by side', async () => {
    const context = await browser.newContext();
    const first = await open(context);
    const second = await open(context);
    await Promise.all([first, second].map((page) => page.click('[title="A mug"]')));
    await Promise.all([first, second].map((page) => captionOf(page, MUG)));
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
    while (new Set(parts).size < 2) await page.waitForTimeout(20); // the first part is here and kept
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
    await captionOf(page, SHIRT);
    await context.close();
  });

  it('a disk without room: the model is loaded all the same, and kept where there is room again', async () => {
    const context = await plain();
    await context.route('https://huggingface.co/**', async (route) => {
      const { pathname, search } = new URL(route.request().url());
      await route.fulfill({ response: await route.fetch({ url: `${hub.url}${pathname}${search}` }) });
    });
    const page = await open(context);
    const session = await context.newCDPSession(page);
    const { origin } = new URL(site.url);
    const load = async () => {
      await page.fill('#repo', REPO);
      await page.click('#model-form button[type=submit]');
      await page.waitForFunction(() => /^Ready/.test(document.querySelector('#progress-text')!.textContent!));
    };
    await page.click('#open-settings');
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 100_000 });
    await load();
    await page.waitForFunction(() => /no room/.test(document.querySelector('#cache')!.textContent!));
    assert.equal(await page.evaluate(() => document.documentElement.dataset['model']), REPO);
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 1e9 });
    await load();
    await page.waitForFunction(() =>
      /^[6-9]\.\d MB of checkpoints/.test(document.querySelector('#cache')!.textContent!),
    );
    await page.click('#close-settings');
    await captionOf(page, SHIRT);
    await context.close();
  });

  it('int8 is kept as int8: its size is shown, and it says the same where the Hub is gone', async () => {
    const context = await plain();
    let gone = false;
    let asked = 0;
    await context.route('https://huggingface.co/**', async (route) => {
      asked++;
      if (gone) return route.abort();
      const { pathname, search } = new URL(route.request().url());
      await route.fulfill({ response: await route.fetch({ url: `${hub.url}${pathname}${search}` }) });
    });
    const visit = async () => {
      const page = await open(context);
      await page.click('#open-settings');
      await page.fill('#repo', REPO);
      await page.selectOption('#weights', 'int8');
      await page.click('#model-form button[type=submit]');
      await page.waitForFunction(
        (repo) =>
          document.documentElement.dataset['model'] === repo &&
          /^Ready/.test(document.querySelector('#progress-text')!.textContent!),
        REPO,
      );
      await page.waitForFunction(() =>
        /^2\.\d MB of checkpoints\.$/.test(document.querySelector('#cache')!.textContent!),
      );
      const kept = await page.textContent('#cache');
      await page.click('#close-settings');
      await page.click('[title="A mug"]');
      await captionOf(page, MUG);
      await page.locator('.word').first().focus();
      return { page, said: [kept, await page.locator('.word').evaluateAll((all) => all.map((w) => w.ariaLabel))] };
    };
    const first = await visit();
    await first.page.close();
    gone = true;
    const before = asked;
    const { page, said } = await visit();
    assert.deepEqual(said, first.said);
    assert.equal(asked, before + 1, 'the listing only');
    console.log(`      kept: ${said[0]}`);
    await page.click('#open-settings');
    await page.click('#clear');
    await page.waitForFunction(() => /No downloaded/.test(document.querySelector('#cache')!.textContent!));
    await context.close();
  });

  for (const kind of ['webm', 'mp4', 'recorded'] as const) {
    it(`a video file (${kind}) is sampled into six frames to choose from`, async function () {
      if (kind !== 'recorded' && !hasFfmpeg()) skipWithout(this, 'ffmpeg', 'it makes the video');
      const context = await plain();
      const page = await open(context);
      const buffer = kind === 'recorded' ? await record(page) : film(kind);
      await page.setInputFiles('#file', {
        name: 'film',
        mimeType: kind === 'mp4' ? 'video/mp4' : 'video/webm',
        buffer,
      });
      await page.waitForFunction(() => document.querySelectorAll('#strip li').length === 6);
      await page.waitForFunction(() => document.querySelector('#caption')?.getAttribute('aria-busy') === 'false');
      assert.notEqual(await page.textContent('#caption'), '');
      await page.click('#strip li:first-child button');
      await captionOf(page, MUG);
      await page.click('#strip li:last-child button');
      await captionOf(page, SHIRT);
      await context.close();
    });
  }

  it('a video that cannot be played is said to be one', async () => {
    const context = await plain();
    const page = await open(context);
    await page.setInputFiles('#file', { name: 'x.mp4', mimeType: 'video/mp4', buffer: Buffer.from('no video') });
    await page.waitForFunction(() => /cannot play/.test(document.querySelector('#problem')!.textContent!));
    await context.close();
  });

  it('measurements are copied as JSON', async () => {
    const context = await plain();
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    const page = await open(context);
    await page.click('#open-settings');
    await page.click('#bench');
    await page.click('#copy');
    const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
    assert.deepEqual([copied.model, copied.engine, copied.threads, copied.isolated], ['demo', 'simd', 1, false]);
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

  it('100 captions leave nothing behind in the page, and no tensor in its worker', async function () {
    const eager = await launchChromium(this, ['--enable-blink-features=ForceEagerMeasureMemory']); // a collection at once
    const page = await open(await eager.newContext());
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    const worker = page.workers().find((one) => /\/worker-[\w-]+\.js$/.test(one.url()))!;
    /** Bytes of scripts after a collection, of the page's and of its workers', and what tfjs counts in the model's worker. */
    const memory = async () => {
      const bytes = await page.evaluate(async () => {
        const { breakdown } = await (performance as any).measureUserAgentSpecificMemory();
        const sum = { page: 0, workers: 0 };
        for (const { bytes, attribution } of breakdown as { bytes: number; attribution: { scope: string }[] }[]) {
          if (attribution.some(({ scope }) => scope === 'Window')) sum.page += bytes;
          if (attribution.some(({ scope }) => scope === 'DedicatedWorkerGlobalScope')) sum.workers += bytes;
        }
        return sum;
      });
      const tensors = await worker.evaluate(() => {
        const { numTensors, numBytes } = (globalThis as any)._tfengine.state;
        return { numTensors, numBytes } as { numTensors: number; numBytes: number };
      });
      return { bytes, tensors };
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
    const after = await memory();
    for (const where of ['page', 'workers'] as const) {
      const growth = after.bytes[where] - before.bytes[where];
      console.log(
        `      growth over 100 captions, ${where}: ${(growth / 1e6).toFixed(2)} MB of ${(before.bytes[where] / 1e6).toFixed(1)} MB`,
      );
      // A worker's scripts are collected when it likes, whatever the flag: what it holds for good are tensors.
      if (where === 'page') assert.ok(growth < 2e6, `${growth} bytes`);
    }
    assert.deepEqual(after.tensors, before.tensors);
    assert.ok(before.tensors.numTensors > 100);
    await eager.close();
  });

  it('a whole lesson: ten photos, the loss falls, a new photo is named, and so it is after a reload with the downloaded adapter', async () => {
    const context = await plain();
    let page = await open(context);
    const photos = drawNew(16, 12).map(({ image }, n) => ({
      name: `photo-${n}.png`,
      mimeType: 'image/png',
      buffer: Buffer.from(encode({ ...image, channels: 3 })),
    }));
    const [lesson, others] = [photos.slice(0, 10), photos.slice(10)];
    /** What the page says of photos that were not in the lesson. */
    const said = async (): Promise<string[]> => {
      const captions: string[] = [];
      for (const photo of others) {
        await page.$eval('#caption', (caption) => caption.append(document.createElement('hr'))); // until the next one
        await page.setInputFiles('#file', photo);
        await page.waitForSelector('#caption[aria-busy="false"]:not(:has(hr))', { state: 'attached' });
        captions.push((await page.textContent('#caption'))!);
      }
      return captions;
    };
    const before = await said();
    assert.ok(!before.includes(NEW_CAPTION), before.join());
    await page.click('#tab-teach');
    await page.fill('#thing', NEW_CAPTION);
    await page.setInputFiles('#shot-files', lesson);
    await page.waitForFunction(() => document.querySelectorAll('#shots li').length === 10);
    await page.click('#teach-start');
    await page.waitForSelector('#learned:not(.hidden)');
    const [, first, last] = /loss ([\d.]+) at first, ([\d.]+) in the end/.exec(
      (await page.textContent('#lesson-text'))!,
    )!;
    const after = await said();
    const right = after.filter((text) => text === NEW_CAPTION).length;
    console.log(
      `      loss ${first} to ${last}; "${before[0]}" became "${after[0]}", ${right} of ${others.length} right`,
    );
    assert.ok(Number(last) < 0.5 * Number(first), `${first} to ${last}`);
    assert.equal(await page.$eval('#loss-line', (line) => line.getAttribute('points')!.split(' ').length), 240);
    assert.ok(right >= 4, after.join());
    await page.click('[title="A mug"]');
    await captionOf(page, MUG); // is not forgotten
    const files = [];
    for (const link of await page.locator('#downloads a').all()) {
      const [download] = await Promise.all([page.waitForEvent('download'), link.click()]);
      const buffer = readFileSync(await download.path());
      files.push({ name: download.suggestedFilename(), mimeType: 'application/octet-stream', buffer });
    }
    await page.uncheck('#use-learned');
    assert.deepEqual(await said(), before);
    await page.close();
    page = await open(context);
    assert.deepEqual(await said(), before);
    await page.click('#tab-teach');
    await page.setInputFiles('#adapter-files', files);
    await page.waitForFunction(() => /you gave/.test(document.querySelector('#learned-name')!.textContent!));
    assert.deepEqual(await said(), after);
    await context.close();
  });

  for (const [engine, flags] of [
    ['webgl', ['--use-angle=swiftshader', '--enable-unsafe-swiftshader']],
    ['webgpu', ['--use-angle=swiftshader', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']],
  ] as const) {
    it(`${engine} (SwiftShader), chosen in the page, says the same`, async function () {
      const own = await launchChromium(this, flags);
      const page = await open(await own.newContext({ serviceWorkers: 'block' }));
      await page.click('#open-settings');
      await page.selectOption('#backend', engine);
      await page.click('#model-form button[type=submit]');
      await page.waitForFunction(
        () => !/^(?:Starting|[\d.]+ )/.test(document.querySelector('#progress-text')!.textContent!),
      );
      assert.match((await page.textContent('#progress-text'))!, /^Ready/);
      await page.click('#close-settings');
      await page.waitForFunction(
        (name) => document.querySelector('#times')!.textContent!.includes(`On ${name}`),
        engine,
      );
      await captionOf(page, SHIRT);
      await own.close();
    });
  }

  it('the screen is captioned as it goes, until it is stopped', async function () {
    const own = await launchChromium(this, ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']);
    const page = await open(await own.newContext({ serviceWorkers: 'block' }));
    await page.click('#screen');
    await page.waitForFunction(() => document.querySelectorAll('#strip li').length === 6);
    assert.equal(await page.locator('#problem').isVisible(), false);
    await page.click('#stop-live');
    assert.equal(await page.locator('#video').isVisible(), false);
    await page.click('#strip li:first-child button');
    await page.waitForFunction(() => document.querySelector('#caption')!.getAttribute('aria-busy') === 'false');
    await own.close();
  });
});

/** Two examples for a second each, as a page records a canvas: without a length in the file. */
const record = (page: Page): Promise<Buffer> =>
  page
    .evaluate(async () => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 320 });
      const context = canvas.getContext('2d')!;
      const recorder = new MediaRecorder(canvas.captureStream(20), { videoBitsPerSecond: 8e6 });
      const pieces: Blob[] = [];
      recorder.ondataavailable = ({ data }) => void pieces.push(data);
      const ended = new Promise((resolve) => recorder.addEventListener('stop', resolve));
      let started = false;
      for (const name of ['blue-mug-juice.png', 'black-shirt-press.jpg']) {
        const image = await createImageBitmap(await (await fetch(`./examples/${name}`)).blob());
        for (let n = 0; n < 20; n++) {
          context.drawImage(image, 0, 0, 320, 320);
          if (!started) recorder.start();
          started = true;
          await new Promise((resolve) => setTimeout(resolve, 60));
        }
      }
      recorder.stop();
      await ended;
      const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    })
    .then((text) => Buffer.from(text, 'base64'));

/** The same by ffmpeg, three seconds each. */
function film(ending: 'webm' | 'mp4'): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'image2text-film-'));
  const file = join(folder, `film.${ending}`);
  const stills = ['blue-mug-juice.png', 'black-shirt-press.jpg'].flatMap((name) => [
    '-loop',
    '1',
    '-t',
    '3',
    '-i',
    `${EXAMPLES}${name}`,
  ]);
  const filter = '[0:v]scale=320:320,setsar=1[a];[1:v]scale=320:320,setsar=1[b];[a][b]concat=n=2:v=1';
  const coder = ending === 'webm' ? ['-c:v', 'libvpx', '-b:v', '4M'] : ['-c:v', 'libx264', '-crf', '12'];
  try {
    execFileSync('ffmpeg', [...stills, '-filter_complex', filter, '-r', '10', '-pix_fmt', 'yuv420p', ...coder, file], {
      stdio: 'pipe',
    });
    return readFileSync(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
