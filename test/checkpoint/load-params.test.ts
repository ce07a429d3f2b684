import assert from 'node:assert/strict';
import { memory, type Tensor, tensor } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { randomParams } from '../../src/checkpoint/generated-weights.js';
import { loadParams } from '../../src/checkpoint/load-params.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { aliasTensors, renameTensors, type StoredTensor } from '../../src/checkpoint/stored-tensor.js';
import { WeightError } from '../../src/errors.js';
import { repeat, tensorSpec } from '../../src/layers/param-spec.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { counting, failure, safetensorsBytes, storedF32 } from './support.js';

const spec = {
  conv: tensorSpec([3, 2, 2, 3], 'conv2d'),
  layer: repeat(2, () => ({ weight: tensorSpec([5, 4], 'linear'), bias: tensorSpec([5]) })),
  scale: tensorSpec([]),
};

const ramp = (count: number) => Float32Array.from({ length: count }, (_, i) => i + 0.5);
const store = (shapes: Record<string, number[]>) =>
  new Map<string, StoredTensor>(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      storedF32(name, shape, ramp(shape.reduce((a, b) => a * b, 1))),
    ]),
  );
const good = () =>
  store({
    conv: [3, 2, 2, 3],
    'layer.0.weight': [5, 4],
    'layer.0.bias': [5],
    'layer.1.weight': [5, 4],
    'layer.1.bias': [5],
    scale: [],
  });
const all = (p: { conv: Tensor; layer: readonly { weight: Tensor; bias: Tensor }[]; scale: Tensor }) => [
  p.conv,
  p.scale,
  ...p.layer.flatMap(({ weight, bias }) => [weight, bias]),
];

for (const backend of BACKENDS) {
  describe(`loadParams on ${backend}`, () => {
    before(() => useBackend(backend));

    it('turns each layout and makes just the tensors of the spec', async () => {
      const params = await expectTensors(6, () => loadParams(spec, good()));
      assert.deepEqual(params.layer[1]!.weight.shape, [4, 5]);
      const weight = await params.layer[1]!.weight.data();
      assert.deepEqual([weight[0], weight[1], weight[5]], [0.5, 4.5, 1.5]);
      assert.deepEqual(params.conv.shape, [2, 3, 2, 3]);
      const conv = await params.conv.data();
      for (let o = 0; o < 3; o++) {
        for (let i = 0; i < 2; i++) {
          for (let y = 0; y < 2; y++) {
            for (let x = 0; x < 3; x++) {
              assert.equal(conv[((y * 3 + x) * 2 + i) * 3 + o], ((o * 2 + i) * 2 + y) * 3 + x + 0.5);
            }
          }
        }
      }
      assert.deepEqual(params.scale.shape, []);
      for (const made of all(params)) made.dispose();
    });

    it('disposes all when aborted, when a read fails and when an upload fails', async () => {
      const controller = new AbortController();
      const stop = { signal: controller.signal, onProgress: () => controller.abort(new Error('enough')) };
      const before = memory().numTensors;
      await assert.rejects(loadParams(spec, good(), stop), /enough/);
      await assert.rejects(loadParams(spec, good(), { signal: AbortSignal.abort(new Error('never')) }), /never/);
      const broken = good();
      broken.set('scale', { ...broken.get('scale')!, read: () => Promise.reject(new Error('disk')) });
      await assert.rejects(loadParams(spec, broken), /disk/);
      let uploads = 0;
      const upload = (values: Float32Array, shape: number[]) => {
        if (++uploads === 4) throw new Error('full');
        return tensor(values, shape);
      };
      await assert.rejects(loadParams(spec, good(), { upload }), /full/);
      assert.equal(memory().numTensors, before);
    });
  });
}

