import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { memory } from '@tensorflow/tfjs-core';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { parseJsonFile } from '../../src/checkpoint/json.js';
import { checkInferred, fromOriginalLayout, inferConfig } from '../../src/checkpoint/layout.js';
import { openCheckpoint, openWeights } from '../../src/checkpoint/open-checkpoint.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { readValues, renameTensors, type TensorMap, toFloat32 } from '../../src/checkpoint/stored-tensor.js';
import { ConfigError, WeightError } from '../../src/errors.js';
import { REFERENCE, readBin, readJson } from '../support/fixtures.js';
import { failure, folder, safetensorsBytes, storedF32 } from './support.js';

const CHECKPOINTS = `${REFERENCE}checkpoints/`;
const spelling4 = (tensors: TensorMap) =>
  renameTensors(tensors, (name) => name.replace('img_temporal_embedding', 'img_temperal_embedding'));
const plain = async (model: string) =>
  (await readSafetensors(fromBytes(readBin(`${REFERENCE}${model}/model.safetensors`)), model)).tensors;
const config = (path: string) => parseJsonFile(readFileSync(path), 'config.json', ConfigError);

/** float32 rounded to what a half or a bfloat16 holds, computed here without the code under test. */
function rounded(value: number, bits: number, least: number): number {
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value) || 1)), least);
  const step = 2 ** (exponent - bits);
  const scaled = value / step;
  const down = Math.floor(scaled);
  const tie = scaled - down === 0.5;
  return (tie ? down + (down & 1) : Math.round(scaled)) * step;
}
const ROUND: Record<string, (value: number) => number> = {
  F32: (value) => value,
  F16: (value) => rounded(value, 10, -14),
  BF16: (value) => rounded(value, 7, -126),
};

