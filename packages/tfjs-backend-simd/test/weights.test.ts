import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { uploadWeight, type WeightFormat } from '../src/index.js';
import { useVariant } from './support.js';

describe('simd: weights', () => {
  before(() => useVariant('simd'));

  it('a packed weight reads back, and serves other kernels, as what it was', async () => {
    const values = Float32Array.from({ length: 7 * 11 }, (_, i) => Math.sin(i));
    const w = tf.tensor2d(values, [7, 11]);
    const packed = tf.engine().runKernel('GitPackWeight', { w }) as tf.Tensor2D;
    assert.deepEqual(await packed.data(), values);
    assert.deepEqual(await w.data(), values);
    assert.deepEqual(await tf.transpose(packed).data(), await tf.transpose(tf.tensor2d(values, [7, 11])).data());
    assert.deepEqual(
      await tf.add(packed, packed).data(),
      values.map((x) => 2 * x),
    );
  });

  it('a weight that is packed by its first use is still one piece of data', () => {
    const [x, w] = [tf.ones([2, 7]), tf.ones([7, 11])];
    const count = tf.engine().backend.numDataIds();
    tf.dispose(tf.engine().runKernel('GitLinear', { x, weight: w }, { activation: 'none' }) as tf.Tensor);
    assert.equal(tf.engine().backend.numDataIds(), count);
    tf.dispose([x, w]);
    assert.equal(tf.engine().backend.numDataIds(), count - 2);
  });

  it('a sum of packed weights holds while unpacking them makes the memory grow', async () => {
    await useVariant('simd-plain-unshared'); // whose old views die when it grows
    const shape: [number, number] = [1024, 1024];
    const weights = Array.from({ length: 12 }, () =>
      uploadWeight({ format: 'bf16', data: new Float32Array(2 ** 20).fill(2), shape }),
    );
    const sum = tf.addN(weights);
    assert.equal((await tf.min(sum).data())[0], 24);
    assert.equal((await tf.max(sum).data())[0], 24);
    tf.dispose([...weights, sum]);
    await useVariant('simd');
  });

  it('bf16 and f16 round to the nearest, ties to even; int8 has one scale a column', async () => {
    const data = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -1.004, 3e-5, 127.9375, 2 ** -24, 2 ** -25);
    const read = async (format: WeightFormat) => [...(await uploadWeight({ format, data, shape: [1, 8] }).data())];
    assert.deepEqual((await read('bf16')).slice(0, 3), [1, 1, 1 + 2 ** -6]);
    const half = await read('f16');
    assert.deepEqual([half[0], half[5], half[6], half[7]], [1, 127.9375, 2 ** -24, 0]);
    assert.ok(Math.abs(half[3]! + 1.004) < 5e-4 && Math.abs(half[4]! - 3e-5) < 3e-8);
    const column = uploadWeight({ format: 'int8', data: Float32Array.of(-2, 1, 0.5, 0), shape: [4, 1] });
    const numbers = await column.data();
    for (const [i, wanted] of [-2, 1, 0.5, 0].entries()) assert.ok(Math.abs(numbers[i]! - wanted) <= 1 / 127);
  });

  it('what cannot be uploaded says why', () => {
    const cases: [Parameters<typeof uploadWeight>[0], RegExp][] = [
      [{ format: 'f32', data: new Float32Array(3), shape: [2, 2] }, /wrong-size: 3 numbers for \[2, 2\]/],
      [{ format: 'f32', data: new Float32Array(4), shape: [-2, -2] }, /wrong-size/],
      [{ format: 'bf16', data: new Int8Array(4), shape: [2, 2] }, /wrong-type/],
      [{ format: 'int8', data: new Int8Array(1), scales: Float32Array.of(Number.NaN), shape: [1, 1] }, /non-finite/],
      [{ format: 'int8', data: new Int8Array(4), shape: [2, 2] }, /wrong-scales/],
      [{ format: 'f16', data: Uint16Array.of(0x7c00), shape: [1, 1] }, /non-finite/],
      [{ format: 'f16', data: Float32Array.of(128), shape: [1, 1] }, /too-large/],
      [{ format: 'q4' as 'f32', data: new Float32Array(1), shape: [1, 1] }, /unknown-format/],
    ];
    for (const [upload, message] of cases) assert.throws(() => uploadWeight(upload), message);
  });
});
