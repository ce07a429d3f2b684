import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { generatedStore } from '../../src/checkpoint/generated-weights.js';
import { planSafetensors } from '../../src/checkpoint/safetensors.js';
import { gitSpec } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { CHROMIUM } from '../support/chromium.js';
import { ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';
import { ISOLATED } from './site.js';

/** What the published checkpoints say, the large one beside what is the same in both. */
const CONFIGS = {
  'git-base': { model_type: 'git' },
  'git-large': {
    model_type: 'git',
    vision_config: {
      ...{ hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24, num_attention_heads: 16 },
      patch_size: 14,
    },
  },
} as const;
type Size = keyof typeof CONFIGS;

const WORKER = `
import { loadImage2Text } from '${ROOT}src/browser.ts';
self.onmessage = async ({ data }) => {
  try {
    const [name, weights] = data.split(',');
    const model = await loadImage2Text(name, { weights, endpoint: location.origin });
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

/** A file of generated float32 weights that nobody has: each range of it is computed when it is asked for. */
function virtualCheckpoint(size: Size): {
  readonly bytes: number;
  read(from: number, to: number): AsyncIterable<Uint8Array>;
} {
  const store = generatedStore(gitSpec(parseGitConfig(CONFIGS[size])));
  const { header, tensors, size: bytes } = planSafetensors([...store.values()], { format: 'pt' });
  return {
    bytes,
    async *read(from, to) {
      if (from < header.length) yield header.subarray(from, to);
      let start = header.length;
      for (const { byteLength, read } of tensors) {
        const [begin, end] = [Math.max(from, start) - start, Math.min(to, start + byteLength) - start];
        // Whole numbers are computed, and some at a time: the server needs little memory as well.
        for (let at = begin - (begin % 4); at < end; at += 2 ** 20) {
          const piece = await read(at, Math.min(at + 2 ** 20, Math.ceil(end / 4) * 4));
          yield piece.subarray(Math.max(begin - at, 0), Math.min(end - at, piece.length));
        }
        start += byteLength;
      }
    },
  };
}

const VOCABULARY = Array.from({ length: 30_522 }, (_, id) => {
  const special = new Map<number, string>([
    [0, '[PAD]'],
    [100, '[UNK]'],
    [101, '[CLS]'],
    [102, '[SEP]'],
    [103, '[MASK]'],
  ]);
  return special.get(id) ?? `w${id}`;
}).join('\n');

/** The most memory that any renderer of the browser with this profile has taken, in MB (Linux keeps it as VmHWM). */
function rendererPeak(profile: string): number {
  const peaks = readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        if (!command.includes('--type=renderer') || !command.includes(profile)) return [];
        return [Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1.024e-3];
      } catch {
        return []; // ended meanwhile
      }
    });
  return Math.max(...peaks);
}

/** Checkpoints of the published sizes (707 and 1,577 MB of float32) from a server, in a page. */
describe('memory of a page that loads a published size', function () {
  this.timeout(600_000);
  let folder = '';
  let server: Server;
  let address = '';
  let onSaid: (said: { tokens?: number; error?: string }) => void;
  let listing: object | undefined;
  before(async function () {
    if (process.platform !== 'linux') this.skip();
    folder = mkdtempSync(join(tmpdir(), 'image2text-memory-'));
    const { outputFiles } = await build({
      stdin: { contents: WORKER, resolveDir: ROOT, sourcefile: 'worker.ts' },
      ...{ bundle: true, splitting: true, format: 'esm', minify: true, outdir: '/', write: false },
    });
    const files = new Map(outputFiles.map(({ path, contents }) => [path.replace('stdin', 'worker'), contents]));
    const checkpoints = { 'git-base': virtualCheckpoint('git-base'), 'git-large': virtualCheckpoint('git-large') };
    server = createServer(async (request, response) => {
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
      if (path.startsWith('/api/')) {
        if (listing === undefined) return void response.writeHead(503).end();
        return send(JSON.stringify(listing), 'application/json');
      }
      // A folder, or `/owner/git-base/resolve/COMMIT/FILE` of a Hub.
      const [, size, name] = path.replace(/^\/owner(\/[\w-]+)\/resolve\/\w+/, '$1').split('/') as [
        string,
        Size,
        string,
      ];
      if (name === 'config.json') return send(JSON.stringify(CONFIGS[size]), 'application/json');
      if (name === 'vocab.txt') return send(VOCABULARY, 'text/plain');
      if (name !== 'model.safetensors') return void response.writeHead(404).end();
      const { bytes, read } = checkpoints[size];
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      const [start, end] = [Number(first ?? 0), Math.min(Number(last ?? bytes), bytes - 1)];
      const range = first === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${bytes}` };
      response.writeHead(first === undefined ? 200 : 206, { ...ISOLATED, ...range, 'content-length': end - start + 1 });
      for await (const piece of read(start, end + 1)) {
        if (response.destroyed) return; // a whole file was not what the page wanted
        if (!response.write(piece)) await once(response, 'drain').catch(() => undefined);
      }
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  });
  after(() => {
    server?.closeAllConnections();
    server?.close();
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });

  it('the sizes are those of weights/models.json', () => {
    const { models } = JSON.parse(readFileSync(`${ROOT}weights/models.json`, 'utf8'));
    for (const size of ['git-base', 'git-large'] as const) {
      const { parameters } = models.find(({ id }: { id: string }) => id === `microsoft/${size}`);
      const count = [...generatedStore(gitSpec(parseGitConfig(CONFIGS[size]))).values()];
      assert.equal(
        count.reduce((sum, { byteLength }) => sum + byteLength / 4, 0),
        parameters,
      );
    }
  });

  /** What a page in Chromium says, and the most memory that its renderer took, in MB. */
  async function load(what: string, profile: string): Promise<number> {
    const said = new Promise<{ tokens?: number; error?: string }>((resolve) => {
      onSaid = resolve;
    });
    const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', `--user-data-dir=${profile}`];
    const browser = spawn(CHROMIUM!, [...flags, `${address}#${what}`], { stdio: 'ignore' });
    try {
      assert.deepEqual(await said, { tokens: 5 });
      return rendererPeak(profile);
    } finally {
      browser.kill();
      await once(browser, 'exit');
    }
  }

  for (const [size, weights, limit] of [
    ['git-base', 'int8', 450],
    ['git-base', 'bf16', 650],
    ['git-base', 'f32', 1000],
    ['git-large', 'int8', 800],
  ] as const) {
    it(`${size} as ${weights}: less than ${limit} MB at any time, a caption included`, async function () {
      if (CHROMIUM === undefined) skipWithout(this, 'chromium', 'Debian: apt-get install chromium');
      const profile = join(folder, `profile-${size}-${weights}`);
      const peak = await load(`/${size}/,${weights}`, profile);
      console.log(`      ${size}, ${weights}: at most ${peak.toFixed(0)} MB in the renderer`);
      assert.ok(peak > 100 && peak < limit, `${peak} MB`);
    });
  }

  it('git-base as int8 from a Hub, kept as int8, and loaded from there: less than 450 MB, too', async function () {
    if (CHROMIUM === undefined) skipWithout(this, 'chromium', 'Debian: apt-get install chromium');
    const { bytes, read } = virtualCheckpoint('git-base');
    const hash = createHash('sha256');
    for await (const piece of read(0, bytes)) hash.update(piece);
    const small = { 'config.json': JSON.stringify(CONFIGS['git-base']), 'vocab.txt': VOCABULARY };
    const siblings = Object.entries(small).map(([rfilename, text]) => ({
      ...{ rfilename, size: Buffer.byteLength(text) },
      blobId: createHash('sha1')
        .update(`blob ${Buffer.byteLength(text)}\0${text}`)
        .digest('hex'),
    }));
    const lfs = { sha256: hash.digest('hex'), size: bytes };
    listing = { sha: '0'.repeat(40), siblings: [...siblings, { rfilename: 'model.safetensors', size: bytes, lfs }] };
    const profile = join(folder, 'profile-hub');
    const first = await load('owner/git-base,int8', profile);
    const kept = diskUse(join(profile, 'Default', 'Service Worker', 'CacheStorage'));
    listing = undefined;
    const second = await load('owner/git-base,int8', profile);
    console.log(
      `      at most ${first.toFixed(0)} MB at first, then ${second.toFixed(0)} MB; ${(kept / 1e6).toFixed(0)} MB on the disk`,
    );
    assert.ok(first > 100 && first < 450 && second > 100 && second < 450, `${first}, ${second} MB`);
    assert.ok(kept > 150e6 && kept < 200e6, `${kept} bytes`);
  });
});

/** Bytes of all files below a folder. */
const diskUse = (folder: string): number =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
