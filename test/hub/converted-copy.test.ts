import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import { type ByteSource, readBytes } from '../../src/checkpoint/byte-source.js';
import { type BrowserFilesOptions, fetchModelFiles } from '../../src/hub/browser-cache.js';
import { keepConverted } from '../../src/hub/keep-converted.js';
import { PART_BYTES } from '../../src/hub/remote-files.js';
import type { Image2Text } from '../../src/image2text/image2text.js';
import { namedParameters } from '../../src/model/git.js';
import { fromDirectory } from '../../src/node.js';
import { type BrowserLoadOptions, loadImage2Text } from '../../src/platform/browser.js';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import { FILE, hubErrorOf, IMPATIENT, memoryCaches, memoryLocks, REPO, seededBytes } from './support.js';

type Kept = Map<string, Uint8Array<ArrayBuffer>>;

/** A cache whose contents after every change are at hand: what a tab that is killed there leaves behind. */
function watched(kept: Kept = new Map()) {
  const memory = memoryCaches(Number.POSITIVE_INFINITY, kept);
  const states: Kept[] = [];
  const caches = {
    async open() {
      const cache = await memory.caches.open();
      const noted = async <T>(change: Promise<T>): Promise<T> => {
        const result = await change;
        states.push(new Map(kept));
        return result;
      };
      return {
        match: (url: string) => cache.match(url),
        keys: () => cache.keys(),
        put: (url: string, response: Response) => noted(cache.put(url, response)),
        delete: (url: string) => noted(cache.delete(url)),
      } as unknown as Cache;
    },
  };
  return { ...memory, caches, states };
}

const copies = (kept: Kept) => [...kept.keys()].filter((key) => key.includes('/converted/'));
const readAll = async (source: ByteSource): Promise<Buffer> => {
  const whole = Buffer.alloc(source.size);
  for (let at = 0; at < source.size; at += 1_000_003) {
    whole.set(await readBytes(source, at, Math.min(source.size, at + 1_000_003)), at);
  }
  return whole;
};

