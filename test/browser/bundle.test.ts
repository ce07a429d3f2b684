import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, Page } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';
import { FEW } from './expected.js';

/** Most bytes of the file, which docs/browser.md states. */
const BUNDLE_BYTES = 1_400_000;

/** `dist/browser.bundle.js` as a page takes it from another origin, which serves files and nothing else. */
describe('the prebuilt bundle', () => {
  let browser: Browser;
  let page: Page;
  const servers: Server[] = [];
  const asked: string[] = [];
  const serve = async (contentsOf: (path: string) => string | Buffer | undefined): Promise<string> => {
    const server = createServer(({ url = '/' }, response) => {
      asked.push(url);
      const contents = contentsOf(url);
      const type = url.endsWith('.js') ? 'text/javascript' : url === '/' ? 'text/html' : 'application/octet-stream';
      const headers = { 'access-control-allow-origin': '*', 'content-type': type };
      response.writeHead(contents === undefined ? 404 : 200, headers).end(contents);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push(server);
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  };
  const fileOf = (path: string) => (existsSync(ROOT + path) ? readFileSync(ROOT + path) : undefined);
  before(async function () {
    if (!existsSync(`${ROOT}dist/browser.bundle.js`)) skipWithout(this, 'build', 'npm run build');
    browser = await launchChromium(this);
    const cdn = await serve((path) => (/^\/[\w.]+\.js$/.test(path) ? fileOf(`dist${path}`) : undefined));
    const bundle = `${cdn}browser.bundle.js`;
    const site = await serve((path) =>
      path === '/'
        ? `<!doctype html><link rel="icon" href="data:,"><script type="module">
             import * as library from '${bundle}';
             const script = new Blob(["import { serveModel } from '${bundle}'; serveModel();"], { type: 'text/javascript' });
             Object.assign(globalThis, { library, worker: () => new Worker(URL.createObjectURL(script), { type: 'module' }) });
           </script>`
        : fileOf(path.slice(1)),
    );
    page = await browser.newPage();
    await page.goto(site);
    await page.waitForFunction('"library" in globalThis');
  });
  after(async () => {
    await browser?.close();
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  });

  it('captions in the page and in a worker, from one file', async () => {
    const texts = await page.evaluate(async (name) => {
      const { library, worker } = globalThis as any;
      const own = await library.loadImage2Text('./weights/demo');
      const remote = library.connectWorker(worker());
      await remote.load('./weights/demo');
      const image = `${location.origin}/examples/${name}`;
      const captions = [own, remote].map((model) => model.caption(image, { strategy: 'greedy' }));
      return Promise.all(captions.map(async (caption) => (await caption).text));
    }, FEW[0]!.name);
    assert.deepEqual(texts, [FEW[0]!.text, FEW[0]!.text]);
    const scripts = new Set(asked.filter((path) => path.endsWith('.js')));
    assert.deepEqual([...scripts], ['/browser.bundle.js']);
  });

  it('is not larger than its page says', () => {
    const { length } = readFileSync(`${ROOT}dist/browser.bundle.js`);
    console.log(`      dist/browser.bundle.js: ${Math.round(length / 1000)} kB`);
    assert.ok(length < BUNDLE_BYTES, `${length} bytes`);
  });
});
