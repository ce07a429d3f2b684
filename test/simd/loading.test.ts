import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { registerSimdBackend, type SimdBackend, uploadWeight, type WeightFormat } from 'tfjs-backend-simd';
import { scaleFinder, toBrainBits, toHalfBits, toInt8 } from '../../src/checkpoint/encode-tensor.js';
import { loadParams } from '../../src/checkpoint/load-params.js';
import { readWeights } from '../../src/checkpoint/open-checkpoint.js';
import { planSafetensors, readSafetensors } from '../../src/checkpoint/safetensors.js';
import type { StoredTensor } from '../../src/checkpoint/stored-tensor.js';
import { attachScales, INT8_METADATA, toFloat32 } from '../../src/checkpoint/stored-tensor.js';
import { partCount, partedSource, partLength } from '../../src/hub/remote-files.js';
import { tensorSpec } from '../../src/layers/param-spec.js';
import { failure, storedF32 } from '../checkpoint/support.js';
import { expectTensors, largestError } from '../support/close.js';
import { holds, useVariant, VARIANTS } from './support.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'int8', 'int8-fast'];

function storedAs(name: string, dtype: string, shape: readonly number[], data: Uint16Array | Int8Array): StoredTensor {
  const bytes = new Uint8Array(data.slice().buffer);
  const read = async (begin = 0, end = bytes.length) => bytes.slice(begin, end);
  return { name, dtype, shape, byteLength: bytes.length, file: 'm', read };
}

const one = (stored: StoredTensor) => new Map([['w', stored]]);

/** What the checkpoint module's own conversions make of x. */
function rounded(x: Float32Array, format: 'bf16' | 'f16'): Float32Array {
  const [dtype, bits] = format === 'bf16' ? ['BF16', toBrainBits(x)] : ['F16', toHalfBits(x)];
  return toFloat32(
    { name: 'w', dtype: dtype as string, file: 'w' },
    new Uint8Array((bits as Uint16Array<ArrayBuffer>).buffer),
  );
}

/** The same as int8, widened again. */
function quantized(x: Float32Array, shape: readonly [number, number]): Float32Array {
  const finder = scaleFinder(shape);
  finder.add(x, 0);
  const scales = finder.scales();
  return Float32Array.from(toInt8(x, 0, shape, scales), (n, i) => n * scales[Math.floor(i / shape[1])]!);
}

/** [out, in] as the layers have it, [in, out]. */
const transposed = (x: Float32Array, [out, inputs]: readonly [number, number]) =>
  Float32Array.from({ length: x.length }, (_, i) => x[(i % out) * inputs + Math.floor(i / out)]!);

/** Numbers of all sizes that f16 has, ties and subnormals among them. */
const wild = (count: number): fc.Arbitrary<Float32Array> =>
  fc
    .array(fc.tuple(fc.integer({ min: -4096, max: 4096 }), fc.integer({ min: -26, max: -6 })), {
      minLength: count,
      maxLength: count,
    })
    .map((drawn) => Float32Array.from(drawn, ([n, e]) => n * 2 ** e));

for (const { name } of VARIANTS) {
  describe(`${name}: weights from a file`, () => {
    before(() => useVariant(name));

    for (const format of FORMATS) {
      it(`${format}: rounds as the checkpoint's own conversions, and as uploadWeight`, () =>
        holds(
          fc
            .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }))
            .chain(([out, inputs]) => fc.tuple(fc.constant([out, inputs] as const), wild(out * inputs))),
          ([shape, values]) =>
            expectTensors(0, async () => {
              const stored = one(storedF32('w', [...shape], values));
              const { w } = await loadParams({ w: tensorSpec(shape, 'linear') }, stored, { weights: format });
              const straight = uploadWeight({ format, data: transposed(values, shape), shape: [shape[1], shape[0]] });
              assert.deepEqual(w.shape, [shape[1], shape[0]]);
              const got = await w.data();
              assert.deepEqual(got, await straight.data());
              if (format === 'int8') {
                checkInt8(got as Float32Array, values, shape, largestOf);
                assert.deepEqual(got, transposed(quantized(values, shape), shape), 'as a converted file has it');
              } else if (format === 'int8-fast') checkInt8(got as Float32Array, values, shape, largestOfFast);
              else assert.deepEqual(got, transposed(format === 'f32' ? values : rounded(values, format), shape));
              tf.dispose([w, straight]);
            }),
          25,
        ));
    }
  });
}

const largestOf = (channel: Float32Array): number => channel.reduce((top, x) => Math.max(top, Math.abs(x)), 0);

