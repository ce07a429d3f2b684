import assert from 'node:assert/strict';
import { build } from 'esbuild';
import { readBytes } from '../../src/checkpoint/byte-source.js';
import { type BrowserFilesOptions, fetchModelFiles } from '../../src/hub/browser-cache.js';
import type { LoadEvent } from '../../src/load-events.js';
import { ROOT } from '../support/fixtures.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import { FILE, hubErrorOf, IMPATIENT, REPO, seededBytes } from './support.js';

/** The part of the Cache API that is used, in memory. */
function memoryCaches(full = false) {
  const kept = new Map<string, Blob>();
  const cache = {
    match: async (url: string) => (kept.has(url) ? new Response(kept.get(url)!) : undefined),
    put: async (url: string, response: Response) => {
      if (full) throw new DOMException('no room', 'QuotaExceededError');
      kept.set(url, await response.blob());
    },
  };
  return { kept, caches: { open: async () => cache as unknown as Cache } };
}

describe('hub: the cache of a page', () => {
  const content = seededBytes(300_000, 4);
  let hub: LocalHub;
  beforeEach(async () => {
    hub = await startHub();
    hub.commit(REPO, { 'config.json': '{"a":1}', [FILE]: { content, lfs: true } });
  });
  afterEach(() => hub.close());
  const files = (options: BrowserFilesOptions) =>
    fetchModelFiles(REPO, { endpoint: hub.url, limits: IMPATIENT, ...options });

  it('fetches once, then reads the cache, also without network', async () => {
    const { kept, caches } = memoryCaches();
    const events: LoadEvent[] = [];
    const first = files({ caches, onProgress: (event) => events.push(event) });
    assert.equal(first.label, 'owner/name@main');
    assert.equal(await first.open('nope.json'), undefined);
    const [source, same] = await Promise.all([first.open(FILE), first.open(FILE)]);
    assert.equal(source, same);
    assert.deepEqual(Buffer.from(await readBytes(source!, 1000, 2000)), content.subarray(1000, 2000));
    assert.equal(kept.size, 2, 'the listing and the file');
    assert.deepEqual(
      events.map(({ status }) => status).filter((status) => !/progress/.test(status)),
      ['initiate', 'download', 'done'],
    );
    const count = hub.requests.length;
    assert.equal((await files({ caches }).open(FILE))?.size, content.length);
    assert.equal(hub.requests.length, count + 1, 'only the listing is asked again');
    await hub.close();
    assert.equal((await files({ caches }).open(FILE))?.size, content.length);
    const other = fetchModelFiles('owner/other', { endpoint: hub.url, limits: IMPATIENT, caches });
    assert.match((await hubErrorOf(other.open(FILE))).code, /^(?:unreachable|connection-lost)$/);
    hub = await startHub();
  });

  it('works without a cache and with a full one', async () => {
    for (const caches of [null, memoryCaches(true).caches]) {
      assert.equal((await files({ caches }).open('config.json'))?.size, 7);
    }
  });

  it('wrong bytes, of large and of plain files, are neither used nor kept', async () => {
    const { kept, caches } = memoryCaches();
    const wrong: [string, Buffer, string][] = [
      [FILE, Buffer.alloc(content.length), 'hash-mismatch'],
      ['config.json', Buffer.from('{"a":2}'), 'hash-mismatch'],
      [FILE, content.subarray(1), 'short-body'],
      [FILE, Buffer.alloc(content.length + 1), 'body-too-long'],
    ];
    for (const [name, body, code] of wrong) {
      hub.handler = (request, response) => request.url!.includes('/resolve/') && response.end(body) !== undefined;
      const page = files({ caches });
      assert.equal((await hubErrorOf(page.open(name))).code, code);
      assert.ok([...kept.keys()].every((key) => !key.includes('/resolve/')));
      hub.handler = undefined;
      assert.ok((await page.open(name))!.size > 0, 'a failure is not remembered');
      for (const key of kept.keys()) if (key.includes('/resolve/')) kept.delete(key);
    }
    hub.handler = (request, response) =>
      request.url!.includes('/resolve/') && response.end(Buffer.alloc(content.length)) !== undefined;
    assert.ok(await files({ caches: null, maxHashBytes: 1000 }).open(FILE), 'too large to hash: checked by size');
  });

  it('stops when told to, and refuses bad names before any request', async () => {
    hub.pace = { bytes: 8192, ms: 5 };
    const stop = new AbortController();
    const reason = new Error('enough');
    const onProgress = (event: LoadEvent) => event.status === 'progress' && stop.abort(reason);
    await assert.rejects(
      files({ caches: null, signal: stop.signal, onProgress }).open(FILE),
      (error) => error === reason,
    );
    const count = hub.requests.length;
    await hubErrorOf((async () => fetchModelFiles('../evil'))());
    await hubErrorOf((async () => files({ revision: '../x' }))());
    await hubErrorOf(files({}).open('../x'));
    assert.equal(hub.requests.length, count);
  });

  it('both rooms for pages bundle without a node: module', async () => {
    const entryPoints = ['browser-cache', 'remote-files'].map((name) => `${ROOT}src/hub/${name}.ts`);
    const { metafile, outputFiles } = await build({
      entryPoints,
      bundle: true,
      format: 'esm',
      platform: 'browser',
      metafile: true,
      write: false,
      minify: true,
      outdir: 'out',
    });
    assert.ok(Object.keys(metafile.inputs).every((path) => !path.includes('node_modules')));
    console.log(
      `      browser-cache ${outputFiles[0]!.contents.length} bytes, remote-files ${outputFiles[1]!.contents.length} bytes, minified`,
    );
  });
});
