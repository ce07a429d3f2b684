import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { type Browser, chromium } from 'playwright-core';
import { loadImage2Text } from '../../src/node.js';
import { CHROMIUM, launchChromium } from '../support/chromium.js';
import { ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';

const run = promisify(execFile);

/** What each project captions: a PNG, and one image for each decoder that is loaded when it is needed. */
const IMAGES = {
  'image.png': `${ROOT}examples/blue-mug-juice.png`,
  'image.webp': `${ROOT}test/fixtures/real/pictures/one-colour-lossless.webp`,
  'image.avif': `${ROOT}test/fixtures/real/pictures/picture.avif`,
};

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};

/** Serves a folder, isolated, so that threads are to be had. */
async function serve(folder: string): Promise<Server> {
  const server = createServer(({ url }, response) => {
    const { pathname } = new URL(`http://localhost${url}`);
    const path = join(folder, pathname === '/' ? 'index.html' : pathname);
    const found = existsSync(path);
    response.writeHead(found ? 200 : 404, {
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
      'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    });
    response.end(found ? readFileSync(path) : '');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

const addressOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;

/** Starts a server of a project; resolves with the address that it prints. */
async function start(folder: string, script: string): Promise<{ child: ChildProcess; address: string }> {
  const env = { ...process.env, NO_COLOR: '1', NEXT_TELEMETRY_DISABLED: '1' };
  const child = spawn('npm', ['run', '-s', ...script.split(' ')], { cwd: folder, env, detached: true });
  const printed: string[] = [];
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (text) => printed.push(String(text)));
  for await (const line of createInterface({ input: child.stdout! })) {
    const address = /http:\/\/localhost:\d+/.exec(line)?.[0];
    if (address) return { child, address: `${address}/` };
  }
  throw new Error(`${script} ended: ${printed.join('')}`);
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  process.kill(-child.pid!, 'SIGTERM');
  await ended;
}

/** Projects as users have them, built by their own bundler from the packed tarballs, and looked at in Chromium. */
describe('bundlers', function () {
  this.timeout(600_000);
  let folder = '';
  let browser: Browser;
  let expected: string[];
  let tarballs: string[];

  before(async function () {
    if (!existsSync(`${ROOT}dist/index.js`)) skipWithout(this, 'build', 'npm run build');
    browser = await launchChromium(this);
    folder = mkdtempSync(join(tmpdir(), 'image2text-bundlers-'));
    const pack = async (...workspace: string[]): Promise<string> => {
      const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder, ...workspace];
      const packed = JSON.parse((await run('npm', args, { cwd: ROOT })).stdout);
      return join(folder, (Object.values(packed)[0] as { filename: string }).filename);
    };
    tarballs = [await pack('--workspace', 'tfjs-backend-simd'), await pack()];
    const model = await loadImage2Text('demo');
    expected = (await model.caption(Object.values(IMAGES))).map(({ text }) => text);
    model.dispose();
    assert.equal(expected[0], 'a blue mug with the word juice on it');
  });
  after(async () => {
    await browser?.close();
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });

  /** Installs a project as its user does, with the images and the checkpoint where its site has them. */
  async function install(name: string, site: string): Promise<string> {
    const project = join(folder, name);
    cpSync(`${ROOT}test/bundlers/${name}`, project, { recursive: true });
    const args = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'];
    await run('npm', [...args, ...tarballs, '@tensorflow/tfjs-core@4.22.0'], { cwd: project });
    mkdirSync(join(project, site), { recursive: true });
    cpSync(`${ROOT}weights/demo`, join(project, site, 'model'), { recursive: true });
    for (const [image, path] of Object.entries(IMAGES)) cpSync(path, join(project, site, image));
    return project;
  }

  const build = (project: string) =>
    run('npm', ['run', '-s', 'build'], { cwd: project, env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' } });

  /** The title that a page gives itself when it has captioned its images. */
  async function look(address: string): Promise<unknown> {
    const page = await browser.newPage();
    try {
      const complaint = page.waitForEvent('pageerror', { timeout: 0 }).then(({ message }) => assert.fail(message));
      complaint.catch(() => undefined); // also where the page is closed
      await page.goto(address);
      const titled = page.waitForFunction(() => document.title.startsWith('{'), undefined, { timeout: 0 });
      await Promise.race([titled, complaint]);
      return JSON.parse(await page.title());
    } finally {
      await page.close();
    }
  }

  for (const name of ['import-map', 'esbuild', 'rollup', 'webpack', 'vite']) {
    it(`${name}: page and worker`, async () => {
      const project = await install(name, name === 'vite' ? 'public' : 'dist');
      await build(project);
      if (name !== 'vite') cpSync(join(project, 'index.html'), join(project, 'dist/index.html'));
      const server = await serve(join(project, 'dist'));
      try {
        assert.deepEqual(await look(addressOf(server)), { captions: expected });
      } finally {
        server.close();
      }
    });
  }

  it('vite: its development server', async () => {
    const { child, address } = await start(join(folder, 'vite'), 'dev');
    try {
      assert.deepEqual(await look(address), { captions: expected });
    } finally {
      await stop(child);
    }
  });

  it('next: a client component with a worker, and a route on the server (Turbopack)', async () => {
    const project = await install('next', 'public');
    await build(project);
    const { child, address } = await start(project, 'start -- --port 0');
    try {
      assert.deepEqual(await look(address), { captions: expected });
      for (const [n, path] of Object.values(IMAGES).entries()) {
        const response = await fetch(`${address}api/caption`, { method: 'POST', body: readFileSync(path) });
        assert.deepEqual(await response.json(), { text: expected[n] });
      }
    } finally {
      await stop(child);
    }
  });

  it('an extension (manifest 3): its service worker, and one of its pages', async () => {
    const project = await install('extension', 'dist');
    await build(project);
    for (const file of ['manifest.json', 'page.html']) cpSync(join(project, file), join(project, 'dist', file));
    const extension = join(project, 'dist');
    const context = await chromium.launchPersistentContext(join(folder, 'profile'), {
      executablePath: CHROMIUM!,
      args: [
        '--headless=new',
        '--no-sandbox',
        `--disable-extensions-except=${extension}`,
        `--load-extension=${extension}`,
      ],
    });
    try {
      const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent('serviceworker'));
      const page = await context.newPage();
      const complaint = page.waitForEvent('pageerror', { timeout: 0 }).then(({ message }) => assert.fail(message));
      complaint.catch(() => undefined); // also where the page is closed
      await page.goto(new URL('page.html', worker.url()).href);
      const titled = page.waitForFunction(() => document.title.startsWith('{'), undefined, { timeout: 0 });
      await Promise.race([titled, complaint]);
      const said = JSON.parse(await page.title());
      assert.deepEqual(said, { captions: expected, background: expected });
    } finally {
      await context.close();
    }
  });
});
