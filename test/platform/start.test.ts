import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { getBackend, registerBackend, removeBackend } from '@tensorflow/tfjs-core';
import { BackendError, loadImage2Text, OptionError, openImage, openVideo } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';

/** Runs a program in a process of its own, where no backend is registered yet; resolves to what it printed. */
const run = (code: string): string =>
  execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
    cwd: ROOT,
    encoding: 'utf8',
  });

describe('loadImage2Text of /node', () => {
  before(() => useBackend('wasm'));

  it('starts simd where no backend is registered, for several loads at once too', () => {
    const said = run(`
      import { getBackend } from '@tensorflow/tfjs-core';
      import { loadImage2Text } from './src/node.ts';
      const [a, b] = await Promise.all([loadImage2Text('demo'), loadImage2Text('demo')]);
      const { text } = await a.caption('examples/blue-mug-juice.png');
      console.log(getBackend(), text, (await b.caption('examples/blue-mug-juice.png')).text === text);`);
    assert.equal(said, 'simd a blue mug with the word juice on it true\n');
  });

  it('leaves an application’s backend alone, also one that it has registered and not set', () => {
    const said = run(`
      import { engine, getBackend, enableProdMode } from '@tensorflow/tfjs-core';
      import '@tensorflow/tfjs-backend-cpu';
      import { loadImage2Text } from './src/node.ts';
      enableProdMode();
      await loadImage2Text('demo');
      console.log(getBackend(), Object.keys(engine().registryFactory).join());
      await loadImage2Text('demo', { backend: 'simd' });
      console.log(getBackend());`);
    assert.equal(said, 'cpu cpu\nsimd\n');
  });

  it('says why a backend does not start', async () => {
    const cause = new Error('no abacus within reach');
    registerBackend('abacus', () => Promise.reject(cause));
    try {
      await assert.rejects(
        loadImage2Text('demo', { backend: 'abacus' }),
        (error: Error) =>
          error instanceof BackendError && error.cause === cause && error.message.includes('no abacus within reach'),
      );
    } finally {
      removeBackend('abacus');
    }
    await assert.rejects(
      loadImage2Text('demo', { backend: 'node' }),
      /@tensorflow\/tfjs-node is not installed: npm install/,
    );
    assert.equal(getBackend(), 'wasm');
  });

  it('needs a name', async () => {
    for (const none of [undefined, '', 5, null])
      await assert.rejects(
        loadImage2Text(none as never),
        (error: Error) => error instanceof OptionError && /name a checkpoint/.test(error.message),
      );
  });
});

describe('file URLs and names of any bytes', () => {
  const path = scratch();

  it('a URL that names no file of this machine is an ImageError', async () => {
    for (const odd of ['file://host/x.png', 'file:///a%2Fb.png', 'file:///a%00b.png'])
      for (const address of [odd, new URL(odd)])
        await assert.rejects(openImage(address), { name: 'ImageError', code: 'file-url' });
    await assert.rejects(openVideo('file://host/x.mp4', 6), { name: 'ImageError', code: 'file-url' });
  });

  it('a name that is no UTF-8 is opened by its URL, and found in a folder', async function () {
    if (process.platform !== 'linux') this.skip(); // other systems want UTF-8
    const folder = path('odd names');
    mkdirSync(folder);
    const name = Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.from([0xe9]), Buffer.from(' 1.png')]);
    writeFileSync(name, 'nine bytes');
    const [found] = (await openVideo(folder, 6)) as string[];
    assert.match(found!, /^file:\/\/\/.*caf%e9%201\.png$/);
    assert.equal(Buffer.from((await openImage(found!)).bytes).toString(), 'nine bytes');
  });
});
