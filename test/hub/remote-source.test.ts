import assert from 'node:assert/strict';
import { readBytes } from '../../src/checkpoint/byte-source.js';
import { nodeTransport } from '../../src/hub/node-transport.js';
import { openRemote, type RemoteOptions } from '../../src/hub/remote-files.js';
import { type Handler, type LocalHub, startHub } from '../support/local-hub.js';
import { assertDisconnected, FILE, hubErrorOf, IMPATIENT, REPO, seededBytes, TOKEN } from './support.js';

describe('hub: a remote file as a byte source', () => {
  const content = seededBytes(1_000_000, 3);
  let hub: LocalHub;
  let url: string;
  beforeEach(async () => {
    hub = await startHub();
    hub.commit(REPO, { [FILE]: { content, lfs: true }, empty: '', 'small.txt': 'small' });
    url = `${hub.url}/owner/name/resolve/main/`;
  });
  afterEach(() => hub.close());

  const opening = async <T>(act: (options: RemoteOptions) => Promise<T>): Promise<T> => {
    const transport = nodeTransport({});
    try {
      return await act({ fetch: transport.fetch, limits: IMPATIENT, token: TOKEN });
    } finally {
      transport.close();
      await assertDisconnected(hub);
    }
  };

  it('reads a header and a tensor without the rest', () =>
    opening(async (options) => {
      const source = await openRemote(`${url}${FILE}`, options);
      assert.equal(source.size, content.length);
      assert.deepEqual(Buffer.from(await readBytes(source, 0, 8)), content.subarray(0, 8));
      assert.deepEqual(Buffer.from(await readBytes(source, 500_000, 600_000)), content.subarray(500_000, 600_000));
      assert.deepEqual(Buffer.from(await readBytes(source, 999_990, 2_000_000)), content.subarray(999_990));
      assert.equal((await readBytes(source, 5, 5)).length, 0);
      assert.equal(hub.bytesSent, 1 + 8 + 100_000 + 10);
    }));

  it('an empty file is empty; the built-in fetch will do', async () => {
    assert.equal((await openRemote(`${url}empty`)).size, 0);
    assert.equal((await openRemote(`${url}small.txt`)).size, 5);
  });

  it('a lost connection is tried again; a file that changes, or comes whole, is refused', () =>
    opening(async (options) => {
      let broken = 0;
      const breakOnce: Handler = (_, response) => broken++ === 0 && response.destroy() !== undefined;
      hub.handler = breakOnce;
      const source = await openRemote(`${url}small.txt`, options);
      assert.equal(Buffer.from(await readBytes(source, 0, 5)).toString(), 'small');
      hub.commit(REPO, { 'small.txt': 'large' });
      assert.equal((await hubErrorOf(readBytes(source, 0, 5))).code, 'file-changed');
      hub.rules.ignoreRange = true;
      assert.equal((await hubErrorOf(openRemote(`${url}small.txt`, options))).code, 'range-unsupported');
      assert.equal((await hubErrorOf(openRemote(`${url}none`, options))).code, 'file-not-found');
    }));

  it('wrong, short, long and endless answers are typed errors', () =>
    opening(async (options) => {
      const answers: [string, string | undefined, string][] = [
        ['range-wrong', undefined, 'x'],
        ['range-wrong', 'bytes 1-1/5', 'x'],
        ['range-wrong', 'bytes 0-0/99999999999999999', 'x'],
        ['short-body', 'bytes 0-0/5', ''],
        ['body-too-long', 'bytes 0-0/5', 'xxx'],
      ];
      for (const [code, range, body] of answers) {
        hub.handler = (_, response) => {
          response.writeHead(206, range === undefined ? {} : { 'content-range': range });
          if (body !== '') response.write(body); // in chunks, without a Content-Length
          return response.end() !== undefined;
        };
        assert.equal((await hubErrorOf(openRemote(`${url}small.txt`, options))).code, code, range);
      }
      for (const wrong of ['x', 'file:///etc/hostname', '']) {
        assert.equal((await hubErrorOf(openRemote(wrong, options))).code, 'address');
      }
    }));
});
