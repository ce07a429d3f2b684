import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { backend, memory } from '@tensorflow/tfjs-core';
import type { SimdBackend } from 'tfjs-backend-simd';
import { env, pipeline } from '../../src/node.js';
import { useBackend, useThreads } from '../support/backends.js';
import { DEMO } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { type LocalHub, startHub } from '../support/local-hub.js';
import { BOOK, refusal } from './support.js';

const TEXT = [{ generated_text: 'a red book with the title short' }];

describe('pipelines: env', () => {
  const path = scratch();
  const defaults = { ...env };
  let hub: LocalHub;
  before(async () => {
    await useBackend('wasm');
    hub = await startHub();
    mkdirSync(path('models/own'), { recursive: true });
    symlinkSync(DEMO, path('models/own/demo'));
  });
  afterEach(() => {
    Object.assign(env, defaults);
    env.backends.onnx.wasm = {};
  });
  after(async () => {
    await hub.close();
  });
  const load = async (model: string) => {
    const caption = await pipeline('image-to-text', model);
    const found = await caption(BOOK);
    await caption.dispose();
    return found;
  };

  it('localModelPath: names are looked for there, and no request is made', async () => {
    Object.assign(env, { localModelPath: path('models'), remoteHost: hub.url, cacheDir: path('none') });
    const tensors = memory().numTensors;
    assert.deepEqual(await load('own/demo'), TEXT);
    env.allowRemoteModels = false;
    assert.deepEqual(await load('own/demo'), TEXT);
    assert.deepEqual(hub.requests, []);
    assert.equal(memory().numTensors, tensors);
  });

  it('remoteHost and cacheDir: where models come from and are kept; allowRemoteModels: whether at all', async () => {
    const files = readdirSync(DEMO).map((name) => [name, { content: readFileSync(`${DEMO}${name}`) }] as const);
    hub.commit('own/other', Object.fromEntries(files));
    Object.assign(env, { remoteHost: `${hub.url}/`, cacheDir: path('cache') });
    assert.deepEqual(await load('own/other'), TEXT);
    assert.ok(hub.requests.some((request) => request.path.includes('own/other')));
    assert.ok(readdirSync(path('cache')).includes('models--own--other'));
    const asked = hub.requests.length;
    env.allowRemoteModels = false;
    assert.deepEqual(await load('own/other'), TEXT);
    assert.match(await refusal(() => load('own/never')), /^HubError .*: not-cached$/);
    assert.equal(hub.requests.length, asked);
  });

  it('allowLocalModels: a folder of the name is passed over', async () => {
    Object.assign(env, { localModelPath: path('models'), remoteHost: hub.url, cacheDir: path('cache') });
    env.allowLocalModels = false;
    assert.match(await refusal(() => load('own/demo')), /^HubError .*: repo-not-found$/);
    env.allowRemoteModels = false;
    assert.equal(await refusal(() => load('own/demo')), 'OptionError env.allowLocalModels: contradiction');
  });

  it('options of the call win', async () => {
    Object.assign(env, { remoteHost: 'http://127.0.0.1:1', cacheDir: path('other') });
    const options = { endpoint: hub.url, cacheDir: path('mine') };
    assert.match(
      await refusal(() => pipeline('image-to-text', 'own/nowhere', options)),
      /^HubError .*: repo-not-found$/,
    );
  });

  it('numThreads: what the backend computes with', async () => {
    await useBackend('simd');
    useThreads(2);
    env.backends.onnx.wasm.numThreads = 1;
    const caption = await pipeline('image-to-text', DEMO);
    try {
      assert.equal((backend() as SimdBackend).pool.threads, 1);
      assert.deepEqual(await caption(BOOK), TEXT);
    } finally {
      await caption.dispose();
      await useBackend('wasm');
    }
  });

  it('refuses what it cannot do, and takes what says nothing', async () => {
    for (const [name, value, code] of [
      ['remotePathTemplate', '{model}/', 'unsupported-option'],
      ['useCustomCache', true, 'unsupported-option'],
      ['useFSCache', false, 'unsupported-option'],
      ['fetch', async () => new Response(), 'unsupported-option'],
      ['allowRemoteModels', 'no', 'wrong-type'],
      ['cacheDir', 1, 'wrong-type'],
    ] as const) {
      Object.assign(env, { ...defaults, [name]: value });
      assert.equal(await refusal(() => load(DEMO)), `OptionError env.${name}: ${code}`);
    }
    Object.assign(env, {
      ...defaults,
      useBrowserCache: false,
      useWasmCache: false,
      logLevel: 50,
      fetch: globalThis.fetch,
    });
    Object.assign(env.backends.onnx.wasm, { wasmPaths: '/wasm/', proxy: true, numThreads: 0 });
    assert.deepEqual(await load(DEMO), TEXT);
  });
});