describe('hub: converted weights in the cache of a page', () => {
  const content = seededBytes(2.5 * PART_BYTES, 4);
  const copy = seededBytes(1.25 * PART_BYTES, 5);
  let hub: LocalHub;
  beforeEach(async () => {
    hub = await startHub();
    hub.commit(REPO, { 'config.json': '{"a":1}', [FILE]: { content, lfs: true } });
  });
  afterEach(() => hub.close());

  const filesIn = (options: BrowserFilesOptions, format = 'half') =>
    fetchModelFiles(REPO, { endpoint: hub.url, limits: IMPATIENT, locks: null, ...options }).inFormat(format);
  /** In pieces of no round size. */
  const file = {
    size: copy.length,
    async *pieces() {
      for (let at = 0; at < copy.length; at += 777_777) yield copy.subarray(at, at + 777_777);
    },
  };
  /** A visit: reads the weights, and keeps them converted if that is still to be done. */
  async function visit(options: BrowserFilesOptions, format = 'half', made = file): Promise<Buffer> {
    const files = filesIn(options, format);
    const bytes = await readAll((await files.open(FILE))!);
    const place = await files.placeForCopy();
    if (place !== undefined) await keepConverted(place, async () => made);
    return bytes;
  }

  it('takes the place of the file, also without network, and another revision with the same weights keeps it', async () => {
    const { kept, parts, caches } = memoryCaches();
    assert.ok((await visit({ caches })).equals(content));
    assert.equal(parts().length, 0);
    assert.equal(copies(kept).length, 3, 'two parts and the note');
    const sent = hub.bytesSent;
    assert.ok((await visit({ caches })).equals(copy));
    hub.commit(REPO, { 'config.json': '{"a":2}', 'README.md': 'x', [FILE]: { content, lfs: true } });
    assert.ok((await visit({ caches })).equals(copy));
    assert.equal(hub.bytesSent, sent);
    await hub.close();
    assert.ok((await visit({ caches })).equals(copy));
    hub = await startHub();
  });

  it('a tab that is killed at any moment leaves the file or the copy, and the next visit ends what was begun', async () => {
    const { states, caches } = watched();
    await visit({ caches });
    assert.ok(states.length > 10);
    let [whole, half] = [0, 0];
    for (const state of states) {
      const next = memoryCaches(Number.POSITIVE_INFINITY, new Map(state));
      const sent = hub.bytesSent;
      const bytes = await visit({ caches: next.caches });
      if (bytes.equals(copy)) half++;
      else if (bytes.equals(content)) whole++;
      else assert.fail('neither');
      const isKept = copies(state).length > 0 || [...state.keys()].some((key) => key.endsWith('/-1'));
      if (isKept) assert.equal(hub.bytesSent, sent, 'nothing is fetched again');
      assert.equal(next.parts().length, 0);
      assert.equal(copies(next.kept).length, 3);
    }
    assert.ok(whole > 5 && half > 3, `${whole}, ${half}`);
  });

  it('no room for both: the file stays; no room for the file: nothing is converted', async () => {
    const both = memoryCaches(content.length + copy.length - 1);
    assert.ok((await visit({ caches: both.caches })).equals(content));
    assert.deepEqual(copies(both.kept), []);
    const sent = hub.bytesSent;
    assert.ok((await visit({ caches: both.caches })).equals(content));
    assert.equal(hub.bytesSent, sent);
    const small = memoryCaches(content.length - 1);
    const made = { ...file, pieces: () => assert.fail('for nothing') };
    assert.ok((await visit({ caches: small.caches }, 'half', made)).equals(content));
    assert.deepEqual(copies(small.kept), []);
    assert.equal(await filesIn({ caches: null }).placeForCopy(), undefined);
  });

  it('a copy that does not read as it was written, or could not be made, is none', async () => {
    const { kept, caches } = memoryCaches();
    const damaging = {
      open: async () => {
        const cache = await caches.open();
        const put = async (url: string, response: Response) => {
          await cache.put(url, response);
          if (/converted.*\/1$/.test(url)) kept.get(url)![5]! ^= 1;
        };
        return { ...cache, put } as unknown as Cache;
      },
    };
    assert.ok((await visit({ caches: damaging })).equals(content));
    assert.deepEqual(copies(kept), []);
    const failing = {
      ...file,
      async *pieces() {
        yield copy.subarray(0, PART_BYTES + 5);
        throw new Error('no more');
      },
    };
    await assert.rejects(visit({ caches }, 'half', failing), /no more/);
    assert.deepEqual(copies(kept), []);
    assert.ok((await visit({ caches })).equals(content));
    assert.ok((await visit({ caches })).equals(copy));
  });

  it('an abort while it is written leaves the file', async () => {
    const { kept, caches } = memoryCaches();
    const stop = new AbortController();
    const made = {
      ...file,
      async *pieces() {
        yield copy.subarray(0, PART_BYTES + 5);
        stop.abort(new Error('pause'));
        yield copy.subarray(PART_BYTES + 5);
      },
    };
    await assert.rejects(visit({ caches, signal: stop.signal }, 'half', made), /pause/);
    assert.deepEqual(copies(kept), []);
    const sent = hub.bytesSent;
    assert.ok((await visit({ caches })).equals(content));
    assert.equal(hub.bytesSent, sent);
  });

  it('a copy that lost a part is none; one that is cleared while it is read is an error that says what to do', async () => {
    const { kept, caches } = memoryCaches();
    await visit({ caches });
    const files = filesIn({ caches });
    const source = (await files.open(FILE))!;
    for (const key of kept.keys()) if (key.endsWith('/1')) kept.delete(key);
    const error = await hubErrorOf(readAll(source));
    assert.equal(error.code, 'cache-changed');
    assert.match(error.message, /load the model again/);
    assert.ok((await visit({ caches })).equals(content));
    assert.ok((await visit({ caches })).equals(copy));
  });

  it('two tabs make one copy', async () => {
    const { kept, parts, caches } = memoryCaches();
    const locks = memoryLocks();
    let made = 0;
    const counted = {
      ...file,
      pieces() {
        made++;
        return file.pieces();
      },
    };
    const both = await Promise.all([1, 2].map(() => visit({ caches, locks }, 'half', counted)));
    for (const bytes of both) assert.ok(bytes.equals(content));
    assert.equal(made, 1);
    assert.equal(copies(kept).length, 3);
    assert.equal(parts().length, 0);
  });

  it('another format downloads the file again and is kept beside; new weights replace them all', async () => {
    const { kept, parts, caches } = memoryCaches();
    await visit({ caches });
    assert.ok((await visit({ caches }, 'quarter')).equals(content));
    assert.equal(copies(kept).length, 6);
    assert.equal(parts().length, 0);
    const plain = await fetchModelFiles(REPO, { endpoint: hub.url, locks: null, caches }).open(FILE);
    assert.ok((await readAll(plain!)).equals(content), 'the file as it is');
    const next = seededBytes(content.length, 9);
    hub.commit(REPO, { 'config.json': '{"a":1}', [FILE]: { content: next, lfs: true } });
    assert.ok((await visit({ caches })).equals(next));
    assert.equal(copies(kept).length, 3);
    assert.equal(parts().length, 0);
  });

  it('a mirror that says no hashes is kept as it is', async () => {
    hub.rules.bareListing = true;
    assert.equal(await filesIn({ caches: memoryCaches().caches }).placeForCopy(), undefined);
  });
});

