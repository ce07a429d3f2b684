import assert from 'node:assert/strict';
import { fromBytes, type ModelFiles } from '../../src/checkpoint/byte-source.js';
import { openCheckpoint } from '../../src/checkpoint/open-checkpoint.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { disposeGit } from '../../src/model/git.js';
import { loadGit, loadImage2Text, quietTensorflow, startBackend, WeightError } from '../../src/node.js';
import { safetensorsBytes } from '../checkpoint/support.js';
import { torchZip } from '../checkpoint/torch-writer.js';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';
import { inMemory } from './support.js';

const SMALL = [
  'config.json',
  'generation_config.json',
  'preprocessor_config.json',
  'tokenizer_config.json',
  'vocab.txt',
];
const OTHERS = {
  '.gitattributes': '*.bin filter=lfs',
  'README.md': '---\nlicense: mit\n---',
  'special_tokens_map.json': '{}',
};
const IMAGE = `${EXAMPLES}blue-mug-dream.jpg`;

/** The demo's weights as the published repositories have them: with both int64 buffers. */
async function publishedTensors(): Promise<Map<string, Part>> {
  const { tensors } = await readSafetensors(fromBytes(readBin(`${DEMO}model.safetensors`)), 'demo');
  const all = new Map<string, Part>();
  for (const [name, { shape, dtype, read }] of tensors) all.set(name, { shape, dtype, bytes: await read() });
  const vision = 'git.image_encoder.vision_model.embeddings.position_ids';
  for (const [name, count] of [
    ['git.embeddings.position_ids', 64],
    [vision, 65],
  ] as const) {
    const ids = BigInt64Array.from({ length: count }, (_, i) => BigInt(i));
    all.set(name, { shape: [1, count], dtype: 'I64', bytes: new Uint8Array(ids.buffer) });
  }
  return all;
}

const contiguous = (shape: readonly number[]) =>
  shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));

async function torchFile(): Promise<Uint8Array> {
  const all = [...(await publishedTensors())];
  return torchZip(
    all.map(([name, { shape, dtype }], key) => ({
      ...{ name, key: `${key}`, count: shape.reduce((a, b) => a * b, 1), offset: 0, shape, strides: contiguous(shape) },
      storage: dtype === 'I64' ? 'LongStorage' : 'FloatStorage',
    })),
    Object.fromEntries(all.map(([, { bytes }], key) => [`${key}`, bytes])),
  );
}

interface Part {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A safetensors file of these tensors in their order. */
function safetensorsOf(parts: ReadonlyMap<string, Part>): Uint8Array {
  let end = 0;
  const entries = [...parts].map(([name, { dtype, shape, bytes }]) => {
    const begin = end;
    end += bytes.length;
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const header = Object.fromEntries<unknown>([['__metadata__', { format: 'pt' }], ...entries]);
  const data = Buffer.concat([...parts.values()].map(({ bytes }) => bytes));
  return safetensorsBytes(header, new Uint8Array(data));
}

describe('the layouts of the published repositories', () => {
  let repository: Record<string, Uint8Array | string>;
  let [torch, safe]: Uint8Array[] = [];
  before(async () => {
    quietTensorflow();
    await startBackend('wasm');
    repository = { ...OTHERS, ...Object.fromEntries(SMALL.map((name) => [name, readBin(DEMO + name)])) };
    [torch, safe] = [await torchFile(), safetensorsOf(await publishedTensors())];
  });

  async function captionOf(files: ModelFiles): Promise<string> {
    const model = await loadImage2Text(files);
    const { text } = await model.caption(IMAGE, { strategy: 'greedy' });
    model.dispose();
    return text;
  }

  it('pytorch_model.bin alone, safetensors alone and both give the same caption; safetensors is preferred', async () => {
    const expected = await captionOf(
      inMemory({ ...repository, 'model.safetensors': readBin(`${DEMO}model.safetensors`) }),
    );
    assert.notEqual(expected, '');
    const both = inMemory({ ...repository, 'pytorch_model.bin': torch!, 'model.safetensors': safe! });
    for (const files of [
      inMemory({ ...repository, 'pytorch_model.bin': torch! }),
      inMemory({ ...repository, 'model.safetensors': safe! }),
      both,
    ])
      assert.equal(await captionOf(files), expected);
    const { files, tensors } = await openCheckpoint(both);
    assert.deepEqual([files, tensors.has('git.embeddings.position_ids')], [['model.safetensors'], true]);
  });

  it('a broken safetensors is an error, though a good pytorch_model.bin lies beside it', async () => {
    const files = inMemory({
      ...repository,
      'pytorch_model.bin': torch!,
      'model.safetensors': safe!.subarray(0, 5000),
    });
    await assert.rejects(loadGit(files), /model\.safetensors/);
  });

  it('the tied output matrix may be left out; any other tensor may not', async () => {
    const without = async (dropped: string) => {
      const parts = await publishedTensors();
      parts.delete(dropped);
      return inMemory({ ...repository, 'model.safetensors': safetensorsOf(parts) });
    };
    disposeGit(await loadGit(await without('output.weight')));
    await assert.rejects(
      loadGit(await without('output.bias')),
      (error: unknown) =>
        error instanceof WeightError && error.faults.length === 1 && error.faults[0]!.name === 'output.bias',
    );
  });
});
