import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { Dots } from '../src/abi.js';
import { type SimdBackend, uploadWeight } from '../src/index.js';
import { expectNoTensors, holds, make, type Spec, specs, useVariant, VARIANTS } from './support.js';

/** Bits of x · w + bias on the current backend. */
async function productBits(x: Spec, w: Spec, bias: Spec): Promise<string> {
  const weight = uploadWeight({
    format: 'int8-fast',
    data: Float32Array.from(w.values),
    shape: w.shape as [number, number],
  });
  const inputs = { x: make(x), weight, bias: make(bias) };
  const y = tf.engine().runKernel('GitLinear', inputs, { activation: 'none' }) as tf.Tensor;
  const bits = Buffer.from((await y.data()).slice().buffer).toString('hex');
  tf.dispose([y, Object.values(inputs)]);
  return bits;
}

const size = fc.oneof(fc.integer({ min: 1, max: 14 }), fc.integer({ min: 1, max: 600 }));
const cases = fc
  .tuple(fc.integer({ min: 1, max: 15 }), size, fc.integer({ min: 1, max: 40 }))
  .chain(([m, k, n]) => fc.tuple(specs([m, k]), specs([k, n]), specs([n])));

/** Rows and weights at the ends of their ranges; of 16 weights of a column the first `filled`, which meet in two lanes of 16 bits, are not 0. */
const ends = (filled: number): readonly [Spec, Spec, Spec] => [
  { shape: [7, 300], dtype: 'float32', values: Array.from({ length: 2100 }, (_, i) => ((i % 7) % 2 === 0 ? 1 : -1)) },
  {
    shape: [300, 9],
    dtype: 'float32',
    values: Array.from({ length: 2700 }, (_, i) => (Math.floor(i / 9) % 16 >= filled ? 0 : i % 2 === 0 ? 1 : -1)),
  },
  { shape: [9], dtype: 'float32', values: new Array<number>(9).fill(0) },
];

/** Runs `body` with the given instructions in place of the fastest of this machine. */
async function withDots<T>(dots: Dots, body: () => Promise<T>): Promise<T> {
  const backend = tf.backend() as SimdBackend;
  const own = Object.getOwnPropertyDescriptor(
    Object.getPrototypeOf(Object.getPrototypeOf(Object.getPrototypeOf(backend))),
    'dots',
  );
  assert.ok(own?.get !== undefined);
  Object.defineProperty(backend, 'dots', { value: dots, configurable: true });
  try {
    return await body();
  } finally {
    Reflect.deleteProperty(backend, 'dots');
  }
}

describe('int8-fast: one result, whatever computes it', () => {
  it('every binary, and every way to add four products that a machine computes right, has the same bits', async () => {
    // The sums of 16 of them would not fit a lane, unless their steps are wider.
    const drawn: (readonly [Spec, Spec, Spec])[] = [4, 5, 8, 16].map(ends);
    await holds(cases, async (one) => void drawn.push(one), 40);
    let expected: string[] | undefined;
    for (const { name } of VARIANTS) {
      await useVariant(name);
      const chosen = (tf.backend() as SimdBackend).dots;
      for (const dots of [Dots.plain, Dots.pairs, Dots.whole]) {
        const found = await expectNoTensors(() =>
          withDots(dots, async () => {
            const bits: string[] = [];
            for (const [x, w, bias] of drawn) bits.push(await productBits(x, w, bias));
            return bits;
          }),
        );
        expected ??= found;
        const odd = found.findIndex((bits, i) => bits !== expected![i]);
        // V8 11.3 (Node 20) gives twice the sum of four products: what a machine computes otherwise, the backend must not have chosen.
        if (odd >= 0 && dots !== Dots.plain && dots !== chosen)
          console.log(`    ${name}: ${Dots[dots]} is not used here`);
        else assert.ok(odd < 0, `${name}, ${Dots[dots]}: [${drawn[odd]?.[0].shape}] · [${drawn[odd]?.[1].shape}]`);
      }
    }
  });

  it('sums at the ends of the ranges are exact', async () => {
    await useVariant('simd');
    const [x, w, bias] = ends(4);
    const bits = await productBits(x, w, bias);
    const got = new Float32Array(new Uint8Array(Buffer.from(bits, 'hex')).buffer);
    for (let i = 0; i < 7; i++) {
      for (let j = 0; j < 9; j++) {
        let sum = 0;
        for (let l = 0; l < 300; l++) sum += x.values[i * 300 + l]! * w.values[l * 9 + j]!;
        assert.ok(Math.abs(got[i * 9 + j]! - sum) <= 300 * 2 ** -22, `${got[i * 9 + j]} for ${sum}`);
      }
    }
  });

  it('a plain binary uses no relaxed instruction, a relaxed one does where it is right', async () => {
    const dotsOf = async (name: string) => {
      await useVariant(name);
      return (tf.backend() as SimdBackend).dots;
    };
    assert.equal(await dotsOf('simd-plain-unshared'), Dots.plain);
    assert.notEqual(await dotsOf('simd-relaxed-unshared'), Dots.plain);
  });

  it('rows that are not finite give NaN, and only they', async () => {
    await useVariant('simd');
    const data = Float32Array.from({ length: 300 }, (_, i) => (i % 16 < 4 ? 0.5 : 0));
    const weight = uploadWeight({ format: 'int8-fast', data, shape: [300, 1] });
    const values = new Float32Array(900).fill(1);
    [values[299], values[650]] = [Number.POSITIVE_INFINITY, Number.NaN];
    const x = tf.tensor2d(values, [3, 300]);
    const y = tf.engine().runKernel('GitLinear', { x, weight }, { activation: 'none' }) as tf.Tensor;
    const [a, b, c] = await y.data();
    assert.ok(Number.isNaN(a) && Math.abs(b! - 38) < 1e-3 && Number.isNaN(c), `${[a, b, c]}`);
    tf.dispose([x, y, weight]);
  });

  it('weights read back as they are used, within half of a 127th of their column', async () => {
    await useVariant('simd');
    const data = Float32Array.of(1, -3, 0.25, 0, -0.5, 3, 0.7, 1e-38, 0.1, 0.2);
    const weight = uploadWeight({ format: 'int8-fast', data, shape: [5, 2] });
    const got = await weight.data();
    const tops = [1, 3];
    data.forEach((value, i) => {
      assert.ok(Math.abs(got[i]! - value) <= tops[i % 2]! / 254 + 1e-7, `${got[i]} for ${value}`);
    });
    assert.ok(Math.abs(got[0]! - 1) < 1e-6 && Math.abs(got[5]! - 3) < 1e-6);
    weight.dispose();
  });

  it('where eight weights of one sign meet in a lane of 16 bits, half their sum is what becomes 127', async () => {
    await useVariant('simd');
    const column = Array.from({ length: 40 }, (_, i) => (i >= 32 ? 0 : i % 4 < 2 ? 0.3 : i < 16 ? -0.1 : 0.1));
    const weight = uploadWeight({ format: 'int8-fast', data: Float32Array.from(column), shape: [40, 1] });
    const [got, step] = [await weight.data(), (8 * 0.3) / 2 / 127];
    column.forEach((value, i) => {
      assert.ok(Math.abs(got[i]! - step * Math.round(value / step)) <= 1e-6, `${got[i]} for ${value}`);
    });
    weight.dispose();
  });
});
