import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { encodeTensor } from '../../src/checkpoint/encode-tensor.js';
import { generatedStore } from '../../src/checkpoint/generated-weights.js';
import { gitSpec } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { writeCheckpoint } from '../../src/tools/files.js';
import { CHROMIUM } from '../support/chromium.js';
import { ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';
import { ISOLATED } from './site.js';

const CONFIG = { model_type: 'git' };

const WORKER = `
import { loadImage2Text } from '${ROOT}src/browser.ts';
self.onmessage = async ({ data: weights }) => {
  try {
    const model = await loadImage2Text('/model/', { weights });
    const { tokens } = await model.caption('/image.jpg', { strategy: 'greedy', maxNewTokens: 5, minNewTokens: 5 });
    postMessage({ tokens: tokens.length });
  } catch (error) {
    postMessage({ error: String(error.stack) });
  }
};`;

/** What the page does, with nothing attached to the browser: tools for developers keep copies of what comes in. */
const PAGE = `<!doctype html><title>memory</title><script type="module">
  const worker = new Worker('/worker.js', { type: 'module' });
  const say = (said) => fetch('/said', { method: 'POST', body: JSON.stringify(said) });
  worker.onmessage = ({ data }) => say(data);
  worker.onerror = ({ message }) => say({ error: message });
  worker.postMessage(location.hash.slice(1));
</script>`;

/** The most memory that any renderer of the browser with this profile has taken, in MB (Linux keeps it as VmHWM). */
function rendererPeak(profile: string): number {
  const peaks = readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        if (!command.includes('--type=renderer') || !command.includes(profile)) return [];
        return [Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024];
      } catch {
        return []; // ended meanwhile
      }
    });
  return Math.max(...peaks);
}

/** A checkpoint of git-base's size (707 MB of float32) from a server, in a page. */
describe('memory of a page that loads git-base', function () {
  this.timeout(300_000);
  let folder = '';
  let server: Server;
  let address = '';
  let onSaid: (said: { tokens?: number; error?: string }) => void;
  before(async function () {
    if (process.platform !== 'linux') this.skip();
    folder = mkdtempSync(join(tmpdir(), 'image2text-memory-'));
    const store = generatedStore(gitSpec(parseGitConfig(CONFIG)));
    const groups = [...store.values()].map((stored) => encodeTensor(stored, 'f32', { flushed: 0 }));
    await writeCheckpoint(folder, groups, { metadata: { format: 'pt' } });
    writeFileSync(join(folder, 'config.json'), JSON.stringify(CONFIG));
    const special = new Map<number, string>([
      [0, '[PAD]'],
      ...['[UNK]', '[CLS]', '[SEP]', '[MASK]'].map((name, n) => [100 + n, name] as const),
    ]);
    writeFileSync(
      join(folder, 'vocab.txt'),
      Array.from({ length: 30_522 }, (_, id) => special.get(id) ?? `w${id}`).join('\n'),
    );
    const { outputFiles } = await build({
      stdin: { contents: WORKER, resolveDir: ROOT, sourcefile: 'worker.ts' },
      ...{ bundle: true, splitting: true, format: 'esm', minify: true, outdir: '/', write: false },
    });
    const files = new Map(outputFiles.map(({ path, contents }) => [path.replace('stdin', 'worker'), contents]));
    server = createServer((request, response) => {
      const path = request.url!;
      const send = (contents: string | Uint8Array, type = 'text/javascript') =>
        void response.writeHead(200, { ...ISOLATED, 'content-type': type }).end(contents);
      if (path === '/') return send(PAGE, 'text/html');
      if (path === '/said') {
        request.on('data', (text) => onSaid(JSON.parse(String(text))));
        return send('');
      }
      if (files.has(path)) return send(files.get(path)!);
      if (path === '/image.jpg') return send(readFileSync(`${ROOT}examples/black-shirt-press.jpg`), 'image/jpeg');
      const file = join(folder, path.replace('/model/', ''));
      const size = statSync(file, { throwIfNoEntry: false })?.size;
      if (size === undefined) return void response.writeHead(404).end();
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      const [start, end] = [Number(first ?? 0), Math.min(Number(last ?? size), size - 1)];
      const range = first === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${size}` };
      response.writeHead(first === undefined ? 200 : 206, { ...ISOLATED, ...range, 'content-length': end - start + 1 });
      createReadStream(file, { start, end }).pipe(response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  });
  after(() => {
    server?.close();
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });

  for (const [weights, limit] of [
    ['int8', 450],
    ['f32', 1000],
  ] as const) {
    it(`as ${weights}: less than ${limit} MB at any time, a caption included`, async function () {
      if (CHROMIUM === undefined) skipWithout(this, 'chromium', 'Debian: apt-get install chromium');
      const profile = join(folder, `profile-${weights}`);
      const said = new Promise<{ tokens?: number; error?: string }>((resolve) => {
        onSaid = resolve;
      });
      const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', `--user-data-dir=${profile}`];
      const browser = spawn(CHROMIUM, [...flags, `${address}#${weights}`], { stdio: 'ignore' });
      try {
        assert.deepEqual(await said, { tokens: 5 });
        const peak = rendererPeak(profile);
        console.log(`      ${weights}: at most ${peak.toFixed(0)} MB in the renderer`);
        assert.ok(peak > 100 && peak < limit, `${peak} MB`);
      } finally {
        browser.kill();
        await once(browser, 'exit');
      }
    });
  }
});
