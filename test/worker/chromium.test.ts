import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { FEW } from '../browser/expected.js';
import { ISOLATED } from '../browser/site.js';
import { launchChromium } from '../support/chromium.js';
import { ROOT } from '../support/fixtures.js';

/** Most bytes that a page loads for a model in a worker, minified: tfjs is 200 kB, so that none of it can be in there. */
const CLIENT_BYTES = 20_000;

const bundle = async (entry: string) => {
  const { outputFiles } = await build({
    ...{ entryPoints: [`${ROOT}${entry}.ts`], bundle: true, splitting: true, format: 'esm', minify: true },
    ...{ outdir: '/', write: false, logLevel: 'error' },
  });
  return outputFiles;
};

describe('generative-image2text/worker in Chromium', () => {
  let browser: Browser;
  let page: Page;
  let server: Server;
  let files: ReadonlyMap<string, Uint8Array>;
  before(async function () {
    browser = await launchChromium(this);
    const entries = await Promise.all(['test/worker/page', 'src/worker'].map(bundle)); // apart, as bundlers build workers
    files = new Map(entries.flat().map(({ path, contents }) => [path, contents]));
    server = createServer(({ url = '/' }, response) => {
      const file = /^\/(?:examples|weights\/demo)\/[\w.-]+$/.test(url) ? `${ROOT}${url.slice(1)}` : '';
      const contents =
        url === '/'
          ? '<!doctype html><title>test</title><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>'
          : (files.get(url) ?? (existsSync(file) ? readFileSync(file) : undefined));
      const type = url === '/' ? 'text/html' : url.endsWith('.js') ? 'text/javascript' : 'application/octet-stream';
      response.writeHead(contents === undefined ? 404 : 200, { ...ISOLATED, 'content-type': type }).end(contents);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await page.waitForFunction('"ask" in globalThis');
  });
  after(async () => {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
  });
  const ask = (name: string) =>
    page.evaluate(([task, given]) => (globalThis as any).ask(task, given), [name, { name: FEW[0]!.name }] as const);

  it('takes images in every form that a page has, copied or given away', async () => {
    const { backend, texts, emptied, pieces } = await ask('forms');
    assert.equal(backend, 'simd');
    assert.equal(Object.keys(texts).length, 16);
    for (const [form, text] of Object.entries(texts)) assert.equal(text, FEW[0]!.text, form);
    assert.deepEqual(emptied, ['bytes', 'bitmap', 'frame', 'imageData']);
    assert.equal(pieces.join(''), FEW[0]!.text);
    assert.ok(pieces.length > 3);
  });

  it('a worker that was ended, or never started, rejects every call with a typed error', async () => {
    assert.deepEqual(await ask('lost'), [
      ...Array.from({ length: 3 }, () => 'BackendError worker-lost'),
      'BackendError worker-failed',
    ]);
  });

  it('the page loads the client alone', () => {
    const [, { length }] = [...files].find(([path]) => path === '/page.js')!;
    const text = new TextDecoder().decode(files.get('/page.js'));
    const chunks = [...text.matchAll(/from"\.(\/[\w-]+\.js)"/g)].map(([, path]) => files.get(path!)!.length);
    const bytes = chunks.reduce((sum, size) => sum + size, length);
    console.log(`      the client of a worker: ${(bytes / 1000).toFixed(1)} kB minified`);
    assert.ok(bytes < CLIENT_BYTES, `${bytes} bytes`);
  });
});
