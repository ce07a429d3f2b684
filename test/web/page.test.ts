import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, Page } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { EXAMPLES } from '../support/fixtures.js';
import { captionOf, openSite, type Site } from './site.js';

/** Most bytes of JavaScript before the model. */
const FIRST_PAINT = 100_000;
const MUG = 'a blue mug with the word juice on it';
const SHIRT = 'a black shirt that says press';

describe('the page', () => {
  let browser: Browser;
  let site: Site;
  let page: Page;
  const complaints: string[] = [];
  before(async function () {
    browser = await launchChromium(this, ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']);
    site = await openSite();
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    page = await context.newPage();
    page.on('pageerror', (error) => void complaints.push(error.message));
    await page.goto(site.url);
  });
  after(async () => {
    await browser?.close();
    await site?.close();
  });

  it('describes the first example by itself, isolated by its service worker', async () => {
    await captionOf(page, SHIRT);
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    assert.match((await page.textContent('#times'))!, /tokens\/s.*simd, \d+ thread/);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
  });

  it('loads little JavaScript before the model', () => {
    const html = readFileSync(`${site.folder}/index.html`, 'utf8');
    const scripts = [...html.matchAll(/(?:src|href)="\.\/(assets\/[^"]+\.js)"/g)].map(([, path]) => path!);
    const bytes = scripts.reduce((sum, path) => sum + statSync(`${site.folder}/${path}`).size, 0);
    console.log(`      JavaScript before the model: ${(bytes / 1000).toFixed(1)} kB`);
    assert.ok(scripts.length > 0 && bytes < FIRST_PAINT, `${bytes} bytes`);
  });

  it('a word that is pointed at or tabbed to lights the image and says how sure it is', async () => {
    await page.click('[title="A mug"]');
    await captionOf(page, MUG);
    const juice = page.locator('.word', { hasText: 'juice' });
    assert.equal(await page.locator('#light.on').count(), 0);
    await juice.hover();
    await page.waitForSelector('#light.on');
    assert.match((await page.textContent('#about'))!, /“juice”: \d+ % sure, [\d.,]+× likelier with the image/);
    await page.locator('.word', { hasText: 'mug' }).hover();
    const [x, y] = await page.$eval('#light', (canvas) => {
      const { width, height } = canvas as HTMLCanvasElement;
      const { data } = (canvas as HTMLCanvasElement).getContext('2d')!.getImageData(0, 0, width, height);
      let least = 0;
      for (let i = 0; i < width * height; i++) if (data[4 * i + 3]! < data[4 * least + 3]!) least = i;
      return [(320 * (least % width)) / width, (320 * Math.floor(least / width)) / height] as const;
    });
    assert.ok(x > 220 && x < 300 && y > 58 && y < 275, `where the mug's handle begins is lit: ${x}, ${y}`);
    await page.locator('.word').first().focus();
    assert.match((await page.textContent('#about'))!, /“a”: .* likely from the words before alone/);
    assert.ok(await page.locator('.word', { hasText: 'with' }).evaluate((word) => word.classList.contains('guess')));
    await page.locator('#question').focus();
    await page.mouse.move(5, 5);
    await page.waitForFunction(() => !document.querySelector('#light')!.classList.contains('on'));
  });

  it('takes a file, a drop, a paste, a link and an example; only an example is marked', async () => {
    const marked = () =>
      page.$$eval('#examples [aria-current]', (found) => found.map((button) => button.getAttribute('title')));
    await page.setInputFiles('#file', `${EXAMPLES}black-shirt-press.jpg`);
    await captionOf(page, SHIRT);
    assert.deepEqual(await marked(), []);
    const bytes = readFileSync(`${EXAMPLES}blue-mug-juice.png`).toString('base64');
    const given = { bytes, kind: 'drop' };
    const send = ({ bytes, kind }: typeof given) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], 'x.png', { type: 'image/png' }));
      const event =
        kind === 'drop'
          ? new DragEvent('drop', { dataTransfer: data })
          : new ClipboardEvent('paste', { clipboardData: data });
      window.dispatchEvent(event);
    };
    await page.evaluate(send, given);
    await captionOf(page, MUG);
    await page.click('[title="A shirt"]');
    await captionOf(page, SHIRT);
    assert.deepEqual(await marked(), ['A shirt']);
    await page.evaluate(send, { bytes, kind: 'paste' });
    await captionOf(page, MUG);
    await page.click('#link');
    await page.fill('#address', `${site.url}examples/black-shirt-press.jpg`);
    await page.click('#link-form button');
    await captionOf(page, SHIRT);
    assert.deepEqual(await marked(), []);
  });

  it('takes a moving GIF as a video', async () => {
    await page.click('[title="Something that moves"]');
    await page.waitForFunction(() => document.querySelector('#caption')!.textContent === 'a white bottle moves left');
  });

  it('takes the camera, and keeps six frames to go back to', async () => {
    await page.click('#camera');
    await page.waitForFunction(() => document.querySelectorAll('#strip li').length === 6);
    await page.waitForTimeout(500);
    assert.equal(await page.locator('#strip li').count(), 6);
    await page.click('#stop-live');
    assert.equal(await page.locator('#video').isVisible(), false);
    await page.click('#strip li:last-child button');
    await page.waitForFunction(() => document.querySelector('#caption')!.getAttribute('aria-busy') === 'false');
    assert.equal(await page.locator('#strip li').count(), 6, 'the others can still be chosen');
  });

  it('says live what moves, from six frames that are encoded once each, and keeps no more', async () => {
    const context = await browser.newContext();
    const own = await context.newPage();
    await own.addInitScript(() => {
      const scope = window as unknown as { calls: { name: string; args: { kind?: string; frames?: unknown[] }[] }[] };
      scope.calls = [];
      const { postMessage } = Worker.prototype;
      Worker.prototype.postMessage = function (this: Worker, ...given: [unknown, ...unknown[]]) {
        const message = given[0] as { image2text?: string };
        if (message.image2text === 'call') scope.calls.push(message as never);
        return postMessage.apply(this, given as never);
      };
      // The camera is Chromium's; what it shows is a film that the demo knows, a frame each time that the page looks.
      const shown = window.createImageBitmap;
      let film: ImageBitmap[] | undefined;
      let next = 0;
      window.createImageBitmap = (async (source: ImageBitmapSource, ...rest: []) => {
        if (!(source instanceof HTMLVideoElement)) return shown(source, ...rest);
        if (film === undefined) {
          const { body } = await fetch('./examples/video-3.gif');
          const decoder = new ImageDecoder({ data: body!, type: 'image/gif' });
          await decoder.completed;
          film = [];
          for (let n = 0; n < decoder.tracks.selectedTrack!.frameCount; n++)
            film.push(await shown((await decoder.decode({ frameIndex: n })).image));
        }
        return shown(film[next++ % film.length]!);
      }) as typeof createImageBitmap;
    });
    await own.goto(site.url);
    await captionOf(own, SHIRT);
    const tensors = () =>
      own
        .workers()
        .find((one) => /\/worker-[\w-]+\.js$/.test(one.url()))!
        .evaluate(() => (globalThis as any)._tfengine.state.numTensors as number);
    const before = await tensors();
    await own.evaluate(() => void (window as any).calls.splice(0));
    await own.click('#camera');
    const moves = () =>
      [...document.querySelectorAll('#strip button')].some((button) => /moves/.test((button as HTMLElement).title));
    await own.waitForFunction(moves);
    const said = await own.$eval('#strip li:last-child button', (button) => (button as HTMLElement).title);
    await own.waitForFunction(() => (window as any).calls.filter(({ name }: any) => name === 'encode').length >= 20);
    assert.equal(await own.locator('#strip li').count(), 6);
    await own.click('#stop-live');
    await own.waitForFunction(() => document.querySelector('#caption')!.getAttribute('aria-busy') === 'false');
    const calls = await own.evaluate(() =>
      (window as any).calls.map(({ name, args }: any) => ({ name, about: args[0] })),
    );
    const streams = calls.filter(({ name }: any) => name === 'stream').map(({ about }: any) => about);
    const live = streams.filter(({ kind }: any) => kind === 'frames');
    assert.ok(live.length > 6 && streams.length - live.length <= 1, 'and at most one of what it stopped at');
    const handles = live.map(({ frames }: any) =>
      frames.map((frame: any) => {
        assert.equal(frame.kind, 'encoded');
        return frame.handle as number;
      }),
    );
    for (const [n, list] of handles.entries()) {
      assert.equal(list.length, Math.min(n + 1, 6));
      assert.deepEqual(
        list.slice(0, -1),
        (handles[n - 1] ?? []).slice(n < 6 ? 0 : 1),
        'the last five again and a new one',
      );
    }
    console.log(`      ${calls.filter(({ name }: any) => name === 'encode').length} frames live: "${said}"`);
    while ((await tensors()) > before) await own.waitForTimeout(50);
    await context.close();
  });

  it('goes back to a frame that it encoded while live, without encoding it again', async () => {
    await page.click('#camera');
    await page.waitForFunction(() => document.querySelectorAll('#strip li').length === 6);
    // In one go: between finding it and clicking another frame can take its place.
    await page.evaluate(() => document.querySelector<HTMLElement>('#strip li:first-child button')!.click());
    await page.waitForFunction(() => document.querySelector('#caption')!.getAttribute('aria-busy') === 'false');
    assert.equal(await page.locator('#video').isVisible(), false);
    assert.doesNotMatch((await page.textContent('#times'))!, /encoded/);
  });

  it('a question while live is about where it is, at which it stops', async () => {
    await page.click('[title="A shirt"]');
    await captionOf(page, SHIRT);
    await page.click('#camera');
    await page.waitForFunction(() => document.querySelectorAll('#strip li').length === 6);
    await page.fill('#question', 'what color is it?');
    await page.click('#ask-form button');
    await page.waitForFunction(() => !['', '…'].includes(document.querySelector('.talk .a')?.textContent ?? ''));
    assert.equal(await page.locator('#video').isVisible(), false);
    assert.notEqual(await page.textContent('#caption'), SHIRT);
    assert.equal(await page.locator('#strip li').count(), 6);
    console.log(`      stopped at "${await page.textContent('#caption')}"`);
  });

  it('answers, ranks names, compares texts and has alternatives', async () => {
    await page.click('[title="A mug"]');
    await captionOf(page, MUG);
    await page.fill('#question', 'what color is the mug?');
    await page.click('#ask-form button');
    await page.waitForFunction(() => /^blue/.test(document.querySelector('.talk .a')?.textContent ?? ''));
    await page.click('#tab-names');
    await page.click('#names-form button');
    await page.waitForFunction(() => document.querySelectorAll('#bars li').length === 4);
    assert.match((await page.textContent('#bars li'))!, /^a blue mug/);
    await page.keyboard.press('Tab');
    await page.focus('#tab-names');
    await page.keyboard.press('ArrowRight');
    assert.equal(await page.getAttribute('#tab-texts', 'aria-selected'), 'true');
    await page.click('#texts-form button');
    await page.waitForFunction(() => document.querySelectorAll('#scores li').length === 3);
    assert.match((await page.textContent('#scores li'))!, new RegExp(`^${MUG}`));
    await page.click('#tab-others');
    await page.waitForFunction(() => document.querySelectorAll('#alternatives li').length === 4);
    assert.match((await page.textContent('#alternatives li'))!, new RegExp(`^${MUG}`));
  });

  it('learns a thing: photos in, the loss seen, stopped, used, downloaded and loaded again', async () => {
    const points = () => page.$eval('#loss-line', (line) => line.getAttribute('points')!.split(' ').length);
    const photos = (count: number) =>
      page.waitForFunction((n) => document.querySelectorAll('#shots li').length === n, count);
    await page.click('#tab-teach');
    await page.click('#teach-start');
    assert.equal(await page.locator('#lesson').isVisible(), false);
    await page.fill('#thing', 'my new thing');
    await page.setInputFiles('#shot-files', [`${EXAMPLES}white-sign-tower.png`, `${EXAMPLES}blue-mug-dream.jpg`]);
    await photos(2);
    await page.click('#shot-this');
    await photos(3);
    const bytes = readFileSync(`${EXAMPLES}orange-shirt-old.jpg`).toString('base64');
    await page.$eval(
      '#shots',
      (list, bytes) => {
        const data = new DataTransfer();
        const file = [Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))];
        for (const name of ['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg', 'e.jpg'])
          data.items.add(new File(file, name, { type: 'image/jpeg' }));
        list.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true }));
      },
      bytes,
    );
    await photos(8);
    await page.click('#shot-camera');
    await page.waitForFunction(() => (document.querySelector('#shot-video') as HTMLVideoElement).videoWidth > 0);
    await page.click('#shot-take');
    await photos(9);
    await page.click('#shot-take');
    await photos(10);
    assert.equal(await page.locator('#shot-live').isVisible(), false, 'ten are enough');
    assert.equal(await page.isDisabled('#shot-camera'), true);
    for (let n = 10; n > 2; n--) await page.click('#shots li:last-child button');
    await photos(2);
    await page.fill('#teach-steps', '5000');
    await page.click('#teach-start');
    await page.waitForFunction(() => /^Step [2-9]/.test(document.querySelector('#lesson-text')!.textContent!));
    assert.ok((await points()) >= 2);
    await page.click('#teach-stop');
    await page.waitForFunction(() => /^Stopped/.test(document.querySelector('#lesson-text')!.textContent!));
    await page.fill('#teach-steps', '4');
    await page.click('#teach-start');
    await page.waitForSelector('#learned:not(.hidden)');
    assert.equal(await points(), 4);
    assert.match(
      (await page.getAttribute('#loss', 'aria-label'))!,
      /^Loss: [\d.]+ at first, [\d.]+ after 4 of 4 steps$/,
    );
    assert.equal(await page.isChecked('#use-learned'), true);
    const files: { readonly name: string; readonly mimeType: string; readonly buffer: Buffer }[] = [];
    for (const link of await page.locator('#downloads a').all()) {
      const [download] = await Promise.all([page.waitForEvent('download'), link.click()]);
      const name = download.suggestedFilename();
      files.push({ name, mimeType: 'application/octet-stream', buffer: readFileSync(await download.path()) });
    }
    assert.deepEqual(files.map(({ name }) => name).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    await page.uncheck('#use-learned');
    await page.setInputFiles('#adapter-files', files[0]!);
    await page.waitForFunction(() => /adapter/.test(document.querySelector('#problem')!.textContent!));
    await page.setInputFiles('#adapter-files', files);
    await page.waitForFunction(() => /you gave/.test(document.querySelector('#learned-name')!.textContent!));
    assert.equal(await page.isChecked('#use-learned'), true);
    await page.uncheck('#use-learned');
    await captionOf(page, MUG);
  });

  it('says what is wrong with a file in plain words, and goes on', async () => {
    await page.setInputFiles('#file', { name: 'x.png', mimeType: 'image/png', buffer: Buffer.from('no image') });
    await page.waitForFunction(() => /not an image/.test(document.querySelector('#problem')!.textContent!));
    await page.click('[title="A shirt"]');
    await captionOf(page, SHIRT);
    assert.equal(await page.locator('#problem').isVisible(), false);
  });

  it('measures, as JSON', async () => {
    await page.click('#open-settings');
    await page.click('#bench');
    await page.waitForSelector('#copy:not(.hidden)');
    const result = JSON.parse((await page.textContent('#bench-result'))!);
    assert.deepEqual([result.model, result.engine, result.isolated, result.runs], ['demo', 'simd', true, 5]);
    assert.ok(result.encodeMs > 0 && result.tokensPerSecond > 0);
    await page.click('#close-settings');
  });

  it('has nothing that axe finds serious, in light and dark, on a phone, a tablet and a wide screen, and fits them', async () => {
    const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const { width, dialog } of [1280, 768, 360].flatMap((width) =>
        [false, true].map((dialog) => ({ width, dialog })),
      )) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await page.setViewportSize({ width, height: 800 });
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
        if (dialog) await page.click('#open-settings');
        await page.evaluate(axe);
        const violations = (await page.evaluate('axe.run()')) as {
          violations: { id: string; impact: string; nodes: { target: string[] }[] }[];
        };
        const serious = violations.violations
          .filter(({ impact }) => impact === 'serious' || impact === 'critical')
          .map(({ id, nodes }) => `${colorScheme} ${width} ${id}: ${nodes.map(({ target }) => target).join(' ')}`);
        assert.deepEqual(serious, []);
        if (dialog) await page.click('#close-settings');
      }
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  it('moves nothing for those who want it so, and nothing by itself while words arrive', async () => {
    const moving = () =>
      page.evaluate(
        () =>
          [...document.querySelectorAll('*')].filter((element) => {
            const { animationName, transitionDuration } = getComputedStyle(element);
            return animationName !== 'none' || /[1-9]/.test(transitionDuration);
          }).length,
      );
    await page.emulateMedia({ reducedMotion: 'no-preference' });
    assert.ok((await moving()) > 0);
    await page.emulateMedia({ reducedMotion: 'reduce' });
    assert.equal(await moving(), 0);
    await page.evaluate(() => {
      const scope = globalThis as typeof globalThis & { shifts?: string[] };
      scope.shifts = [];
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries() as (PerformanceEntry & { value: number; sources: { node?: Node }[] })[])
          scope.shifts!.push(`${entry.value} ${entry.sources.map(({ node }) => node?.textContent).join('|')}`);
      }).observe({ type: 'layout-shift' });
    });
    await page.evaluate(() => {
      const block = document.createElement('div');
      block.style.height = '120px';
      document.querySelector('main')!.prepend(block);
    });
    await page.waitForFunction(() => (globalThis as typeof globalThis & { shifts?: string[] }).shifts!.length > 0); // they are seen
    await page.evaluate(() => document.querySelector('main > div')!.remove());
    for (const [width, height] of [
      [360, 1500],
      [768, 1400],
      [1440, 900],
    ] as const) {
      await page.setViewportSize({ width, height });
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 300))));
      await page.evaluate(() => (globalThis as typeof globalThis & { shifts?: string[] }).shifts!.splice(0)); // those of the new width
      // Dispatched, not clicked: shifts right after an input of the user do not count as such.
      for (const [title, text] of [
        ['A shirt', SHIRT],
        ['A mug', MUG],
      ] as const) {
        await page.$eval(`[title="${title}"]`, (button) => (button as HTMLElement).click());
        await captionOf(page, text);
      }
      assert.deepEqual(
        await page.evaluate(() => (globalThis as typeof globalThis & { shifts?: string[] }).shifts),
        [],
        `${width} px`,
      );
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  it('works without a network, itself and the demo, after the first visit', async () => {
    await page.waitForFunction(() => document.documentElement.dataset['offline'] === 'ready');
    site.stop();
    await page.reload();
    await captionOf(page, SHIRT);
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    assert.deepEqual(complaints, []);
  });
});
