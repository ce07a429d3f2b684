import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { backend } from '@tensorflow/tfjs-core';
import type { SimdBackend } from 'tfjs-backend-simd';
import type { ModelFiles } from '../../src/checkpoint/byte-source.js';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { planSafetensors } from '../../src/checkpoint/safetensors.js';
import { specEntries } from '../../src/layers/param-spec.js';
import { gitSpec } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { BackendError, fromDirectory, loadImage2Text } from '../../src/node.js';
import { cli } from '../cli/support.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES, readJson } from '../support/fixtures.js';
import { withLargeModel } from '../support/large-model.js';

const MUG = 'blue-mug-juice.png';

/** A checkpoint of 5.6 GB by its header, behind which there is nothing; `read` counts what is asked for of it. */
async function enormous(): Promise<{ files: ModelFiles; read: () => number; header: number }> {
  const demo = await fromDirectory(DEMO);
  const json = readJson<{ vision_config: object }>(`${DEMO}config.json`);
  const sizes = { hidden_size: 2048, intermediate_size: 8192, num_attention_heads: 16, num_hidden_layers: 28 };
  const given = { ...json, ...sizes };
  const needed = specEntries(gitSpec(parseGitConfig(given, 'config.json')));
  const tensors = needed.map(({ name, spec }) => ({ name, dtype: 'F32', shape: spec.shape }));
  const { header, size } = planSafetensors(tensors, {});
  let read = 0;
  const slice = (start: number, end: number) => {
    read += end - start;
    assert.ok(end <= header.length, `bytes ${start} to ${end} of a tensor were read`);
    return fromBytes(header).slice(start, end);
  };
  const open = async (name: string) => {
    if (name === 'config.json') return fromBytes(new TextEncoder().encode(JSON.stringify(given)));
    return name === 'model.safetensors' ? { size, slice } : demo.open(name);
  };
  return { files: { label: 'enormous', open }, read: () => read, header: header.length };
}

describe('weights that are too large for the memory', () => {
  before(() => useBackend('simd'));

  it('are refused by their header before a tensor is read, with the formats that would fit', () =>
    expectTensors(0, async () => {
      const { files, read, header } = await enormous();
      const simd = backend() as unknown as SimdBackend;
      const used = simd.freeBytes();
      await assert.rejects(loadImage2Text(files), (error: unknown) => {
        assert.ok(error instanceof BackendError, String(error));
        assert.equal(error.code, 'memory-limit');
        assert.match(
          error.message,
          /^simd: memory-limit: the weights need 5\d\d\d MiB as f32, and the backend's memory takes [34]\d\d\d MiB more; it fits with weights bf16 \(2\d\d\d MiB\), f16 \(2\d\d\d MiB\), int8 \(1\d\d\d MiB\)/,
        );
        return true;
      });
      assert.equal(read(), header);
      assert.equal(simd.freeBytes(), used);
    }));

  it('are counted as they will be allocated, in every format', async () => {
    const simd = backend() as unknown as SimdBackend;
    for (const weights of ['f32', 'bf16', 'f16', 'int8', 'int8-fast'] as const) {
      const before = simd.freeBytes();
      const model = await loadImage2Text('demo', { weights });
      const taken = before - simd.freeBytes();
      const stated = specEntries(gitSpec(model.config)).reduce(
        (sum, { spec }) => sum + simd.paramBytes(spec.shape, spec.layout, weights),
        0,
      );
      model.dispose();
      assert.equal(taken, stated, weights);
    }
  });

  it('are refused before they are downloaded', () =>
    withLargeModel(async ({ hub, cacheDir }) => {
      const load = (more: object) => loadImage2Text('owner/large', { cacheDir, endpoint: hub.url, env: {}, ...more });
      await assert.rejects(load({}), /^BackendError: simd: memory-limit: .* fits with weights bf16/);
      assert.ok(hub.bytesSent < 200_000, `${hub.bytesSent} bytes were sent`);
      (await load({ weights: 'int8' })).dispose();
      assert.ok(hub.bytesSent > 7e6);
      const requests = hub.requests.length;
      await assert.rejects(load({ localFilesOnly: true }), /memory-limit/);
      assert.equal(hub.requests.length, requests);
    }));

  it('are refused before they are downloaded by every command that loads a model', async () => {
    const photo = join(EXAMPLES, MUG);
    assert.equal((await cli(['caption', photo, '--model', 'demo'])).code, 0); // commands of this process have a backend of their own
    await withLargeModel(async ({ hub, cacheDir }) => {
      const references = join(cacheDir, 'references.jsonl');
      writeFileSync(references, JSON.stringify({ file: MUG, references: ['a blue mug'] }));
      const output = join(cacheDir, 'predictions.jsonl');
      const predict = [output, '--references', references, '--images', EXAMPLES, '--predict', 'owner/large'];
      const model = ['--model', 'owner/large'];
      const before = process.env;
      process.env = { ...before, HF_ENDPOINT: hub.url, HF_HUB_CACHE: join(cacheDir, 'hub') };
      try {
        for (const args of [
          ['caption', photo, ...model],
          ['answer', photo, 'what is it?', ...model],
          ['classify', photo, '--labels', 'mug,cup', ...model],
          ['evaluate', ...predict],
          ['train', EXAMPLES, '--output', join(cacheDir, 'run'), ...model],
          ['verify', 'owner/large', '--as', 'microsoft/git-base'],
        ]) {
          const { code, stderr } = await cli(args);
          assert.match(stderr, /simd: memory-limit: /, `${args.join(' ')}: ${stderr}`);
          assert.equal(code, 1, args.join(' '));
        }
        assert.ok(hub.bytesSent < 400_000, `${hub.bytesSent} bytes were sent`);
      } finally {
        process.env = before;
      }
    });
  });
});