/** The same, or half the largest sum of one sign of eight that meet in a lane of 16 bits: inputs 0, 1, 4, 5 and so on of 16, and the others. */
function largestOfFast(channel: Float32Array): number {
  let top = largestOf(channel);
  for (let i = 0; i < channel.length; i += 16) {
    for (const lane of [0, 2]) {
      const met = [...channel.subarray(i, i + 16)].filter((_, j) => (j & 2) === lane);
      for (const sign of [1, -1]) top = Math.max(top, met.reduce((sum, x) => sum + Math.max(0, sign * x), 0) / 2);
    }
  }
  return top;
}

/** Every number is at most half a step from its own; the step is a 127th of what `top` finds in its channel. */
function checkInt8(
  got: Float32Array,
  values: Float32Array,
  [out, inputs]: readonly [number, number],
  top: (channel: Float32Array) => number,
): void {
  for (let channel = 0; channel < out; channel++) {
    const own = values.subarray(channel * inputs, (channel + 1) * inputs);
    const step = top(own) / 127;
    own.forEach((x, i) => {
      const error = Math.abs(got[i * out + channel]! - x);
      assert.ok(error <= (step / 2) * (1 + 1e-5), `channel ${channel}: ${x} is ${got[i * out + channel]}`);
    });
  }
}

