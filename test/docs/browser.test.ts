import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { EXAMPLES, ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';

const text = readFileSync(`${ROOT}docs/browser.md`, 'utf8');

/** The files that the page shows, by their names: "… `name`:" and a block of code. */
const files = new Map(
  [...text.matchAll(/`([\w.]+\.\w+)`:\n\n```\w+\n([\s\S]*?)```/g)].map(([, name, code]) => [name!, code!]),
);
/** The commands of the block that bundles and serves. */
const commands = /```sh\n(npx esbuild [\s\S]*?)```/.exec(text)![1]!.trim().split('\n');

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** An application with the package installed, and the files of docs/browser.md. */
describe('docs/browser.md', () => {
  let folder = '';
  let server: ChildProcess | undefined;
  let browser: Browser | undefined;
  before(function () {
    if (!existsSync(`${ROOT}dist/browser.js`)) skipWithout(this, 'build', 'npm run build');
    folder = mkdtempSync(join(tmpdir(), 'image2text-docs-'));
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(ROOT, join(folder, 'node_modules/generative-image2text'));
    for (const name of ['@tensorflow', '@jsquash', 'tfjs-backend-simd', '.bin']) {
      symlinkSync(`${ROOT}node_modules/${name}`, join(folder, 'node_modules', name));
    }
  });
  after(async () => {
    await browser?.close();
    server?.kill();
    if (folder !== '') rmSync(folder, { recursive: true });
  });

  it('its files, bundled and served as it says, describe an image in a worker with threads', async function () {
    browser = await launchChromium(this);
    assert.deepEqual([...files.keys()].sort(), ['index.html', 'page.js', 'server.mjs', 'thread.js', 'worker.js']);
    const port = await freePort();
    for (const [name, code] of files) writeFileSync(join(folder, name), code.replaceAll('8000', `${port}`));
    assert.equal(commands.at(-1), 'node server.mjs');
    for (const command of commands.slice(0, -1)) {
      const [program, ...args] = command.split(' ');
      execFileSync(program!, args, { cwd: folder, stdio: 'pipe' });
    }
    server = spawn(process.execPath, ['server.mjs'], { cwd: folder });
    const address = await new Promise<string>((resolve) => {
      server?.stdout?.once('data', (said) => resolve(String(said).trim()));
    });
    const page = await browser.newPage();
    await page.goto(address);
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    await page.setInputFiles('input', `${EXAMPLES}black-shirt-press.jpg`);
    await page.waitForFunction(() => document.querySelector('output')?.textContent !== '');
    assert.equal(await page.textContent('output'), 'a black shirt that says press');
    const cores = await page.evaluate(() => navigator.hardwareConcurrency);
    assert.equal(page.workers().length, Math.min(cores, 8), 'the worker, and threads for the other cores');
  });

  it("a thread's own file is small, and bundles as the worker does", () => {
    const bundled = execFileSync('npx', ['esbuild', 'thread.js', '--bundle', '--format=esm', '--minify'], {
      cwd: folder,
    });
    assert.match(String(bundled), /WebAssembly\.Instance/);
    assert.ok(bundled.length < 1000, `${bundled.length} bytes`);
  });

  it('names links that exist', () => {
    const links = [...text.matchAll(/\]\(([^)#]+)(#[^)]*)?\)/g)].map(([, link]) => link!);
    assert.ok(links.length >= 3);
    assert.deepEqual(
      links.filter((link) => !existsSync(`${ROOT}docs/${link}`)),
      [],
    );
  });
});
