import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { uploadWeight, type WeightFormat } from '../src/index.js';
import { useVariant, VARIANTS } from './support.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'int8', 'int8-fast'];

/** Numbers between -1 and 1 without a pattern that a block could hide. */
const wave = (length: number, step: number) => Float32Array.from({ length }, (_, i) => Math.sin(i * i * step + i));

async function product(x: Float32Array, m: number, k: number, weight: tf.Tensor): Promise<Float32Array> {
  const rows = tf.tensor2d(x, [m, k]);
  const y = tf.engine().runKernel('GitLinear', { x: rows, weight }, { activation: 'none' }) as tf.Tensor;
  const values = (await y.data()) as Float32Array;
  tf.dispose([rows, y]);
  return values;
}

/** Largest difference to the float64 product with the weights as they read back, as a part of the largest result. */
function errorOf(got: Float32Array, x: Float32Array, w: ArrayLike<number>, m: number, k: number): number {
  const n = w.length / k;
  let [error, largest] = [0, 0];
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let l = 0; l < k; l++) sum += x[i * k + l]! * w[l * n + j]!;
      const difference = Math.abs(sum - got[i * n + j]!);
      error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(error, difference);
      largest = Math.max(largest, Math.abs(sum));
    }
  }
  return error / largest;
}

for (const { name } of VARIANTS) {
  describe(`${name}: products of few and many rows`, () => {
    before(() => useVariant(name));

    for (const format of FORMATS) {
      it(`${format}: blocks of rows and of k, each with a rest`, async () => {
        let worst = 0;
        // 205 and 417 rows are two and three blocks, 9 are one more than few; 1,100 steps of k are two blocks and a rest in every format.
        const shapes = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((m) => [m, 1101, 19]);
        // Eight rows of 3,072 and one of 20,001 have more numbers than one chunk of an elementwise job.
        const large = [
          [205, 61, 19],
          [417, 530, 67],
          [8, 3072, 5],
          [1, 20_001, 11],
        ];
        for (const [m, k, n] of [...shapes, ...large] as [number, number, number][]) {
          const [x, data] = [wave(m * k, 0.37), wave(k * n, 0.11)];
          const weight = uploadWeight({ format, data, shape: [k, n] });
          worst = Math.max(worst, errorOf(await product(x, m, k, weight), x, await weight.data(), m, k));
          weight.dispose();
        }
        console.log(`    ${format}: ${worst.toExponential(1)} of the largest result`);
        // int8 rounds a row to 32767 steps: half a step, at random, for each of k products; int8-fast to 126 in all.
        const tolerance = format === 'int8' ? 2e-5 : format === 'int8-fast' ? 1e-2 : 1e-6;
        assert.ok(worst <= tolerance, `${worst}`);
      });
    }
  });
}

describe('simd: products over nothing', () => {
  before(() => useVariant('simd'));

  it('are the bias, activated in every column of however many', async () => {
    const [x, weight, bias] = [tf.zeros([2, 0]), tf.zeros([0, 40_000]), tf.ones([40_000])];
    const y = tf.engine().runKernel('GitLinear', { x, weight, bias }, { activation: 'gelu' }) as tf.Tensor;
    for (const value of await y.data()) assert.ok(Math.abs(value - 0.8413447) < 1e-6, `${value}`);
    tf.dispose([x, weight, bias, y]);
  });
});

describe('simd: rows rounded for int8 weights', () => {
  before(() => useVariant('simd'));
  const [k, n] = [37, 11];
  const weightOf = () => uploadWeight({ format: 'int8', data: wave(k * n, 0.11), shape: [k, n] });

  it('rows that are not finite become NaN, rows of nothing but dust zero, and the others do not notice', async () => {
    for (const m of [1, 4, 12]) {
      const weight = weightOf();
      const x = wave(m * k, 0.2);
      const clean = await product(x, m, k, weight);
      const last = (m - 1) * k;
      for (const [bad, expected] of [
        [Number.NaN, Number.NaN],
        [Number.POSITIVE_INFINITY, Number.NaN],
        [Number.NEGATIVE_INFINITY, Number.NaN],
      ] as const) {
        const spoilt = x.slice();
        spoilt[last + 36] = bad;
        const got = await product(spoilt, m, k, weight);
        assert.deepEqual(got.slice(0, (m - 1) * n), clean.slice(0, (m - 1) * n));
        assert.deepEqual(
          [...got.slice((m - 1) * n)],
          Array.from({ length: n }, () => expected),
        );
      }
      const dust = x.slice().fill(1e-38, last);
      assert.deepEqual(
        [...(await product(dust, m, k, weight)).slice((m - 1) * n)],
        Array.from({ length: n }, () => 0),
      );
      weight.dispose();
    }
  });

  it('the largest words there are stay inside 32 bits', async () => {
    for (const m of [1, 3, 9]) {
      const size = 2048;
      const data = new Int8Array(size * 8).fill(-128);
      const weight = uploadWeight({ format: 'int8', data, scales: new Float32Array(8).fill(1), shape: [size, 8] });
      const got = await product(new Float32Array(m * size).fill(-3), m, size, weight);
      for (const value of got) assert.equal(value, 3 * 128 * size);
      weight.dispose();
    }
  });

  it('matMul of a transposed matrix and an int8 weight', async () => {
    for (const m of [1, 3, 20]) {
      const weight = weightOf() as tf.Tensor2D;
      const x = wave(m * k, 0.5);
      const rows = tf.tensor2d(x, [m, k]);
      const y = tf.tidy(() => tf.matMul(tf.transpose(rows) as tf.Tensor2D, weight, true));
      const error = errorOf((await y.data()) as Float32Array, x, await weight.data(), m, k);
      assert.ok(error <= 1e-6, `${m} rows: ${error}`);
      tf.dispose([weight, rows, y]);
    }
  });

  it('plain and relaxed SIMD give the same bits', async () => {
    const results: Float32Array[] = [];
    for (const variant of ['simd', 'simd-plain-unshared']) {
      await useVariant(variant);
      for (const m of [1, 4, 30]) {
        const weight = weightOf();
        results.push(await product(wave(m * k, 0.3), m, k, weight));
        weight.dispose();
      }
    }
    assert.deepEqual(results.slice(0, 3), results.slice(3));
    await useVariant('simd');
  });
});