describe('simd: loading', () => {
  before(() => useVariant('simd'));
  const heap = () => (tf.backend() as SimdBackend).heap.stats().used;

  it('a matrix of many pieces is the same as one of the host', async () => {
    const shape = [2051, 1003] as const; // more than a piece, and than a strip; not whole panels
    const values = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(i));
    const { w } = await loadParams({ w: tensorSpec(shape, 'linear') }, one(storedF32('w', [...shape], values)));
    assert.deepEqual(await w.data(), transposed(values, shape));
    const { e } = await loadParams({ e: tensorSpec(shape) }, new Map([['e', storedF32('e', [...shape], values)]]));
    assert.deepEqual(await e.data(), values);
    tf.dispose([w, e]);
  });

  it('needs some pieces of memory beside the weights, however large they are', async () => {
    registerSimdBackend({ name: 'simd-fresh', threads: 1, shared: false });
    await tf.setBackend('simd-fresh');
    const [shape, pieces] = [[4096, 4096], new Set<ArrayBufferLike>()];
    const read = async (begin = 0, end = 0, space = new Uint8Array(end - begin)) => {
      pieces.add(space.buffer);
      return space.fill(0);
    };
    const file = { name: 'w', dtype: 'F32', shape, byteLength: 2 ** 26, file: 'm', read };
    const { w } = await loadParams({ w: tensorSpec(shape, 'linear') }, one(file), { weights: 'int8' });
    const { simdBytesInUse, simdBytesGrown } = tf.memory() as unknown as Record<string, number>;
    const inScript = [...pieces].reduce((sum, { byteLength }) => sum + byteLength, 0);
    const megabytes = [simdBytesInUse!, simdBytesGrown!, inScript].map((bytes) => (bytes / 2 ** 20).toFixed(1));
    console.log(`    a file of 64 MiB: MiB in use ${megabytes[0]}, of ${megabytes[1]}, and ${megabytes[2]} for pieces`);
    assert.ok(simdBytesInUse! < 16.1 * 2 ** 20 && simdBytesGrown! < 40 * 2 ** 20 && inScript <= 3 * 2 ** 22);
    w.dispose();
    tf.removeBackend('simd-fresh');
    await useVariant('simd');
  });

  it('a matrix with numbers of 128 and more stays f32 under f16', async () => {
    const values = Float32Array.of(1000.1, -0.25, 3, 1e-9);
    const load = { w: tensorSpec([2, 2], 'linear') };
    const { w } = await loadParams(load, one(storedF32('w', [2, 2], values)), { weights: 'f16' });
    assert.deepEqual(await w.data(), transposed(values, [2, 2]));
    w.dispose();
  });

  it('bf16, f16 and int8 files keep their own bits in panels of their own kind, and fit any other', async () => {
    const shape = [19, 13] as const;
    const count = shape[0] * shape[1];
    const words = Uint16Array.from({ length: count }, (_, i) => ((i % 2) << 15) | ((i * 613) % 0x5700)); // below 128, subnormals too
    const bytes = Int8Array.from({ length: count }, (_, i) => ((i * 37) % 199) - 99); // no channel reaches 127
    const scales = Float32Array.from({ length: shape[0] }, (_, i) => 2 ** (i % 5) / 3);
    const stored = (dtype: string, data: Uint16Array | Int8Array) => storedAs('w', dtype, shape, data);
    const own = {
      BF16: stored('BF16', words),
      F16: stored('F16', words),
      I8: { ...stored('I8', bytes), scales: storedF32('w.scale', [shape[0]], scales) },
    };
    const kinds = { BF16: 'bf16', F16: 'f16', I8: 'int8' } as const;
    for (const [dtype, file] of Object.entries(own)) {
      const load = { w: tensorSpec(shape, 'embedding') };
      const { w: table } = await loadParams(load, one(file), { weights: kinds[dtype as 'BF16'] });
      assert.deepEqual(await table.data(), await readWeights(file, tensorSpec(shape)), dtype);
      table.dispose();
      const expected = transposed(await readWeights(file, tensorSpec(shape)), shape);
      for (const weights of ['f32', kinds[dtype as 'BF16']] as const) {
        const { w } = await loadParams({ w: tensorSpec(shape, 'linear') }, one(file), { weights });
        assert.deepEqual(await w.data(), expected, `${dtype} as ${weights}`);
        w.dispose();
      }
      const { w } = await loadParams({ w: tensorSpec(shape, 'linear') }, one(file), { weights: 'bf16' });
      const [got, largest] = [await w.data(), expected.reduce((top, x) => Math.max(top, Math.abs(x)), 0)];
      assert.ok(largestError(got, expected).error <= largest * 2 ** -8, dtype);
      w.dispose();
    }
  });

  it('every part of a remote file is asked for once, however large the tensors, and wherever scales are', async () => {
    const shapes = { a: [40, 300], b: [3000, 1500], c: [900, 900], d: [2500, 1600], e: [40, 300], f: [1000, 2000] };
    const spec = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, tensorSpec(shape, 'linear')]));
    for (const dtype of ['F32', 'I8']) {
      const named = Object.entries(shapes).flatMap(([name, shape]) => [
        { name, dtype, shape },
        ...(dtype === 'I8' ? [{ name: `${name}.scale`, dtype: 'F32', shape: [shape[0]!] }] : []),
      ]);
      const { header, size } = planSafetensors(named, INT8_METADATA);
      const asked: number[] = [];
      const source = partedSource(size, async (index) => {
        asked.push(index);
        const part = new Uint8Array(partLength(size, index));
        if (index === 0) part.set(header);
        return part;
      });
      const { tensors, metadata } = await readSafetensors(source, 'm');
      tf.dispose(
        await loadParams(spec, attachScales(tensors, dtype === 'I8' ? metadata : {}, 'm'), { weights: 'int8' }),
      );
      assert.deepEqual(
        asked.toSorted((a, b) => a - b),
        [...Array(partCount(size)).keys()],
        dtype,
      );
      assert.ok(asked.length >= 3);
    }
  });

  it('a bad number in them is named as it is elsewhere', async () => {
    const load = (file: StoredTensor, weights: WeightFormat) => () =>
      loadParams({ w: tensorSpec([8, 2], 'linear') }, one(file), { weights });
    const words = new Uint16Array(16);
    words[3] = 0xfc00;
    const f16 = await failure('f16', load(storedAs('w', 'F16', [8, 2], words), 'f16'));
    assert.deepEqual([f16.code, f16.detail], ['non-finite', 'value 3 is -Infinity']);
    words[3] = 0x7fc1;
    const bf16 = await failure('bf16', load(storedAs('w', 'BF16', [8, 2], words), 'bf16'));
    assert.deepEqual([bf16.code, bf16.detail], ['non-finite', 'value 3 is NaN']);
    const scales = storedF32('w.scale', [8], new Float32Array(8).fill(0.1));
    const bytes = { ...storedAs('w', 'I8', [8, 2], new Int8Array(16).fill(-128, 5, 6)), scales };
    const int8 = await failure('int8', load(bytes, 'int8'));
    assert.deepEqual([int8.code, int8.detail], ['int8-range', 'value 5 is -128; the scheme goes from -127 to 127']);
  });

  for (const format of FORMATS) {
    it(`${format}: a table is rounded as a weight of the same rows is, read whole and row by row`, async () => {
      const shape = [21, 11] as const; // not whole panels, and an odd width
      const values = Float32Array.from({ length: 21 * 11 }, (_, i) => Math.sin(i * i) * 2 ** ((i % 7) - 3));
      const stored = one(storedF32('w', [...shape], values));
      const load = (layout: 'embedding' | 'linear', weights: WeightFormat) =>
        loadParams({ w: tensorSpec(shape, layout) }, stored, { weights });
      const before = heap();
      const { w: table } = await load('embedding', format);
      const promised = (tf.backend() as SimdBackend).paramBytes(shape, 'embedding', format);
      assert.equal(heap() - before, promised);
      const { w: weight } = await load('linear', format === 'int8-fast' ? 'int8' : format);
      const expected = transposed((await weight.data()) as Float32Array, [11, 21]);
      assert.deepEqual(table.shape, [...shape]);
      assert.deepEqual(await table.data(), expected);
      const ids = [20, 0, 7, 8, 7];
      const rows = tf.tidy(() => tf.gather(table, tf.tensor1d(ids, 'int32')));
      const plain = tf.tidy(() => tf.mul(tf.ones([1, 21]), tf.transpose(table)));
      assert.deepEqual(
        await rows.data(),
        Float32Array.from(ids.flatMap((id) => [...expected.subarray(id * 11, id * 11 + 11)])),
      );
      assert.deepEqual(await plain.data(), await weight.data(), 'to every other kernel it is float32');
      const product = tf.tidy(() => tf.matMul(tf.ones([1, 21]), table));
      const sums = Array.from({ length: 11 }, (_, column) =>
        expected.reduce((sum, x, i) => (i % 11 === column ? sum + x : sum), 0),
      );
      assert.ok(largestError(await product.data(), sums).error < 1e-5);
      tf.dispose([table, weight, rows, plain, product]);
      assert.equal(heap(), before);
    });
  }

  it('only linear weights and tables are kept in another format', async () => {
    const values = Float32Array.of(0.1, 0.2, 0.3, 0.4);
    const spec = { w: tensorSpec([2, 2], 'linear'), e: tensorSpec([2, 2]), c: tensorSpec([2, 2, 1, 1], 'conv2d') };
    const stored = new Map(
      Object.entries(spec).map(([name, { shape }]) => [name, storedF32(name, [...shape], values)]),
    );
    const { w, e, c } = await loadParams(spec, stored, { weights: 'int8' });
    assert.deepEqual(await e.data(), values);
    assert.deepEqual(await c.data(), transposed(values, [2, 2]));
    assert.notDeepEqual(await w.data(), transposed(values, [2, 2]));
    tf.dispose([w, e, c]);
  });

  it('a number that is not finite is named by its place, and nothing stays in memory', async () => {
    const [tensors, used] = [tf.memory().numTensors, heap()];
    for (const [layout, weights] of [
      ['linear', 'f32'],
      ['linear', 'int8'],
      ['linear', 'f16'],
      ['as-is', 'f32'],
      ['embedding', 'f32'],
      ['embedding', 'int8'],
    ] as const) {
      const values = new Float32Array(24 * 5).fill(1);
      values[77] = Number.NaN;
      const load = () =>
        loadParams({ w: tensorSpec([24, 5], layout) }, one(storedF32('w', [24, 5], values)), { weights });
      const { code: rule, detail } = await failure('non-finite', load);
      assert.deepEqual([rule, detail], ['non-finite', 'value 77 is NaN']);
    }
    assert.deepEqual([tf.memory().numTensors, heap()], [tensors, used]);
  });

  it('what cannot be is refused by name', async () => {
    const load = (options: object) =>
      loadParams({ w: tensorSpec([2, 2], 'linear') }, one(storedF32('w', [2, 2], new Float32Array(4))), options);
    const both = { weights: 'bf16', upload: () => tf.scalar(1) };
    await assert.rejects(load({ weights: 'int4' }), /^OptionError: weights: unknown-format: int4 is not one of f32/);
    await assert.rejects(load(both), /^OptionError: weights: contradiction/);
    await tf.setBackend('cpu');
    await assert.rejects(load({ weights: 'bf16' }), /^BackendError: cpu: weight-format: .*choose the backend simd/);
    const { w } = await load({ weights: 'f32' });
    w.dispose();
    await useVariant('simd');
  });
});

describe('simd: weights at the ends of their ranges', () => {
  before(() => useVariant('simd'));

  it('int8 columns of nothing, and of next to nothing, are zeros', async () => {
    const w = uploadWeight({ format: 'int8', data: Float32Array.of(0, 1e-38, 2, 0, -1e-38, 1), shape: [2, 3] });
    const [a, b, c, d, e, f] = [...(await w.data())] as [number, number, number, number, number, number];
    assert.deepEqual([a, b, d, e].map(Math.abs), [0, 0, 0, 0]);
    assert.ok(Math.abs(c - 2) < 1e-6 && Math.abs(f - 1) < 0.01);
    w.dispose();
  });

  it('numbers that bf16 would make infinite are refused, and what is not finite', () => {
    const upload = (x: number, format: WeightFormat) => () =>
      uploadWeight({ format, data: Float32Array.of(x), shape: [1, 1] });
    assert.throws(upload(3.4e38, 'bf16'), /too-large/);
    assert.throws(upload(Number.NaN, 'bf16'), /non-finite/);
    assert.throws(upload(Number.NEGATIVE_INFINITY, 'f32'), /non-finite/);
    upload(3.38e38, 'bf16')().dispose();
  });
});
