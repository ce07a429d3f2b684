import assert from 'node:assert/strict';
import { build } from 'esbuild';
import { type ByteSource, readBytes } from '../../src/checkpoint/byte-source.js';
import { type BrowserFilesOptions, fetchModelFiles } from '../../src/hub/browser-cache.js';
import { PART_BYTES } from '../../src/hub/remote-files.js';
import { sha256 } from '../../src/hub/sha256.js';
import type { LoadEvent } from '../../src/load-events.js';
import { ROOT } from '../support/fixtures.js';
import { gitSha1, type LocalHub, sha256 as sha256Of, startHub } from '../support/local-hub.js';
import { FILE, hubErrorOf, IMPATIENT, memoryCaches, memoryLocks, REPO, seededBytes } from './support.js';

const CONFIG = '{"a":1}';

describe('hub: the cache of a page', () => {
  const content = seededBytes(2.5 * PART_BYTES, 4);
  let hub: LocalHub;
  const commit = (extra: Record<string, string> = {}) =>
    hub.commit(REPO, { 'config.json': CONFIG, [FILE]: { content, lfs: true }, 'added_tokens.json': '{}', ...extra });
  beforeEach(async () => {
    hub = await startHub();
    commit();
  });
  afterEach(() => hub.close());
  const files = (options: BrowserFilesOptions) =>
    fetchModelFiles(REPO, { endpoint: hub.url, limits: IMPATIENT, locks: null, ...options });
  const weights = async (options: BrowserFilesOptions) => (await files(options).open(FILE))!;
  /** As a loader reads: the header, then everything in pieces of no round size. */
  const readAll = async (source: ByteSource): Promise<Buffer> => {
    await readBytes(source, 0, 8);
    const whole = new Uint8Array(source.size);
    for (let at = 0; at < source.size; at += 1_000_003) {
      const end = Math.min(source.size, at + 1_000_003);
      if (source.readInto) await source.readInto(at, whole.subarray(at, end));
      else whole.set(await readBytes(source, at, end), at);
    }
    return Buffer.from(whole.buffer);
  };
  const rangesAsked = () =>
    hub.requests.flatMap(({ headers, path }) => (path.includes('/storage/') ? [headers.range] : []));

  it('fetches parts once, in order, then reads the cache, also without network', async () => {
    const { parts, caches } = memoryCaches();
    const source = await weights({ caches });
    assert.deepEqual(Buffer.from(await readBytes(source, 1000, 2000)), content.subarray(1000, 2000));
    assert.deepEqual(rangesAsked(), [`bytes=0-${PART_BYTES - 1}`], 'a header costs one part');
    assert.ok((await readAll(source)).equals(content));
    assert.equal(rangesAsked().length, 3);
    assert.equal(parts().length, 3);
    const count = hub.requests.length;
    assert.ok((await readAll(await weights({ caches }))).equals(content));
    assert.equal(hub.requests.length, count + 1, 'only the listing is asked again');
    await hub.close();
    assert.ok((await readAll(await weights({ caches }))).equals(content));
    const other = fetchModelFiles('owner/other', { endpoint: hub.url, limits: IMPATIENT, caches });
    assert.match((await hubErrorOf(other.open(FILE))).code, /^(?:unreachable|connection-lost)$/);
    hub = await startHub();
  });

  it('a source that is opened twice is one; a name that is not there is undefined', async () => {
    const page = files({ caches: null });
    assert.equal(page.label, 'owner/name@main');
    const [first, second] = await Promise.all([page.open(FILE), page.open(FILE)]);
    assert.equal(first, second);
    assert.equal(await page.open('nope.json'), undefined);
  });

  it('progress counts all files from the start, never runs backwards, and ends at 100', async () => {
    const events: LoadEvent[] = [];
    let breaks = 0;
    hub.handler = (request, response) => {
      if (!request.url!.includes('/storage/') || breaks++ !== 1) return false;
      response.writeHead(206, { 'content-length': PART_BYTES });
      return response.write(content.subarray(0, 1 << 20), () => response.destroy()) !== undefined;
    };
    const page = files({ caches: memoryCaches().caches, onProgress: (event) => events.push(event) });
    await page.open('config.json');
    await readAll((await page.open(FILE))!);
    const totals = events.flatMap((event) => (event.status === 'progress_total' ? [event] : []));
    const all = content.length + CONFIG.length;
    assert.deepEqual(new Set(totals.map(({ total }) => total)), new Set([all]));
    assert.ok(
      totals.every(({ loaded }, i) => i === 0 || loaded >= totals[i - 1]!.loaded),
      'backwards',
    );
    assert.equal(totals.at(-1)!.progress, 100);
    assert.deepEqual(events.at(-1), { status: 'done', name: REPO, file: FILE });
  });

  it('a download that was stopped goes on from the parts that are here', async () => {
    const { parts, caches } = memoryCaches();
    const stop = new AbortController();
    const reason = new Error('pause');
    const source = await weights({ caches, signal: stop.signal });
    await readBytes(source, 0, 8);
    stop.abort(reason);
    await assert.rejects(readAll(source), (error) => error === reason);
    assert.equal(parts().length, 1);
    assert.ok((await readAll(await weights({ caches }))).equals(content));
    assert.deepEqual(
      rangesAsked().map((range) => Number(/\d+/.exec(range!)![0]) / PART_BYTES),
      [0, 1, 2],
    );
  });

  it('a new revision with the same weights fetches what is new; what only the old one needed goes', async () => {
    const { kept, caches } = memoryCaches();
    await readAll(await weights({ caches }));
    const old = await files({ caches }).open('config.json');
    assert.equal(old?.size, CONFIG.length);
    hub.commit(REPO, { 'config.json': '{"a":22}', 'README.md': '# new', [FILE]: { content, lfs: true } });
    const sent = hub.bytesSent;
    const page = files({ caches });
    assert.equal((await page.open('config.json'))?.size, 8);
    await readAll((await page.open(FILE))!);
    assert.equal(hub.bytesSent - sent, 8);
    const hashes = [...kept.keys()].flatMap((key) => /\/parts\/([^/]*)\/0$/.exec(key)?.[1] ?? []);
    assert.deepEqual(new Set(hashes), new Set([sha256Of(content), gitSha1(Buffer.from('{"a":22}'))]));
  });

  it('new weights: the old ones serve until the new ones are here, and are removed then', async () => {
    const { parts, caches } = memoryCaches();
    await readAll(await weights({ caches }));
    const next = seededBytes(content.length, 9);
    hub.commit(REPO, { 'config.json': CONFIG, [FILE]: { content: next, lfs: true } });
    const source = await weights({ caches });
    await readBytes(source, 0, 8);
    hub.handler = (_, response) => response.writeHead(503).end() !== undefined;
    assert.ok((await readAll(await weights({ caches }))).equals(content), 'the copy that is complete');
    hub.handler = undefined;
    assert.ok((await readAll(source)).equals(next));
    assert.equal(parts().length, 3);
    assert.ok(parts().every((key) => key.includes(sha256Of(next))));
  });

  it('a Hub that is busy, broken or lost does not stop who has a copy', async () => {
    const { caches } = memoryCaches();
    await readAll(await weights({ caches }));
    for (const status of [429, 500, 503]) {
      hub.handler = (_, response) => response.writeHead(status).end() !== undefined;
      const count = hub.requests.length;
      assert.ok((await readAll(await weights({ caches }))).equals(content));
      assert.equal(hub.requests.length, count + 1, 'asked once');
      const code = status === 429 ? 'rate-limited' : 'server-error';
      assert.equal((await hubErrorOf(files({ caches: null }).open(FILE))).code, code);
    }
    hub.handler = (_, response) => response.writeHead(403).end() !== undefined;
    assert.equal((await hubErrorOf(files({ caches }).open(FILE))).code, 'forbidden');
  });

  it('works where nothing can be kept: no cache, a full one, one that throws; with ranges and without', async () => {
    const sandboxed = {
      get open(): never {
        throw new DOMException('sandboxed', 'SecurityError');
      },
    };
    const failing = { open: () => Promise.reject(new DOMException('private', 'SecurityError')) };
    for (const ignoreRange of [false, true]) {
      hub.rules.ignoreRange = ignoreRange;
      for (const caches of [null, memoryCaches(0).caches, memoryCaches(PART_BYTES + 5000).caches, sandboxed, failing]) {
        const sent = hub.bytesSent;
        assert.ok((await readAll(await weights({ caches }))).equals(content));
        assert.equal(hub.bytesSent - sent, content.length, 'nothing twice');
      }
    }
  });

  it('two tabs fetch each part once', async () => {
    const { caches } = memoryCaches();
    const locks = memoryLocks();
    const both = await Promise.all([1, 2].map(async () => readAll(await weights({ caches, locks }))));
    assert.ok(both.every((bytes) => bytes.equals(content)));
    assert.equal(rangesAsked().length, 3);
    const refusing = { request: () => Promise.reject(new DOMException('sandboxed', 'SecurityError')) };
    const locked = refusing as unknown as Pick<LockManager, 'request'>;
    assert.ok((await readAll(await weights({ caches: memoryCaches().caches, locks: locked }))).equals(content));
  });

  it('wrong bytes, of large and of plain files, end with an error, and are not kept', async () => {
    const wrong: [string, Buffer, string][] = [
      [FILE, Buffer.alloc(content.length), 'hash-mismatch'],
      ['config.json', Buffer.from('{"a":2}'), 'hash-mismatch'],
      [FILE, content.subarray(1), 'short-body'],
      [FILE, Buffer.alloc(content.length + 1), 'body-too-long'],
    ];
    for (const [name, body, code] of wrong) {
      const { parts, caches } = memoryCaches();
      hub.handler = (request, response) => request.url!.includes('/resolve/') && response.end(body) !== undefined;
      const page = files({ caches });
      const attempt = async () => readAll((await page.open(name))!);
      assert.equal((await hubErrorOf(attempt())).code, code);
      if (code === 'hash-mismatch') assert.deepEqual(parts(), []);
      hub.handler = undefined;
      const expected = name === FILE ? content : Buffer.from(CONFIG);
      if (code === 'hash-mismatch') assert.ok((await attempt()).equals(expected), 'a failure is not remembered');
    }
  });

  it('one wrong bit in a part is found when the last part comes, also if parts come out of turn', async () => {
    const damaged = Buffer.from(content);
    damaged[PART_BYTES + 17]! ^= 1;
    hub.handler = (request, response) => {
      const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      if (first === undefined || !request.url!.includes('/storage/')) return false;
      return response.writeHead(206).end(damaged.subarray(Number(first), Number(last) + 1)) !== undefined;
    };
    for (const [caches, last] of [
      [memoryCaches().caches, true],
      [null, false],
    ] as const) {
      const source = await weights({ caches });
      const attempt = async () => {
        if (last) await readBytes(source, content.length - 4, content.length); // as a zip is read
        return readAll(source);
      };
      assert.equal((await hubErrorOf(attempt())).code, 'hash-mismatch');
    }
  });

  it('a part that the browser dropped is fetched again and checked', async () => {
    const { kept, parts, caches } = memoryCaches();
    await readAll(await weights({ caches }));
    kept.delete(parts().find((key) => key.endsWith('/1'))!);
    assert.ok((await readAll(await weights({ caches }))).equals(content));
    assert.equal(rangesAsked().length, 4);
    kept.delete(parts().find((key) => key.endsWith('/1'))!);
    hub.handler = (request, response) =>
      request.url!.includes('/storage/') && response.writeHead(206).end(Buffer.alloc(PART_BYTES)) !== undefined;
    assert.equal((await hubErrorOf(weights({ caches }).then(readAll))).code, 'hash-mismatch');
  });

  it('a mirror whose listing has no sizes is read whole', async () => {
    hub.rules.bareListing = true;
    const source = await weights({ caches: memoryCaches().caches });
    assert.deepEqual(Buffer.from(await readBytes(source, 0, source.size)), content);
  });

  it('stops when told to, and refuses bad names before any request', async () => {
    const stop = new AbortController();
    const reason = new Error('enough');
    hub.onSent = () => stop.abort(reason);
    await assert.rejects(weights({ caches: null, signal: stop.signal }).then(readAll), (error) => error === reason);
    const count = hub.requests.length;
    await hubErrorOf((async () => fetchModelFiles('../evil'))());
    await hubErrorOf((async () => files({ revision: '../x' }))());
    await hubErrorOf(files({}).open('../x'));
    assert.equal(hub.requests.length, count);
  });

  it('sha256 in pieces is that of node:crypto', () => {
    for (let length = 0; length < 300; length++) {
      const bytes = seededBytes(length, length);
      for (const cut of [0, 1, length >> 1, length]) {
        const hash = sha256();
        hash.update(bytes.subarray(0, cut));
        hash.update(bytes.subarray(cut));
        assert.equal(hash.digest(), sha256Of(bytes), `${cut} of ${length}`);
      }
    }
  });

  it('both modules for pages bundle without a node: module', async () => {
    const entryPoints = ['browser-cache', 'remote-files'].map((name) => `${ROOT}src/hub/${name}.ts`);
    const { metafile } = await build({
      entryPoints,
      bundle: true,
      format: 'esm',
      platform: 'browser',
      metafile: true,
      write: false,
      minify: true,
      outdir: 'out',
    });
    // zod is in every page: configs are checked by it.
    const isZod = (path: string) => path.includes('node_modules/zod/');
    assert.ok(Object.keys(metafile.inputs).every((path) => !path.includes('node_modules') || isZod(path)));
    const sizes = Object.values(metafile.outputs).map(({ inputs }) =>
      Object.entries(inputs).reduce((sum, [path, { bytesInOutput }]) => sum + (isZod(path) ? 0 : bytesInOutput), 0),
    );
    assert.equal(sizes.length, 2);
    assert.ok(
      sizes.every((size) => size < 24_000),
      `${sizes}`,
    );
  });
});
