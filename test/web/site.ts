/** The page of web/, built once and served as plain files under a path, and a browser that looks at it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import type { Page } from 'playwright-core';
import { ROOT } from '../support/fixtures.js';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.gif': 'image/gif',
};

/** A static host; any path below which the page stands. */
export interface Site {
  readonly url: string;
  /** The folder that was built. */
  readonly folder: string;
  /** Paths that were asked for. */
  readonly asked: string[];
  /** Answers nothing from now on, as if there were no network. */
  stop(): void;
  close(): Promise<void>;
}

/** Without what mocha's own loader of TypeScript is told. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, ...rest } = process.env;
  return rest;
}

export async function openSite(): Promise<Site> {
  const folder = mkdtempSync(join(tmpdir(), 'image2text-web-'));
  const vite = `${ROOT}node_modules/vite/bin/vite.js`;
  const options = ['--config', 'web/vite.config.mjs', '--outDir', folder, '--logLevel', 'error', '--bypass-lock'];
  execFileSync(process.execPath, [vite, 'build', 'web', ...options], {
    cwd: ROOT,
    stdio: 'pipe',
    env: plainEnvironment(),
  });
  const asked: string[] = [];
  let stopped = false;
  const server: Server = createServer((request, response) => {
    if (stopped) {
      request.socket.destroy();
      return;
    }
    const path = new URL(`http://x${request.url}`).pathname.replace('/some/path/', '');
    asked.push(path);
    const file = join(folder, path === '' ? 'index.html' : path);
    const found = statSync(file, { throwIfNoEntry: false })?.isFile() === true;
    response.writeHead(found ? 200 : 404, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
    response.end(found ? readFileSync(file) : undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/some/path/`,
    ...{ folder, asked },
    stop() {
      stopped = true;
      server.closeAllConnections();
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true });
    },
  };
}

/** Waits until the caption stands, every word of it explained. */
export async function captionOf(page: Page, expected: string): Promise<void> {
  await page.waitForFunction(
    (text) =>
      document.querySelector('#caption')?.textContent === text &&
      document.querySelector('#caption')?.getAttribute('aria-busy') === 'false',
    expected,
  );
}
