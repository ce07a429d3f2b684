import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { registerSimdBackend } from 'tfjs-backend-simd';
import { scratch } from '../../../test/platform/videos-made.js';
import { ROOT } from '../../../test/support/fixtures.js';

const text = readFileSync(`${ROOT}packages/tfjs-backend-simd/README.md`, 'utf8');

const kernelsOf = (backend: string) => tf.getKernelsForBackend(backend).map(({ kernelName }) => kernelName);

/** What stands in backquotes. */
const names = (part: string) => [...part.matchAll(/`(\w+)`/g)].map(([, name]) => name!);

describe('packages/tfjs-backend-simd/README.md', () => {
  const [, tables = ''] = /## Kernels\n([\s\S]*?)Not supported:/.exec(text) ?? [];
  const [, missing = ''] = /Not supported: ([\s\S]*?)\. tfjs throws/.exec(text) ?? [];
  const { path, remove } = scratch();
  before(() => registerSimdBackend());
  after(remove);

  it('names every kernel once', () => {
    assert.deepEqual(names(tables).sort(), kernelsOf('simd').sort());
  });

  it('names what tfjs’s cpu backend has and this one has not; of its wasm backend nothing is missing', () => {
    const own = new Set(kernelsOf('simd'));
    assert.deepEqual(
      names(missing).sort(),
      kernelsOf('cpu')
        .filter((name) => !own.has(name))
        .sort(),
    );
    assert.deepEqual(
      kernelsOf('wasm').filter((name) => !own.has(name)),
      [],
    );
  });

  it('its example prints what it says', () => {
    const code = /```js\n([\s\S]*?)```/.exec(text)![1]!;
    const prints = [...code.matchAll(/^\/\/ (.*)$/gm)].map(([, line]) => line!);
    const own = createRequire(`${ROOT}package.json`);
    const address = (name: string) => pathToFileURL(own.resolve(name)).href;
    const file = path('backend.mjs');
    const local = code
      .replace('tfjs-backend-simd', pathToFileURL(`${ROOT}packages/tfjs-backend-simd/src/index.ts`).href)
      .replace('@tensorflow/tfjs-core', address('@tensorflow/tfjs-core'));
    writeFileSync(file, local);
    const printed = execFileSync(process.execPath, ['--import', address('tsx'), file], { encoding: 'utf8' });
    assert.equal(prints.length, 2);
    assert.deepEqual(printed.trimEnd().split('\n'), prints);
  });
});
