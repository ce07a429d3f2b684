import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { NODE_BACKENDS, type NodeBackend } from '../../src/node.js';
import { selfTest } from '../../src/tools/doctor.js';
import { runDoctor } from '../../src/tools/index.js';
import { withFolder } from '../support/folder.js';

describe('runDoctor', () => {
  it('tries backends in processes of their own, and says what to do', async () => {
    await withFolder(async (folder) => {
      const model = join(folder, 'models--a--b');
      mkdirSync(join(model, 'blobs'), { recursive: true });
      mkdirSync(join(model, 'snapshots/c'), { recursive: true });
      writeFileSync(join(model, 'blobs/d'), 'x'.repeat(1234));
      symlinkSync('../../blobs/d', join(model, 'snapshots/c/file'));
      const env = {
        ...{ HF_HUB_CACHE: folder, HF_TOKEN: 'hf_secret', HF_HUB_OFFLINE: '1' },
        HTTPS_PROXY: 'http://me:hunter2@proxy.example:3128',
      };
      const received: string[] = [];
      const report = await runDoctor({
        env,
        backends: ['wasm', 'node'],
        timeoutMs: 280_000,
        onBackend: (name) => received.push(name),
      });
      const { backends, cache, hub, machine, problems } = report;
      assert.equal(hub.state, 'offline');
      assert.deepEqual([report.healthy, received], [true, ['auto', 'wasm', 'node']]);
      assert.ok(NODE_BACKENDS.includes(report.defaultBackend as NodeBackend), report.defaultBackend);
      const [wasm, node] = backends;
      assert.equal(wasm!.state, 'works');
      assert.ok(wasm!.test!.largestDifference < 1e-4 && wasm!.test!.milliseconds > 0);
      console.log(`      wasm: ${wasm!.test!.largestDifference.toExponential(1)} from cpu`);
      assert.ok(node!.state !== 'missing' || /npm install @tensorflow\/tfjs-node@/.test(node!.detail!));
      assert.deepEqual([cache.folder, cache.models, cache.bytes, cache.writable], [folder, 1, 1234, true]);
      assert.ok(machine.cores >= 1 && machine.memory > 1e8 && machine.node === process.versions.node);
      assert.ok(problems.some(({ what, advice }) => /OFFLINE/.test(what) && advice !== ''));
      const text = JSON.stringify(report);
      assert.ok(!text.includes('hf_secret') && !text.includes('hunter2') && text.includes('proxy.example'));
    });
  });

  it('a backend that takes too long, or a place without a cache, is a finding and no error', async () => {
    const report = await runDoctor({ env: { HF_HUB_CACHE: '/nowhere/at/all' }, backends: [], timeoutMs: 1 });
    assert.deepEqual([report.healthy, report.defaultBackend], [false, undefined]);
    assert.match(report.problems[0]!.what, /no backend works: no answer in 0\.001 s/);
    assert.deepEqual([report.cache.models, report.cache.bytes], [0, 0]);
    const aborted = await runDoctor({ env: {}, backends: ['cpu'], signal: AbortSignal.abort() });
    assert.equal(aborted.healthy, false);
  });

  it('an optional backend without an answer is no problem', async () => {
    const { backends, problems } = await runDoctor({ env: {}, backends: ['wasm'], timeoutMs: 1 });
    assert.deepEqual(
      backends.map(({ state, detail }) => [state, detail]),
      [['unfinished', 'no answer in 0.001 s']],
    );
    assert.ok(!problems.some(({ what }) => what.includes('wasm')));
  });

  it('says whether the Hub answers', async () => {
    const server = createServer((request, response) => {
      response.statusCode = request.url!.startsWith('/down') ? 503 : 200;
      response.end();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const ask = async (HF_ENDPOINT: string) =>
      (await runDoctor({ env: { HF_ENDPOINT, HF_HUB_CACHE: '/nowhere' }, backends: [], timeoutMs: 1 })).hub;
    try {
      const endpoint = `http://127.0.0.1:${port}`;
      assert.deepEqual(await ask(endpoint), { endpoint, state: 'answers' });
      const down = await ask(`${endpoint}/down`);
      assert.deepEqual([down.state, down.detail], ['no answer', 'HTTP 503']);
    } finally {
      server.close();
    }
    const refused = await ask(`http://127.0.0.1:${port}`);
    assert.deepEqual([refused.state, /ECONNREFUSED/.test(refused.detail ?? '')], ['no answer', true], refused.detail);
    assert.equal((await ask('ftp://x')).state, 'no answer');
  });

  it('the self-test gives the cpu backend its own numbers', async () => {
    const { largestDifference, tfjsName } = await selfTest('cpu');
    assert.deepEqual([largestDifference, tfjsName], [0, 'cpu']);
  });
});
