import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import type { Browser } from 'playwright-core';
import { partCount } from '../../src/hub/remote-files.js';
import { launchChromium } from '../support/chromium.js';
import { DEMO, readBin } from '../support/fixtures.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import { FEW } from './expected.js';
import { ISOLATED, openSite, type TestPage } from './site.js';

const REPO = 'owner/demo';

describe('where a page has its checkpoint from', () => {
  let browser: Browser;
  let site: TestPage;
  let hub: LocalHub;
  before(async function () {
    browser = await launchChromium(this);
    hub = await startHub();
    const names = readdirSync(DEMO);
    hub.commit(
      REPO,
      Object.fromEntries(
        names.map((name) => [name, { content: readBin(`${DEMO}${name}`), lfs: /safetensors$/.test(name) }]),
      ),
    );
    hub.handler = (_, response) => {
      response.setHeader('access-control-allow-origin', '*'); // as the Hub does for pages of other origins
      return false;
    };
    site = await openSite(browser, ISOLATED);
  });
  after(async () => {
    await site?.close();
    await hub?.close();
    await browser?.close();
  });

  const caption = () =>
    site.inWorker('captionFromHub', { repo: REPO, endpoint: hub.url, image: FEW[0]!.name }) as Promise<{
      text: string;
      progress: number;
    }>;
  /** What the Hub was asked for since the last time: the listing, and files by their names. */
  const asked = () => {
    const paths = hub.requests.splice(0).map(({ path }) => path);
    return paths.map((path) => (path.startsWith('/api/') ? 'listing' : path.split('/').at(-1)!.split('?')[0]!));
  };

  it('the Hub: it is fetched from another origin, through a redirect, and checked', async () => {
    const { text, progress } = await caption();
    assert.deepEqual([text, progress], [FEW[0]!.text, 100]);
    const names = asked();
    const parts = partCount(readBin(`${DEMO}model.safetensors`).length);
    assert.equal(names.filter((name) => name === 'model.safetensors').length, parts, 'each part once');
    assert.ok(names.includes('listing') && names.includes('vocab.txt'));
  });

  it('the Hub: it comes from the browser the next time, and without any network too', async () => {
    await site.page.evaluate('testWorker.terminate(); testWorker = undefined');
    assert.equal((await caption()).text, FEW[0]!.text);
    assert.deepEqual(asked(), ['listing']);
    await site.page.evaluate('testWorker.terminate(); testWorker = undefined');
    hub.handler = (request) => {
      request.socket.destroy();
      return true;
    };
    assert.equal((await caption()).text, FEW[0]!.text);
    assert.deepEqual([...new Set(asked())], ['listing']);
  });

  it('files that the user chose', async () => {
    await site.page.evaluate("document.body.innerHTML = '<input type=file multiple>'");
    await site.page.setInputFiles(
      'input',
      readdirSync(DEMO).map((name) => `${DEMO}${name}`),
    );
    assert.equal(await site.inPage('captionFromFiles', { image: FEW[0]!.name }), FEW[0]!.text);
  });
});