describe('containers of one model', () => {
  const { checkpoints } = readJson<{ checkpoints: { folder: string; files: { name: string }[] }[] }>(
    `${CHECKPOINTS}checkpoints.json`,
  );

  for (const { folder: name } of checkpoints) {
    it(`${name} holds the values of the plain safetensors`, async () => {
      const expected = await plain(name.startsWith('video') ? 'tiny-video' : 'tiny-a');
      const opened = await openCheckpoint(folder(CHECKPOINTS + name));
      const tensors = spelling4(opened.tensors);
      const buffers = [...tensors.keys()].filter((key) => key.endsWith('position_ids'));
      assert.equal(buffers.length, /^hf-bin(-legacy)?$/.test(name) ? 2 : 0);
      assert.deepEqual([...tensors.keys()].filter((key) => !buffers.includes(key)).sort(), [...expected.keys()].sort());
      assert.equal(opened.layout, name.includes('original') ? 'original' : 'hugging-face');
      let values = 0;
      for (const [key, stored] of expected) {
        const got = tensors.get(key)!;
        assert.deepEqual(got.shape, stored.shape, key);
        const want = toFloat32(stored, await stored.read()).map(ROUND[got.dtype]!);
        assert.deepEqual(toFloat32(got, await got.read()), want, `${name}: ${key}`);
        const middle = 4 * Math.floor(stored.byteLength / 8);
        const size = got.byteLength / stored.byteLength;
        assert.deepEqual(await got.read(middle * size), (await got.read()).slice(middle * size), `${key} by parts`);
        values += want.length;
      }
      for (const key of buffers) {
        const ids = await readValues(tensors.get(key)!);
        for (let i = 0; i < ids.length; i++) assert.equal(ids[i], BigInt(i));
      }
      assert.ok(values > 40_000);
    });
  }

  it('says the config of every folder from the shapes alone, but for the heads', async () => {
    for (const { folder: name } of checkpoints) {
      const { tensors } = await openCheckpoint(folder(CHECKPOINTS + name));
      const given = config(`${CHECKPOINTS}${name}/config.json`) as Record<string, unknown>;
      const inferred = inferConfig(tensors, name);
      checkInferred(inferred, given as never);
      for (const key of [
        'vocab_size',
        'hidden_size',
        'num_hidden_layers',
        'intermediate_size',
        'max_position_embeddings',
      ]) {
        assert.equal(inferred[key], given[key], `${name}: ${key}`);
      }
      const vision = given['vision_config'] as Record<string, unknown>;
      for (const key of ['hidden_size', 'num_hidden_layers', 'intermediate_size', 'image_size', 'patch_size']) {
        assert.equal(inferred.vision_config[key], vision[key], `${name}: vision_config.${key}`);
      }
      assert.equal(inferred['num_image_with_embedding'], given['num_image_with_embedding'] ?? null);
    }
  });

  it('refuses a config.json that contradicts the weights', async () => {
    const inferred = inferConfig(await plain('tiny-a'), 'tiny-a');
    const given = config(`${REFERENCE}tiny-a/config.json`) as Record<string, object>;
    for (const [change, path] of [
      [{ hidden_size: 44 }, 'hidden_size'],
      [{ vision_config: { ...given['vision_config'], patch_size: 5 } }, 'vision_config.patch_size'],
      [{ num_image_with_embedding: 6 }, 'num_image_with_embedding'],
      [{ num_hidden_layers: '3' }, 'num_hidden_layers'],
    ] as const) {
      const error = await failure(path, async () => checkInferred(inferred, { ...given, ...change } as never));
      assert.ok(error instanceof ConfigError);
      assert.deepEqual([error.code, error.path], ['config-contradicts-weights', path]);
    }
    checkInferred(inferred, { ...given, num_attention_heads: 8 } as never);
    checkInferred(inferred, { vision_config: { image_size: 38, patch_size: 7 } });
  });

  it('names the tensor without which no config can be inferred', async () => {
    const tensors = new Map(await plain('tiny-a'));
    const name = 'git.image_encoder.vision_model.embeddings.position_embedding.weight';
    tensors.set(name, storedF32(name, [27, 24], new Float32Array(27 * 24)));
    assert.match((await failure('square', async () => inferConfig(tensors, 'x'))).detail, /not a square/);
    tensors.delete(name);
    const error = await failure('missing', async () => inferConfig(tensors, 'x'));
    assert.deepEqual([error.code, error.path], ['cannot-infer', name]);
  });

  it('refuses fused attention that is not three parts, and two tensors of one meaning', async () => {
    const block = 'image_encoder.transformer.resblocks.0.attn.in_proj_bias';
    const odd = new Map([[block, storedF32(block, [4], new Float32Array(4))]]);
    assert.equal((await failure('odd', async () => fromOriginalLayout(odd))).code, 'fused-attention');
    const names = ['textual.output.bias', 'module.textual.output.bias'];
    const twice = new Map(names.map((name) => [name, storedF32(name, [1], new Float32Array(1))]));
    assert.equal((await failure('twice', async () => fromOriginalLayout(twice))).code, 'name-collision');
  });

  it('takes prefixes off where every name has them, in any combination, and leaves them where one has not', async () => {
    const values = new Float32Array([1]).buffer;
    const open = async (names: readonly string[]) => {
      const header = Object.fromEntries(
        names.map((name, n) => [name, { dtype: 'F32', shape: [1], data_offsets: [4 * n, 4 * n + 4] }]),
      );
      const data = new Uint8Array(4 * names.length);
      for (const n of names.keys()) data.set(new Uint8Array(values), 4 * n);
      const bytes = safetensorsBytes(header, data);
      const files = {
        label: 'x',
        open: async (name: string) => (name === 'model.safetensors' ? fromBytes(bytes) : undefined),
      };
      return [...(await openCheckpoint(files)).tensors.keys()];
    };
    for (const prefix of ['_orig_mod.', 'module.', 'model.', 'module._orig_mod.', '_orig_mod.module.model.']) {
      assert.deepEqual(await open([`${prefix}git.a`, `${prefix}output.b`]), ['git.a', 'output.b'], prefix);
      assert.deepEqual(await open([`${prefix}git.a`, 'output.b']), [`${prefix}git.a`, 'output.b'], prefix);
    }
    assert.deepEqual(await open(['model.textual.output.bias', 'model.image_encoder.conv1.weight']), [
      'output.bias',
      'git.image_encoder.vision_model.embeddings.patch_embedding.weight',
    ]);
  });

  it('opens a single file of any name by what it is', async () => {
    for (const [folderName, file, as] of [
      ['hf-bin', 'pytorch_model.bin', 'weights'],
      ['hf-bin-legacy', 'pytorch_model.bin', 'x.pth'],
      ['original', 'model.pt', 'model.pt'],
      ['f16', 'model.safetensors', 'weights'],
      ['sharded-bin', 'pytorch_model.bin.index.json', 'pytorch_model.bin.index.json'],
      ['sharded-safetensors', 'model.safetensors.index.json', 'model.safetensors.index.json'],
    ] as const) {
      const files = folder(CHECKPOINTS + folderName);
      const { tensors } = await openWeights(files, as, (await files.open(file))!);
      assert.ok(tensors.has('git.embeddings.word_embeddings.weight'), folderName);
    }
  });

  it('never falls back from a broken safetensors file to a pickle, and says what it looked for', async () => {
    const good = folder(`${CHECKPOINTS}hf-bin`);
    const before = memory().numTensors;
    const files = {
      label: 'both',
      open: async (name: string) =>
        name === 'model.safetensors' ? fromBytes(new Uint8Array([1, 2, 3])) : good.open(name),
    };
    assert.equal((await failure('both', () => openCheckpoint(files))).code, 'file-too-short');
    const none = await failure('none', () => openCheckpoint({ label: 'empty', open: async () => undefined }));
    assert.ok(none instanceof WeightError);
    assert.match(none.message, /^empty: no-weights: .*model\.safetensors, .*pytorch_model\.bin, .*model\.pt$/);
    assert.equal(memory().numTensors, before);
  });
});
