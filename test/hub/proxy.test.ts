import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { HubFetch } from '../../src/hub/client.js';
import { downloadFile } from '../../src/hub/download.js';
import { nodeTransport, proxyFor } from '../../src/hub/node-transport.js';
import { downloadSnapshot } from '../../src/hub/snapshot.js';
import { HOSTILE, readJson } from '../support/fixtures.js';
import { withFolder } from '../support/folder.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import { type LocalProxy, startProxy } from './local-proxy.js';
import { playScript, type Scenario } from './scripted-hub.js';
import { selfSigned } from './self-signed.js';
import { FILE, hubErrorOf, IMPATIENT, REPO, seededBytes, TOKEN } from './support.js';

const HOST = 'hub.invalid'; // no name server knows it: only the proxy can reach it
const FILES = { 'config.json': '{}', [FILE]: { content: seededBytes(300_000, 1), lfs: true } };

describe('hub: proxies and https', () => {
  const identity = selfSigned(HOST);
  let hub: LocalHub;
  let proxy: LocalProxy;

  const serve = async (tls?: typeof identity) => {
    hub = await startHub(tls);
    proxy = await startProxy(hub.port);
    hub.commit(REPO, FILES);
  };

  afterEach(() => Promise.all([hub.close(), proxy.close()]));

  /** As the transport of a download, but trusting the certificate made above. */
  const through = async <T>(
    env: Record<string, string>,
    act: (fetch: HubFetch, env: Record<string, string>) => Promise<T>,
  ) => {
    const transport = nodeTransport(env, identity.cert);
    return act(transport.fetch, env).finally(() => transport.close());
  };

  it('https through an http proxy: CONNECT, then TLS with the server itself', async () => {
    await serve(identity);
    await withFolder(async (cacheDir) => {
      const env = { HTTPS_PROXY: `http://user:p%40ss@127.0.0.1:${proxy.port}` };
      const { directory } = await through(env, (fetch) =>
        downloadSnapshot(REPO, {
          cacheDir,
          endpoint: `https://${HOST}`,
          fetch,
          token: TOKEN,
          env: {},
          limits: IMPATIENT,
        }),
      );
      assert.deepEqual(readFileSync(`${directory}/${FILE}`), FILES[FILE].content);
      assert.deepEqual(new Set(proxy.asked), new Set([`CONNECT ${HOST}:443`]));
      assert.equal(proxy.users[0], `Basic ${Buffer.from('user:p@ss').toString('base64')}`);
      assert.equal(hub.requests.length, 4);
      assert.ok(hub.requests.every(({ headers }) => headers['proxy-authorization'] === undefined));
      assert.deepEqual(new Set(hub.requests.map(({ headers }) => headers.host)), new Set([HOST]));
    });
  });

  it('http through an http proxy, taken from the environment by downloadFile itself', async () => {
    await serve();
    await withFolder(async (cacheDir) => {
      const env = { http_proxy: `127.0.0.1:${proxy.port}` };
      const path = await downloadFile(REPO, FILE, { cacheDir, endpoint: `http://${HOST}`, env, limits: IMPATIENT });
      assert.deepEqual(readFileSync(path), FILES[FILE].content);
      assert.ok(proxy.asked[0]!.startsWith(`HEAD http://${HOST}/owner/name/resolve/main/`));
      const count = proxy.asked.length;
      const direct = { ...env, NO_PROXY: '127.0.0.1' };
      await downloadFile(REPO, 'config.json', { cacheDir, endpoint: hub.url, env: direct, limits: IMPATIENT });
      assert.equal(proxy.asked.length, count);
    });
  });

  it('a proxy that refuses is named without its password', async () => {
    await serve(identity);
    proxy.refuseWith = 407;
    const env = { https_proxy: `http://user:secret@127.0.0.1:${proxy.port}` };
    await withFolder(async (cacheDir) => {
      const options = { cacheDir, endpoint: `https://${HOST}`, limits: IMPATIENT, env: {} };
      const error = await hubErrorOf(through(env, (fetch) => downloadFile(REPO, FILE, { ...options, fetch })));
      assert.equal(error.code, 'proxy-refused');
      const socks = { https_proxy: 'socks5://user:secret@127.0.0.1:1' };
      assert.equal((await hubErrorOf(downloadFile(REPO, FILE, { ...options, env: socks }))).code, 'proxy');
    });
  });

  it('a certificate that nobody vouches for is refused', async () => {
    await serve(identity);
    await withFolder(async (cacheDir) => {
      const error = await hubErrorOf(
        downloadFile(REPO, FILE, { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT }),
      );
      assert.equal(error.code, 'tls');
      assert.equal(hub.requests.length, 0);
    });
  });

  it('redirect_downgrade: https is never left for http', async () => {
    await serve(identity);
    const { scenarios } = readJson<{ scenarios: Scenario[] }>(`${HOSTILE}http/scenarios.json`);
    hub.handler = playScript(scenarios.find(({ name }) => name === 'redirect_downgrade')!.steps);
    await withFolder(async (cacheDir) => {
      const options = { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT, token: TOKEN };
      const error = await hubErrorOf(through({}, (fetch) => downloadFile(REPO, FILE, { ...options, fetch })));
      assert.equal(error.code, 'redirect-downgrade');
      assert.equal(hub.requests.length, 1);
    });
  });

  it('chooses the proxy as the variables say', async () => {
    await serve();
    const pick = (url: string, env: Record<string, string>) => proxyFor(new URL(url), env)?.href;
    assert.equal(pick('https://a.b/', { HTTPS_PROXY: 'http://p:1' }), 'http://p:1/');
    assert.equal(pick('https://a.b/', { HTTP_PROXY: 'http://p:1' }), undefined);
    assert.equal(pick('https://a.b/', { ALL_PROXY: 'p:1' }), 'http://p:1/');
    assert.equal(
      pick('http://a.b/', { http_proxy: 'http://small:1', HTTP_PROXY: 'http://large:1' }),
      'http://small:1/',
    );
    for (const NO_PROXY of ['*', 'a.b', '.b', 'x, a.b', 'b', 'a.b:443', '*.b']) {
      assert.equal(pick('https://a.b/', { HTTPS_PROXY: 'http://p:1', NO_PROXY }), undefined, NO_PROXY);
    }
    for (const NO_PROXY of ['', 'a.b:80', 'aa.b', 'a', 'c.a.b']) {
      assert.equal(pick('https://a.b/', { HTTPS_PROXY: 'http://p:1', NO_PROXY }), 'http://p:1/', NO_PROXY);
    }
    assert.equal(pick('https://[::1]/', { HTTPS_PROXY: 'http://p:1', no_proxy: '::1' }), undefined);
  });
});
