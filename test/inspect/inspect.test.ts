import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { memory } from '@tensorflow/tfjs-core';
import { Image2TextError, inspectFile } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { DEMO, EXAMPLES, endOf, HOSTILE, hostileCases, REFERENCE, readBin } from '../support/fixtures.js';
import { startHub } from '../support/local-hub.js';

describe('inspect', () => {
  before(() => useBackend('cpu'));

  const kinds = [
    'safetensors',
    'sharded-index',
    'config',
    'preprocessor',
    'vocab',
    'tokenizer',
    'png',
    'jpeg',
    'other-image',
    'torch',
  ];
  for (const kind of kinds) {
    it(`--check of every hostile ${kind} file ends as its manifest says`, async () => {
      const wrong: string[] = [];
      const tensors = memory().numTensors;
      for (const entry of hostileCases(kind)) {
        const end = await inspectFile(`${HOSTILE}${entry.file}`, { check: true }).then(
          () => 'load',
          (error: unknown) => {
            if (!(error instanceof Image2TextError)) return `untyped ${error}`;
            if (error.message.includes('\n') || error.message.length > 300)
              return `message ${JSON.stringify(error.message)}`;
            if (error.file === undefined) return `no file in ${error.message}`;
            return error.unsupported ? 'unsupported' : entry.expect.includes('-or-') ? error.code : 'error';
          },
        );
        // A wrong checksum of a PNG chunk whose pixels are whole: the manifest says error, Pillow's readers and ours read it (see test/image/hostile.test.ts).
        const expected = entry.file === 'image/crc_idat.png' ? 'load' : endOf(entry);
        if (end !== expected) wrong.push(`${entry.file}: expected ${expected}, got ${end} (${entry.rule})`);
      }
      assert.deepEqual(wrong, []);
      assert.equal(memory().numTensors, tensors);
      assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    });
  }

  it('lists tensors with shapes, dtypes and sizes', async () => {
    const found = await inspectFile(`${DEMO}model.safetensors`);
    assert.equal(found.kind, 'safetensors');
    const words = found.tensors?.find(({ name }) => name === 'git.embeddings.word_embeddings.weight');
    assert.deepEqual(words, {
      name: 'git.embeddings.word_embeddings.weight',
      dtype: 'F32',
      shape: [356, 128],
      bytes: 356 * 128 * 4,
    });
    assert.equal(found.facts['tensors'], found.tensors?.length);
  });

  for (const [file, kind, fact, value] of [
    [`${DEMO}config.json`, 'config', 'hiddenSize', 128],
    [`${DEMO}preprocessor_config.json`, 'preprocessor config', 'resample', 'bicubic'],
    [`${DEMO}vocab.txt`, 'vocabulary', 'words', 356],
    [`${DEMO}tokenizer_config.json`, 'tokenizer config', 'modelMaxLength', 64],
    [`${EXAMPLES}blue-mug-juice.png`, 'image', 'width', 320],
    [`${EXAMPLES}video-1.gif`, 'image', 'frames', 6],
    [DEMO, 'checkpoint folder', 'parameters', 1_770_000],
    [`${REFERENCE}checkpoints/sharded-safetensors/model.safetensors.index.json`, 'safetensors index', 'dtypes', 'F32'],
  ] as const) {
    it(`knows ${kind}`, async () => {
      const found = await inspectFile(file, { check: true });
      assert.equal(found.kind, kind);
      if (fact === 'parameters')
        assert.ok(Math.abs(Number(found.facts[fact]) - value) < 20_000, String(found.facts[fact]));
      else assert.equal(found.facts[fact], value);
    });
  }

  it('reads a file behind an address by its ranges, and shards beside their index', async () => {
    const hub = await startHub();
    const shards = `${REFERENCE}checkpoints/sharded-safetensors/`;
    const files = Object.fromEntries(
      readdirSync(shards).map((name) => [name, { content: readBin(shards + name), lfs: true }]),
    );
    hub.commit('a/b', { ...files, 'model.safetensors': { content: readBin(`${DEMO}model.safetensors`), lfs: true } });
    const address = (name: string) => `${hub.url}/a/b/resolve/main/${name}`;
    const found = await inspectFile(address('model.safetensors'));
    assert.equal(found.tensors?.length, (await inspectFile(`${DEMO}model.safetensors`)).tensors?.length);
    assert.ok(hub.bytesSent < 100_000, `${hub.bytesSent} bytes for the header of a file of 7 MB`);
    const index = await inspectFile(address('model.safetensors.index.json'));
    assert.equal(index.facts['dtypes'], 'F32');
    await assert.rejects(inspectFile(address('nowhere.safetensors')), Image2TextError);
    await hub.close();
  });

  it('reads headers only without --check', async () => {
    const broken = `${HOSTILE}image/trunc_half_scan.jpg`;
    assert.equal((await inspectFile(broken)).kind, 'image');
    await assert.rejects(inspectFile(broken, { check: true }));
  });
});