describe('a page keeps the weights as it loads them', () => {
  const files = Object.fromEntries(
    readdirSync(DEMO).map((name) => [name, { content: readBin(`${DEMO}${name}`), lfs: /safetensors$/.test(name) }]),
  );
  const photo = readBin(`${EXAMPLES}blue-mug-juice.png`);
  let hub: LocalHub;
  before(async () => {
    hub = await startHub();
    hub.commit(REPO, files);
  });
  after(() => hub.close());

  const load = (options: BrowserLoadOptions) =>
    loadImage2Text(REPO, { endpoint: hub.url, backend: 'simd', ...options });
  /** All numbers of the parameters, and what it says. */
  async function bitsOf(model: Image2Text) {
    const named: [string, Uint32Array][] = [];
    for (const [name, tensor] of namedParameters(model.git)) {
      const values = (await tensor.data()) as Float32Array;
      named.push([name, new Uint32Array(values.buffer, values.byteOffset, values.length)]);
    }
    const { text, tokens } = await model.caption(photo);
    model.dispose();
    return { named, text, tokens };
  }
  const bytesIn = (kept: Kept) => [...kept.values()].reduce((sum, { length }) => sum + length, 0);

  for (const [weights, share] of [
    ['int8', 0.31],
    ['f16', 0.53],
    ['bf16', 0.53],
  ] as const) {
    it(`${weights}: the second visit has the bits of the first, and of a folder, from ${share} of the bytes`, async () => {
      const { kept, caches } = memoryCaches();
      const folder = await loadImage2Text(await fromDirectory(DEMO), { weights, backend: 'simd' });
      const expected = await bitsOf(folder);
      const tensors = tf.memory().numTensors;
      assert.deepEqual(await bitsOf(await load({ weights, caches })), expected);
      assert.ok(bytesIn(kept) < share * files[FILE]!.content.length, `${bytesIn(kept)} bytes`);
      let most = 0;
      const sent = hub.bytesSent;
      hub.handler = (_, response) => response.writeHead(503).end() !== undefined;
      const again = await load({
        ...{ weights, caches },
        onProgress: (event) => {
          if (event.status === 'progress_total') most = Math.max(most, event.total);
        },
      });
      hub.handler = undefined;
      assert.deepEqual(await bitsOf(again), expected);
      assert.equal(hub.bytesSent, sent);
      assert.ok(most > 1e6 && most < share * files[FILE]!.content.length, `${most} bytes are read`);
      assert.equal(tf.memory().numTensors, tensors);
    });
  }

  it('f32 and int8-fast keep the file', async () => {
    for (const weights of ['f32', 'int8-fast'] as const) {
      const { kept, parts, caches } = memoryCaches();
      (await load({ weights, caches })).dispose();
      assert.deepEqual(copies(kept), []);
      assert.ok(parts().length > 3);
    }
  });

  it('f16 with numbers that the backend keeps as f32 stays as it is', async () => {
    const content = Buffer.from(files[FILE]!.content);
    const length = Number(content.readBigUInt64LE(0));
    const header = JSON.parse(content.subarray(8, 8 + length).toString());
    const [begin] = header['git.encoder.layer.0.intermediate.dense.weight'].data_offsets;
    content.writeFloatLE(200.123, 8 + length + begin);
    hub.commit(REPO, { ...files, [FILE]: { content, lfs: true } }, 'large');
    const { kept, caches } = memoryCaches();
    const first = await bitsOf(await load({ weights: 'f16', revision: 'large', caches }));
    assert.deepEqual(copies(kept), []);
    assert.deepEqual(await bitsOf(await load({ weights: 'f16', revision: 'large', caches })), first);
    (await load({ weights: 'bf16', revision: 'large', caches })).dispose();
    assert.notDeepEqual(copies(kept), []);
  });

  it('an abort while it is converted is the load’s end, and nothing stays loaded', async () => {
    const { kept, caches } = watched();
    const stop = new AbortController();
    const reason = new Error('pause');
    const stopping = {
      async open() {
        const cache = await caches.open();
        const put = (url: string, response: Response) => {
          if (url.includes('/converted/')) stop.abort(reason);
          return cache.put(url, response);
        };
        return { ...cache, put } as unknown as Cache;
      },
    };
    const tensors = tf.memory().numTensors;
    await assert.rejects(load({ weights: 'int8', caches: stopping, signal: stop.signal }), (error) => error === reason);
    assert.equal(tf.memory().numTensors, tensors);
    assert.deepEqual(copies(kept), []);
    (await load({ weights: 'int8', caches })).dispose();
    assert.notDeepEqual(copies(kept), []);
  });
});
