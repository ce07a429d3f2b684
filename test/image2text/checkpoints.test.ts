import assert from 'node:assert/strict';
import { getBackend, tensor } from '@tensorflow/tfjs-core';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import type { ModelFiles } from '../../src/node.js';
import { fromBytes, loadGit, loadImage2Text, TokenizerError, WeightError } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';

/** The demo checkpoint with some of its files replaced; undefined takes one away. */
function altered(files: Readonly<Record<string, Uint8Array | undefined>>): ModelFiles {
  return {
    label: 'altered',
    async open(name) {
      if (name in files) return files[name] === undefined ? undefined : fromBytes(files[name]);
      try {
        return fromBytes(readBin(DEMO + name));
      } catch {
        return undefined;
      }
    },
  };
}

const text = (value: string) => new TextEncoder().encode(value);
const config = (change: object) =>
  text(JSON.stringify({ ...JSON.parse(Buffer.from(readBin(`${DEMO}config.json`)).toString()), ...change }));

describe('checkpoints that are not quite right', () => {
  before(() => useBackend('wasm'));
  const image = readBin(`${EXAMPLES}red-book-short.png`);

  it('an upload that copies is given the same memory again', async () => {
    for (const uploadCopies of [undefined, true]) {
      const buffers = new Set<ArrayBufferLike>();
      const upload = (values: Float32Array, shape: number[]) => {
        buffers.add(values.buffer);
        return tensor(values.slice(), shape, 'float32');
      };
      await expectTensors(0, async () => {
        const model = await loadImage2Text(altered({}), { upload, uploadCopies });
        model.dispose();
      });
      assert.equal(buffers.size === 1, uploadCopies === true);
    }
  });

  it('a vocabulary that is cut is an error when the model writes a word that it lacks', async () => {
    const words = Buffer.from(readBin(`${DEMO}vocab.txt`))
      .toString()
      .split('\n')
      .slice(0, 300)
      .join('\n');
    await expectTensors(0, async () => {
      const model = await loadImage2Text(altered({ 'vocab.txt': text(words) }));
      await assert.rejects(
        model.caption(image),
        (error: Error) => error instanceof TokenizerError && /word-outside-vocabulary/.test(error.message),
      );
      model.dispose();
    });
  });

  it('a stored output matrix counts, whatever tie_word_embeddings says', async () => {
    const { tensors } = await readSafetensors(fromBytes(readBin(`${DEMO}model.safetensors`)), 'model.safetensors');
    const read = async (name: string) => [...new Uint8Array(await tensors.get(name)!.read())].slice(0, 4000);
    const [output, words] = [await read('output.weight'), await read('git.embeddings.word_embeddings.weight')];
    assert.notDeepEqual(output, words, 'the demo holds two matrices, or this test could not fail');
    await expectTensors(0, async () => {
      const tied = await loadGit(altered({ 'config.json': config({ tie_word_embeddings: true }) }));
      const own = await tied.params.output.weight.data();
      const rows = await tied.params.git.embeddings.word_embeddings.weight.data();
      const plain = await loadGit(altered({}));
      assert.deepEqual(own, await plain.params.output.weight.data());
      assert.notEqual(own[5 * 356 + 7], rows[7 * 128 + 5]); // [in, out] of the one is [out, in] of the other
      const { dispose } = await import('@tensorflow/tfjs-core');
      dispose(tied.params as never);
      dispose(plain.params as never);
    });
  });

  for (const [what, change, pattern] of [
    ['more layers than the file has', { num_hidden_layers: 4 }, /16 missing/],
    ['another width', { hidden_size: 64 }, /misshapen|fit/],
    ['frames that the file lacks', { num_image_with_embedding: 7 }, /img_temperal_embedding\.6/],
  ] as const) {
    it(`${what}: one error lists all, and nothing is left`, () =>
      expectTensors(0, () =>
        assert.rejects(
          loadImage2Text(altered({ 'config.json': config(change) })),
          (error: Error) =>
            error instanceof WeightError &&
            pattern.test(error.message) &&
            error.report.split('\n').length > error.faults.length,
        ),
      ));
  }

  it('a backend that is not registered is said to be so, and the present one stays', async () => {
    const loading = loadImage2Text(altered({}), { backend: 'abacus' });
    await assert.rejects(
      loading,
      /^BackendError: abacus: unknown-backend: there is no backend of this name; known are auto, simd/,
    );
    assert.equal(getBackend(), 'wasm');
  });
});
