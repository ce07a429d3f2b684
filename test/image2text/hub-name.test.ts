import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LoadEvent } from '../../src/node.js';
import { HubError, loadImage2Text } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';
import { startHub } from '../support/local-hub.js';

describe("loadImage2Text('owner/name')", () => {
  const repo = 'microsoft/git-base-textcaps';
  let cacheDir = '';
  before(async () => {
    await useBackend('wasm');
    cacheDir = mkdtempSync(join(tmpdir(), 'image2text-cache-'));
  });
  after(() => rmSync(cacheDir, { recursive: true, force: true }));

  it('downloads once, captions, and needs no network the second time', async () => {
    const hub = await startHub();
    const names = readdirSync(DEMO).filter((name) => !/README|expected/.test(name));
    hub.commit(
      repo,
      Object.fromEntries(
        names.map((name) => [name, { content: readBin(DEMO + name), lfs: name.endsWith('.safetensors') }]),
      ),
    );
    const events: LoadEvent[] = [];
    const load = (more: object) =>
      loadImage2Text(repo, {
        cacheDir,
        endpoint: hub.url,
        env: {},
        onProgress: (event) => events.push(event),
        ...more,
      });
    const say = async (more: object) => {
      const model = await load(more);
      const { text } = await model.caption(`${EXAMPLES}blue-mug-juice.png`);
      model.dispose();
      return text;
    };
    assert.equal(await expectTensors(0, () => say({})), 'a blue mug with the word juice on it');
    const files = new Set(events.flatMap((event) => ('file' in event ? [event.file] : [])));
    assert.ok(files.has('model.safetensors') && files.has('weights'), [...files].join());
    assert.deepEqual(events.at(-1), { status: 'ready', task: 'image-to-text', model: repo });
    const requests = hub.requests.length;
    assert.equal(await say({ localFilesOnly: true }), 'a blue mug with the word juice on it');
    assert.equal(hub.requests.length, requests);
    await hub.close();
  });

  it('asks the backend before the Hub: wasm keeps weights as f32 only', async () => {
    const hub = await startHub();
    const load = () => loadImage2Text(repo, { cacheDir, endpoint: hub.url, env: {}, weights: 'bf16' });
    await assert.rejects(load(), /^BackendError: wasm: weight-format: .* for bf16 choose the backend simd/);
    assert.equal(hub.requests.length, 0);
    await hub.close();
  });

  it('says that it is neither in the cache nor a folder', async () => {
    await assert.rejects(
      loadImage2Text('microsoft/git-nowhere', { cacheDir, env: {}, localFilesOnly: true }),
      (error: Error) => error instanceof HubError && /there is no folder microsoft\/git-nowhere/.test(error.message),
    );
  });
});
