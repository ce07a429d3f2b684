import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { downloadFile } from '../../src/hub/download.js';
import { withFolder } from '../support/folder.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import {
  assertDisconnected,
  assertTidy,
  FILE,
  hubErrorOf,
  IMPATIENT,
  NO_BODY,
  NO_HEADERS,
  REPO,
  seededBytes,
} from './support.js';

describe('hub: bad connections', () => {
  const content = seededBytes(2_000_000, 5);
  let hub: LocalHub;
  beforeEach(async () => {
    hub = await startHub();
    hub.commit(REPO, { [FILE]: { content, lfs: true } });
  });
  afterEach(async () => {
    await assertDisconnected(hub);
    await hub.close();
  });
  const get = (cacheDir: string, options = {}) =>
    downloadFile(REPO, FILE, { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT, ...options });

  it('broken six times: each request goes on where the last one ended, under the etag of the storage', () =>
    withFolder(async (cacheDir) => {
      hub.pace = { bytes: 64 << 10, ms: 1 };
      let breaks = 0;
      hub.handler = (request, response) => {
        const stop = request.url!.includes('/storage/') && breaks++ < 6;
        const before = hub.bytesSent;
        if (stop) hub.onSent = (sent) => void (sent > before + 250_000 && response.destroy());
        else hub.onSent = undefined;
        return false;
      };
      assert.deepEqual(readFileSync(await get(cacheDir, { limits: { ...IMPATIENT, retries: 6 } })), content);
      const storage = hub.requests.filter(({ path }) => path.includes('/storage/'));
      assert.equal(storage.length, 7);
      for (const { headers } of storage.slice(1)) {
        assert.match(headers.range!, /^bytes=\d{6,}-$/);
        assert.match(String(headers['if-range']), /^"[0-9a-f]{64}"$/);
      }
      assert.ok(hub.bytesSent < content.length + 6 * (128 << 10), `${hub.bytesSent} bytes sent`);
      assertTidy(cacheDir);
    }));

  it('a storage whose content changed on the way is read from its start', () =>
    withFolder(async (cacheDir) => {
      let gets = 0;
      hub.handler = (request, response) => {
        if (!request.url!.includes('/storage/') || gets++ > 0) return false;
        response.writeHead(200, { etag: '"an earlier one"', 'content-length': content.length });
        response.write(Buffer.alloc(50_000), () => setTimeout(() => response.destroy(), 20));
        return true;
      };
      assert.deepEqual(readFileSync(await get(cacheDir)), content);
      assert.equal(hub.bytesSent, content.length);
    }));

  it('Retry-After is obeyed, in seconds and as a date', () =>
    withFolder(async (cacheDir) => {
      const inSeconds = () => ({ after: '1', until: Date.now() + 1000 });
      const asDate = () => {
        const after = new Date(Date.now() + 2000).toUTCString(); // whole seconds: one to two from now
        return { after, until: Date.parse(after) };
      };
      for (const [i, say] of [inSeconds, asDate].entries()) {
        const { after, until } = say();
        let asked = 0;
        hub.handler = (_, response) =>
          asked++ === 0 && response.writeHead(503, { 'retry-after': after }).end() !== undefined;
        await get(`${cacheDir}/${i}`);
        assert.ok(Date.now() >= until - 5, 'too early'); // a timer of Node may be a millisecond early
      }
      hub.handler = (_, response) =>
        response.writeHead(503, { 'retry-after': 'Fri, 01 Jan 2100 00:00:00 GMT' }).end() !== undefined;
      assert.equal((await hubErrorOf(get(`${cacheDir}/x`))).code, 'retry-after');
    }));

  it('what is not HTTP, or hardly, is a typed error', () =>
    withFolder(async (cacheDir) => {
      const answers = [
        'SSH-2.0-OpenSSH\r\n',
        'HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n',
        'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
        'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n',
        `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`,
        'HTTP/1.1 302 Found\r\nlocation: http://[\r\n\r\n',
        'HTTP/1.1 302 Found\r\n\r\n',
        '',
      ];
      for (const answer of answers) {
        const server = createServer((socket) => {
          socket.on('error', () => undefined);
          socket.once('data', () => socket.end(answer));
        });
        await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
        const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
        const error = await hubErrorOf(get(cacheDir, { endpoint, limits: NO_HEADERS }));
        assert.match(
          error.code,
          /^(?:connection-lost|headers-timeout|redirect-location|http-status|server-error)$/,
          answer.slice(0, 30),
        );
        server.close();
      }
    }));

  it('the built-in fetch will do as well (it keeps connections for seconds, so this server is its own)', () =>
    withFolder(async (cacheDir) => {
      const own = await startHub();
      own.commit(REPO, { [FILE]: { content, lfs: true } });
      assert.deepEqual(readFileSync(await get(cacheDir, { endpoint: own.url, fetch })), content);
      own.handler = (request, response) => {
        if (!request.url!.includes('/storage/')) return false;
        return response.writeHead(200, { 'content-length': content.length }).write('x') !== undefined;
      };
      const { code: rule } = await hubErrorOf(get(`${cacheDir}/2`, { endpoint: own.url, fetch, limits: NO_BODY }));
      assert.equal(rule, 'idle-timeout');
      await own.close();
    }));
});
