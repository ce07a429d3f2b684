import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { registerSimdBackend } from '../src/index.js';

const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

const kernelsOf = (backend: string) => tf.getKernelsForBackend(backend).map(({ kernelName }) => kernelName);

/** What is written in backquotes. */
const names = (part: string) => [...part.matchAll(/`(\w+)`/g)].map(([, name]) => name!);

describe('packages/tfjs-backend-simd/README.md', () => {
  const [, tables = ''] = /## Kernels\n([\s\S]*?)Not supported:/.exec(text) ?? [];
  const [, missing = ''] = /Not supported: ([\s\S]*?)\. tfjs throws/.exec(text) ?? [];
  before(() => registerSimdBackend());

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

  /** What example `n` prints, run by Node with `around` in front of it and behind it. */
  function printed(n: number, around: readonly [string, string] = ['', '']): string[] {
    const own = createRequire(import.meta.url);
    const address = (name: string) => pathToFileURL(own.resolve(name)).href;
    const folder = mkdtempSync(join(tmpdir(), 'simd-readme-'));
    try {
      const code = examples[n]!.replaceAll(
        'tfjs-backend-simd',
        new URL('../src/index.ts', import.meta.url).href,
      ).replaceAll('@tensorflow/tfjs-core', address('@tensorflow/tfjs-core'));
      writeFileSync(join(folder, 'before.mjs'), around[0]);
      writeFileSync(join(folder, 'example.mjs'), `import './before.mjs';\n${code}\n${around[1]}`);
      const args = ['--import', address('tsx'), join(folder, 'example.mjs')];
      return execFileSync(process.execPath, args, { encoding: 'utf8' }).trimEnd().split('\n');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  const examples = [...text.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code!);

  it('its example for Node prints what it says', () => {
    const prints = [...examples[0]!.matchAll(/^\/\/ (.*)$/gm)].map(([, line]) => line!);
    assert.equal(prints.length, 2);
    assert.deepEqual(printed(0), prints);
  });

  it('its example of a worker answers messages', () => {
    const scope = 'globalThis.onmessage = null; globalThis.postMessage = (answer) => console.log(answer);';
    assert.deepEqual(printed(1, [scope, 'await onmessage({ data: 1000 });']), ['1000']);
  });
});
