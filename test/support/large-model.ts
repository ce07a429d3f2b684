import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { backend } from '@tensorflow/tfjs-core';
import { DEMO, readBin } from './fixtures.js';
import { type LocalHub, startHub } from './local-hub.js';

/** A checkpoint on a Hub, `owner/large` of 7.2 MB, and the current backend, simd, with memory for 6 MB. */
export async function withLargeModel(
  body: (world: { hub: LocalHub; cacheDir: string }) => Promise<void>,
): Promise<void> {
  const hub = await startHub();
  const cacheDir = mkdtempSync(join(tmpdir(), 'image2text-cache-'));
  const names = readdirSync(DEMO).filter((name) => !/README|expected/.test(name));
  const content = (name: string) => ({ content: readBin(DEMO + name), lfs: name.endsWith('.safetensors') });
  hub.commit('owner/large', Object.fromEntries(names.map((name) => [name, content(name)])));
  const simd = backend() as unknown as { freeBytes: () => number };
  const { freeBytes } = simd;
  try {
    simd.freeBytes = () => 6e6;
    await body({ hub, cacheDir });
  } finally {
    Reflect.deleteProperty(simd, 'freeBytes');
    assert.equal(simd.freeBytes, freeBytes);
    await hub.close();
    rmSync(cacheDir, { recursive: true, force: true });
  }
}
