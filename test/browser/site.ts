import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { ROOT } from '../support/fixtures.js';
import type { ProbeResult, ProbeTask } from './probe.js';

/** The headers with which browsers let threads share memory. */
export const ISOLATED = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};

export type Answer = ProbeResult & { readonly compiled: readonly number[] };

/** A page of the test site, and ways to have things done in it. */
export interface TestPage {
  readonly page: Page;
  /** What the page or its workers complained of. */
  readonly complaints: readonly string[];
  /** Paths that the server was asked for since the page was opened. */
  readonly asked: readonly string[];
  /** Runs a task of entry.ts in the page's main thread, … */
  inPage(name: string, given?: object): Promise<unknown>;
  /** … or in its dedicated worker, which is started the first time. */
  inWorker(name: string, given?: object): Promise<unknown>;
  /** The same for the task that all tests are about; its threads may be made of a file of their own. */
  probe(where: 'page' | 'worker', task: ProbeTask & { readonly threadFile?: string }): Promise<Answer>;
  /** Waits until there are `count` workers, nested ones included; the test's time limit ends it. */
  workers(count: number): Promise<void>;
  close(): Promise<void>;
}

const PAGE =
  '<!doctype html><title>test</title><link rel="icon" href="data:,"><script type="module" src="/entry.js"></script>';

let bundled: Promise<ReadonlyMap<string, Uint8Array>> | undefined;

async function bundle(): Promise<ReadonlyMap<string, Uint8Array>> {
  const { outputFiles } = await build({
    entryPoints: ['entry', 'thread'].map((name) => `${ROOT}test/browser/${name}.ts`),
    bundle: true,
    splitting: true,
    format: 'esm',
    minify: true,
    outdir: '/',
    write: false,
  });
  return new Map(outputFiles.map(({ path, contents }) => [path, contents]));
}

const WASM_BACKEND = `${ROOT}node_modules/@tensorflow/tfjs-backend-wasm/dist/`;

function contentsOf(path: string, files: ReadonlyMap<string, Uint8Array>): string | Uint8Array | undefined {
  if (path === '/') return PAGE;
  const known = files.get(path);
  if (known !== undefined) return known;
  const [, folder, name] = /^\/(examples|weights\/demo|wasm)\/([\w.-]+)$/.exec(path) ?? [];
  if (folder === undefined) return undefined;
  const file = folder === 'wasm' ? `${WASM_BACKEND}${name}` : `${ROOT}${path.slice(1)}`;
  return existsSync(file) ? readFileSync(file) : undefined;
}

const typeOf = (path: string): string => {
  if (path === '/') return 'text/html; charset=utf-8';
  if (path.endsWith('.js')) return 'text/javascript; charset=utf-8';
  return path.endsWith('.wasm') ? 'application/wasm' : 'application/octet-stream';
};

/** Serves the test site with these headers, and opens its page. */
export async function openSite(browser: Browser, headers: Readonly<Record<string, string>>): Promise<TestPage> {
  bundled ??= bundle();
  const files = await bundled;
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url!;
    asked.push(path);
    const contents = contentsOf(path, files);
    response.writeHead(contents === undefined ? 404 : 200, { ...headers, 'content-type': typeOf(path) }).end(contents);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (!/404/.test(message.text())) complaints.push(message.text()); // files of a checkpoint that need not be there
  });
  page.on('pageerror', (error) => void complaints.push(error.message));
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await page.waitForFunction('"ask" in globalThis');
  const inPage = (name: string, given: object = {}): Promise<unknown> =>
    page.evaluate(([task, data]) => (globalThis as any).ask(task, data), [name, given] as const);
  const inWorker = (name: string, given: object = {}): Promise<unknown> => page.evaluate(askWorker, { name, given });
  return {
    ...{ page, complaints, asked, inPage, inWorker },
    probe: (where, task) => (where === 'page' ? inPage : inWorker)('probe', task) as Promise<Answer>,
    async workers(count) {
      while (page.workers().length !== count) await page.waitForTimeout(20);
    },
    async close() {
      await page.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Runs in the page. */
function askWorker(message: object): Promise<unknown> {
  const scope = globalThis as typeof globalThis & { testWorker?: Worker };
  scope.testWorker ??= new Worker('/entry.js', { type: 'module' });
  const worker = scope.testWorker;
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ('error' in data ? reject(new Error(data.error)) : resolve(data.result));
    worker.onerror = (event) => reject(new Error(event.message ?? 'the worker cannot be loaded'));
    worker.postMessage(message);
  });
}
