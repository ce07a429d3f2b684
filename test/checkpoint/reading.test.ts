import assert from 'node:assert/strict';
import { memory, tensor } from '@tensorflow/tfjs-core';
import { type ByteSource, fromBytes } from '../../src/checkpoint/byte-source.js';
import { loadParams } from '../../src/checkpoint/load-params.js';
import { beginReading, bufferPool, piecePool, readPieces } from '../../src/checkpoint/open-checkpoint.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { tensorSpec } from '../../src/layers/param-spec.js';
import { useBackend } from '../support/backends.js';
import { REFERENCE, readBin } from '../support/fixtures.js';
import { failure, safetensorsBytes, storedF32 } from './support.js';

/** A source that fills the reader's own memory, and counts how often. */
function filling(bytes: Uint8Array): { source: ByteSource; fills: () => number } {
  let fills = 0;
  const readInto = async (start: number, target: Uint8Array) => {
    fills++;
    target.set(bytes.subarray(start, start + target.length));
  };
  return { source: { ...fromBytes(bytes), readInto }, fills: () => fills };
}

describe('reading weights piece by piece', () => {
  const ROWS = 1500;
  const COLUMNS = 2003; // three pieces, and a last one that is no whole number of eight rows
  const values = Float32Array.from({ length: ROWS * COLUMNS }, (_, i) => (i % 8191) - 4000);
  const header = { w: { dtype: 'F32', shape: [ROWS, COLUMNS], data_offsets: [0, values.byteLength] } };
  const bytes = safetensorsBytes(JSON.stringify(header).padEnd(96), new Uint8Array(values.buffer));

  it('a transposed matrix is the same from any source, with memory given or not', async () => {
    const { source, fills } = filling(bytes);
    const spec = tensorSpec([ROWS, COLUMNS], 'linear');
    for (const from of [fromBytes(bytes), source]) {
      const stored = (await readSafetensors(from, 'a file')).tensors.get('w')!;
      const space = new Float32Array(values.length).fill(7);
      for (const target of [undefined, space]) {
        const transposed = await beginReading(stored, spec, piecePool()).finish(target);
        for (let i = 0; i < values.length; i += 997) {
          assert.equal(transposed[(i % COLUMNS) * ROWS + Math.floor(i / COLUMNS)], values[i], `${i}`);
        }
      }
    }
    assert.equal(fills(), 6);
  });

  it('a value that is not finite is found in whichever piece, row or column it is', async () => {
    for (const at of [0, 5, COLUMNS * 8 + 3, 523 * COLUMNS, values.length - 1]) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const broken = values.slice();
        broken[at] = bad;
        const stored = storedF32('w', [ROWS, COLUMNS], broken);
        const error = await failure('not finite', () =>
          beginReading(stored, tensorSpec([ROWS, COLUMNS], 'linear')).finish(),
        );
        assert.deepEqual([error.code, error.detail], ['non-finite', `value ${at} is ${bad}`]);
      }
    }
  });

  it('pieces give all values once, in order', async () => {
    let next = 0;
    for await (const { values: piece, first } of readPieces(storedF32('w', [ROWS, COLUMNS], values))) {
      assert.equal(first, next);
      assert.deepEqual(piece[0], values[first]);
      next += piece.length;
    }
    assert.equal(next, values.length);
  });

  it('a read that nobody waits for fails in silence', async () => {
    const stored = { ...storedF32('w', [4], new Float32Array(4)), read: () => Promise.reject(new Error('gone')) };
    beginReading(stored, tensorSpec([4]));
    await new Promise(setImmediate); // rejections that nobody handles are reported before, and fail the test
  });

  it('a pool lends what it was given, and no memory twice', () => {
    const pool = bufferPool(2 ** 20);
    const [a, b] = [pool.take(2 ** 20), pool.take(2 ** 19)];
    assert.notEqual(a.buffer, b.buffer);
    pool.give(a);
    const again = pool.take(100_000);
    assert.deepEqual([again.buffer === a.buffer, again.length], [true, 100_000]);
    assert.equal(pool.take(2 ** 21).length, 2 ** 21);
    assert.equal(pool.take(8).buffer.byteLength, 8);
  });
});

describe('memory that is used for every tensor', () => {
  for (const backend of ['cpu', 'wasm']) {
    it(`never shows in a tensor on ${backend}`, async () => {
      await useBackend(backend);
      const spec = Object.fromEntries(['a', 'b', 'c', 'd'].map((name) => [name, tensorSpec([70, 300], 'linear')]));
      const stored = new Map(
        Object.keys(spec).map((name, n) => [name, storedF32(name, [70, 300], new Float32Array(21_000).fill(n + 1))]),
      );
      const before = memory().numTensors;
      const params = await loadParams(spec, stored);
      for (const [n, name] of Object.keys(spec).entries()) {
        const read = await params[name]!.data();
        assert.ok(
          read.every((value) => value === n + 1),
          name,
        );
        params[name]!.dispose();
      }
      assert.equal(memory().numTensors, before);
    });
  }

  it("an upload of one's own gets memory of its own, unless it says that it copies", async () => {
    const spec = { a: tensorSpec([3]), b: tensorSpec([3]) };
    const stored = new Map(Object.keys(spec).map((name) => [name, storedF32(name, [3], Float32Array.of(1, 2, 3))]));
    for (const uploadCopies of [undefined, true]) {
      const seen: ArrayBufferLike[] = [];
      const upload = (values: Float32Array, shape: number[]) => {
        seen.push(values.buffer);
        return tensor(values.slice(), shape);
      };
      const params = await loadParams(spec, stored, { upload, uploadCopies });
      assert.equal(seen[0] === seen[1], uploadCopies === true);
      for (const made of Object.values(params)) made.dispose();
    }
  });

  it('a whole checkpoint is the same through a source that fills', async () => {
    const file = readBin(`${REFERENCE}tiny-a/model.safetensors`);
    const { source, fills } = filling(file);
    const [plain, filled] = [await readSafetensors(fromBytes(file), 'f'), await readSafetensors(source, 'f')];
    for (const [name, stored] of plain.tensors) {
      const spec = tensorSpec(stored.shape, stored.shape.length === 2 ? 'linear' : 'as-is');
      const pool = piecePool();
      const [a, b] = [beginReading(stored, spec), beginReading(filled.tensors.get(name)!, spec, pool)];
      assert.deepEqual(await b.finish(), await a.finish(), name);
    }
    assert.equal(fills(), plain.tensors.size);
  });
});
