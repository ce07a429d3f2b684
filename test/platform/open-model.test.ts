import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, HubError } from '../../src/errors.js';
import { type HubOptions, openModel } from '../../src/platform/open-model.js';
import { type LocalHub, startHub } from '../support/local-hub.js';

describe('platform: models by name, address or folder', () => {
  let hub: LocalHub;
  let cacheDir: string;
  before(async () => {
    hub = await startHub();
    hub.commit('microsoft/git-base-coco', { 'config.json': '{}', 'vocab.txt': '', 'model.safetensors': 'main' });
    hub.commit(
      'microsoft/git-base-coco',
      { 'config.json': '{}', 'vocab.txt': '', 'model.safetensors': 'next' },
      'next',
    );
    cacheDir = mkdtempSync(join(tmpdir(), 'image2text-open-'));
  });
  after(async () => {
    rmSync(cacheDir, { recursive: true, force: true });
    await hub.close();
  });
  const open = (model: string, options: HubOptions = {}) =>
    openModel(model, { cacheDir, endpoint: hub.url, env: {}, ...options });
  const weights = async (model: string, options: HubOptions = {}) => {
    const source = (await (await open(model, options)).open('model.safetensors'))!;
    return Buffer.from(await source.slice(0, source.size).arrayBuffer()).toString();
  };

  it('takes names, and addresses of the Hub or of the endpoint, with their revision', async () => {
    assert.equal(await weights('microsoft/git-base-coco'), 'main');
    assert.equal(await weights('https://huggingface.co/microsoft/git-base-coco'), 'main');
    assert.equal(await weights('https://huggingface.co/microsoft/git-base-coco/tree/next'), 'next');
    assert.equal(await weights(`${hub.url}/microsoft/git-base-coco/blob/next/config.json`), 'next');
    assert.equal(await weights('https://huggingface.co/microsoft/git-base-coco', { revision: 'next' }), 'next');
    assert.equal((await open('https://huggingface.co/microsoft/git-base-coco')).label, 'microsoft/git-base-coco');
    const both = open('https://huggingface.co/microsoft/git-base-coco/tree/next', { revision: 'main' });
    await assert.rejects(both, (error) => error instanceof HubError && error.code === 'revision');
  });

  it('asks what was meant, online, offline and for a bare name', async () => {
    for (const localFilesOnly of [false, true]) {
      await assert.rejects(open('microsoft/git-base-cocoo', { localFilesOnly }), (error) => {
        assert.ok(error instanceof HubError);
        assert.match(error.message, /did you mean microsoft\/git-base-coco\?/);
        return true;
      });
    }
    await assert.rejects(open('git-base-textcap'), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, /did you mean microsoft\/git-base-textcaps\?/);
      return true;
    });
    await assert.rejects(open('nobody/nothing-like-it'), (error) => {
      assert.doesNotMatch((error as Error).message, /did you mean/);
      return true;
    });
  });

  it('offline, it says what to copy from where', async () => {
    await assert.rejects(open('microsoft/git-large', { localFilesOnly: true, cacheDir: '/cache' }), (error) => {
      const { message } = error as Error;
      assert.match(message, /copy models--microsoft--git-large from ~\/\.cache\/huggingface\/hub .* into \/cache/);
      return true;
    });
  });

  it('a folder goes before the Hub', async () => {
    const folder = join(cacheDir, 'a-folder');
    mkdirSync(folder);
    writeFileSync(join(folder, 'config.json'), '{}');
    const before = hub.requests.length;
    assert.equal((await (await open(folder)).open('config.json'))?.size, 2);
    assert.equal(hub.requests.length, before);
  });
});