describe('loadParams', () => {
  before(() => useBackend('cpu'));

  it('lists everything that does not fit in one error, before anything is read', async () => {
    const stored = good();
    stored.delete('layer.0.bias');
    stored.delete('scale');
    stored.set('layer.1.weight', storedF32('layer.1.weight', [4, 5], ramp(20)));
    stored.set('extra\nname', storedF32('extra\nname', [2], ramp(2)));
    stored.set('layer.0.position_ids', storedF32('layer.0.position_ids', [2], ramp(2)));
    for (const [name, entry] of stored) stored.set(name, { ...entry, read: () => assert.fail('nothing may be read') });
    const options = { label: 'tiny', ignore: [/position_ids$/], hint: () => 'is this another size?' };
    const error = await failure('misfit', () => loadParams(spec, stored, options));
    assert.ok(error instanceof WeightError);
    assert.equal(
      error.message,
      'tiny: weights-do-not-fit: 2 missing (layer.0.bias, scale); 1 misshapen (layer.1.weight); ' +
        '1 unexpected ("extra\\nname"); hint: is this another size?',
    );
    assert.equal(
      error.report,
      [
        'WeightError: tiny does not fit its configuration',
        '  - layer.0.bias    missing, [5]',
        '  ~ layer.1.weight  expected [5, 4], found [4, 5]',
        '  - scale           missing, []',
        '  + "extra\\nname"   not used, [2]',
        '  hint: is this another size?',
      ].join('\n'),
    );
    assert.deepEqual(
      error.faults.map(({ kind }) => kind),
      ['missing', 'misshapen', 'missing', 'unexpected'],
    );
  });

  it('names dtypes that cannot be weights, and non-finite values', async () => {
    const stored = good();
    stored.set('scale', { ...stored.get('scale')!, dtype: 'F8_E4M3' });
    const dtype = await failure('dtype', () => loadParams(spec, stored));
    assert.deepEqual([dtype.code, dtype.unsupported], ['unsupported-dtype', true]);
    assert.match(dtype.message, /scale F8_E4M3/);
    for (const [at, value] of [
      [7, Number.NaN],
      [16, Number.POSITIVE_INFINITY],
      [19, Number.NEGATIVE_INFINITY],
    ] as const) {
      const values = ramp(20);
      values[at] = value;
      const bad = good().set('layer.1.weight', storedF32('layer.1.weight', [5, 4], values));
      const error = await failure('non-finite', () => loadParams(spec, bad));
      assert.deepEqual(
        [error.code, error.path, error.detail],
        ['non-finite', 'layer.1.weight', `value ${at} is ${value}`],
      );
    }
  });

  it('widens halves exactly and rounds doubles once, in chunks', async () => {
    const rows = 3000;
    const columns = 1500; // 9 MB of halves: more than one chunk
    const data = new Uint16Array(rows * columns);
    for (let i = 0; i < data.length; i++) data[i] = (i % 1024) | 0x3c00;
    const bytes = new Uint8Array(data.buffer);
    for (const dtype of ['F16', 'BF16'] as const) {
      const read = async (begin = 0, end = bytes.length) => bytes.slice(begin, end);
      const stored = { name: 'w', dtype, shape: [rows, columns], byteLength: bytes.length, file: 'm', read };
      const { w } = await loadParams({ w: tensorSpec([rows, columns], 'linear') }, new Map([['w', stored]]));
      const values = await w.data();
      const expected = (i: number) =>
        dtype === 'F16'
          ? 1 + (i % 1024) / 1024
          : new Float32Array(new Uint32Array([((i % 1024) | 0x3c00) << 16]).buffer)[0]!;
      for (let i = 0; i < data.length; i += 997) {
        const [row, column] = [Math.floor(i / columns), i % columns];
        assert.equal(values[column * rows + row], expected(i));
      }
      w.dispose();
    }
    const double = new Uint8Array(new Float64Array([0.1, 1e-310, 16777217]).buffer);
    const read = async (begin = 0, end = 24) => double.slice(begin, end);
    const stored = { name: 'd', dtype: 'F64', shape: [3], byteLength: 24, file: 'm', read };
    const { d } = await loadParams({ d: tensorSpec([3]) }, new Map([['d', stored]]));
    assert.deepEqual([...(await d.data())], [Math.fround(0.1), 0, 16777216]);
    d.dispose();
  });

  it('leaves no unhandled rejection when a piece is bad and the next one cannot be read', async () => {
    const shape = [3000, 1500];
    const read = (begin = 0, end = 0) =>
      begin > 0 ? Promise.reject(new Error('disk')) : Promise.resolve(new Uint8Array(end).fill(255));
    const stored = { name: 'w', dtype: 'F32', shape, byteLength: 18e6, file: 'm', read };
    const load = () => loadParams({ w: tensorSpec(shape, 'linear') }, new Map([['w', stored]]));
    assert.equal((await failure('bad piece', load)).code, 'non-finite');
    await new Promise(setImmediate); // rejections that nobody handles are reported before, and fail the test
  });

  it('reports bytes of the checkpoint as progress', async () => {
    const seen: [string, number, number][] = [];
    const onProgress = (e: { name: string; loaded: number; total: number }) => seen.push([e.name, e.loaded, e.total]);
    const params = await loadParams(spec, good(), { onProgress });
    assert.deepEqual(seen[0], ['conv', 144, 348]);
    assert.deepEqual(seen.at(-1), ['scale', 348, 348]);
    for (const made of all(params)) made.dispose();
  });

  it('reads a tensor without reading the file, and never more bytes than the file has', async () => {
    const shapes = { a: [100, 10], b: [7], c: [50, 50] };
    let end = 0;
    const header: Record<string, object> = {};
    for (const [name, shape] of Object.entries(shapes)) {
      const begin = end;
      end += 4 * shape.reduce((x, y) => x * y, 1);
      header[name] = { dtype: 'F32', shape, data_offsets: [begin, end] };
    }
    const bytes = safetensorsBytes(header, new Uint8Array(end));
    const { source, read } = counting(bytes);
    const { tensors } = await readSafetensors(source, 'x');
    assert.equal(read(), bytes.length - end, 'opening reads the header alone');
    await tensors.get('b')!.read();
    assert.equal(read(), bytes.length - end + 28);
    for (const name of ['a', 'c']) await tensors.get(name)!.read();
    assert.equal(read(), bytes.length);
  });

  it('round trips any set of shapes and values', async () => {
    const shape = fc.array(fc.nat(4), { maxLength: 4 });
    const names = fc.uniqueArray(fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(names, fc.array(shape, { minLength: 8, maxLength: 8 }), fc.nat(), async (keys, shapes, seed) => {
        fc.pre(!keys.includes('__metadata__'));
        const header: Record<string, object> = Object.create(null);
        const values: Float32Array[] = [];
        let end = 0;
        for (const [index, name] of keys.entries()) {
          const count = shapes[index]!.reduce((a, b) => a * b, 1);
          values.push(Float32Array.from({ length: count }, (_, i) => Math.sin(seed + end + i)));
          header[name] = { dtype: 'F32', shape: shapes[index], data_offsets: [end, end + 4 * count] };
          end += 4 * count;
        }
        const data = new Uint8Array(await new Blob(values as Float32Array<ArrayBuffer>[]).arrayBuffer());
        const { tensors } = await readSafetensors(fromBytes(safetensorsBytes(header, data)), 'x');
        assert.deepEqual([...tensors.keys()].sort(), [...keys].sort());
        for (const [index, name] of keys.entries()) {
          const stored = tensors.get(name)!;
          assert.deepEqual(stored.shape, shapes[index]);
          assert.deepEqual(new Float32Array((await stored.read()).buffer), values[index]);
        }
      }),
      { numRuns: 200, seed: 5 },
    );
  });

  it('renames and aliases, and refuses a collision', async () => {
    const renamed = renameTensors(good(), (name) => (name === 'scale' ? undefined : name.replace(/^layer\./, 'l.')));
    assert.deepEqual([...renamed.keys()], ['conv', 'l.0.weight', 'l.0.bias', 'l.1.weight', 'l.1.bias']);
    assert.equal(renamed.get('l.0.bias')!.name, 'l.0.bias');
    const aliased = aliasTensors(renamed, { tied: 'conv', 'l.0.bias': 'conv', absent: 'nothing' });
    assert.equal(aliased.get('tied')!.name, 'tied');
    assert.deepEqual(aliased.get('l.0.bias')!.shape, [5]);
    assert.equal(aliased.has('absent'), false);
    assert.equal((await failure('collision', async () => renameTensors(good(), () => 'x'))).code, 'name-collision');
  });

  it('makes the same random parameters from the same seed', async () => {
    const [a, b, c] = [randomParams(spec, 1), randomParams(spec, 1), randomParams(spec, 2)];
    assert.deepEqual(a.layer[0]!.weight.shape, [4, 5]);
    assert.deepEqual(await a.conv.data(), await b.conv.data());
    assert.notDeepEqual(await a.conv.data(), await c.conv.data());
    for (const params of [a, b, c]) for (const made of all(params)) made.dispose();
  });
});
