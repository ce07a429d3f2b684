import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { holds, make, type Spec, specs, useVariant } from './support.js';

const run = (kernel: string, inputs: Readonly<Record<string, tf.Tensor>>, attributes = {}) =>
  tf.engine().runKernel(kernel, inputs, attributes) as tf.Tensor;

/** The sum of all products of two lists of numbers. */
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((sum, x, i) => sum + x * b[i]!, 0);

const size = fc.integer({ min: 1, max: 6 });

/** What tfjs's own cpu backend does not do right, so that it cannot be the oracle. */
describe('simd: kernels where tfjs’s cpu backend is wrong', () => {
  before(() => useVariant('simd'));

  it('the slopes of a resize are its adjoint: <dy, f(x)> = <gradient(dy), x>, for batches and any shape', () =>
    holds(
      fc
        .tuple(size, size, size, size, fc.constantFrom('Bilinear', 'NearestNeighbor'), fc.nat(2))
        .chain(([height, width, toHeight, toWidth, kind, mode]) =>
          fc.record({
            x: specs([2, height, width, 2]),
            dy: specs([2, toHeight, toWidth, 2]),
            kind: fc.constant(kind),
            attributes: fc.constant({
              alignCorners: mode === 1,
              halfPixelCenters: mode === 2,
              size: [toHeight, toWidth],
            }),
          }),
        ),
      async ({ x, dy, kind, attributes }) => {
        const [images, slopes] = [make(x), make(dy)];
        const y = run(`Resize${kind}`, { images }, attributes);
        const dx = run(`Resize${kind}Grad`, { images, dy: slopes }, attributes);
        assert.deepEqual(dx.shape, x.shape);
        const [there, back] = [dot(await y.data(), dy.values), dot(await dx.data(), x.values)];
        assert.ok(Math.abs(there - back) <= 1e-4 * Math.max(1, Math.abs(there)), `${there} and ${back}`);
        tf.dispose([images, slopes, y, dx]);
      },
    ));

  it('the slopes of a 3-D maximum go to where it stood, in windows of any shape', async () => {
    const values = Array.from({ length: 24 }, (_, i) => (i * 7) % 24); // [1, 2, 3, 4, 1], no two alike
    const input = tf.tensor5d(values, [1, 2, 3, 4, 1]);
    const attributes = { filterSize: [2, 3, 2], strides: [1, 1, 2], pad: 'valid' };
    const output = run('MaxPool3D', { x: input }, { ...attributes, dataFormat: 'NDHWC' });
    const dx = run('MaxPool3DGrad', { dy: tf.tensor5d([10, 20], [1, 1, 1, 2, 1]), input, output }, attributes);
    const [largest, slopes] = [await output.data(), await dx.data()];
    const expected = values.map((value) => (value === largest[0] ? 10 : value === largest[1] ? 20 : 0));
    assert.deepEqual([...slopes], expected);
  });

  it('a strided slice drops an axis and steps over another one', async () => {
    const x = tf.tensor2d([...Array(12).keys()], [3, 4]);
    const y = tf.stridedSlice(x, [1, 3], [2, -5], [1, -2], 0, 0, 0, 0, 1);
    assert.deepEqual([y.shape, [...(await y.data())]], [[2], [7, 5]]);
  });

  it('a transformation treats every image of a batch', () =>
    holds(
      fc.tuple(specs([2, 4, 3, 2]), specs([2, 8], 'float32', { min: -1, max: 1 })),
      async ([image, transforms]) => {
        const both = [make(image), make(transforms)] as [tf.Tensor4D, tf.Tensor2D];
        const whole = await tf.image.transform(...both, 'bilinear').data();
        const parts: number[] = [];
        for (const i of [0, 1]) {
          const own = tf.tidy(() => [tf.slice(both[0], [i], [1]), tf.slice(both[1], [i], [1])] as const);
          parts.push(...(await tf.image.transform(own[0] as tf.Tensor4D, own[1] as tf.Tensor2D, 'bilinear').data()));
        }
        assert.deepEqual([...whole], parts);
      },
      5,
    ));

  it('a multinomial draw follows the odds, and its seed', async () => {
    const logits: Spec = { shape: [2, 3], dtype: 'float32', values: [0, Math.log(3), Math.log(4), 0, -50, 0] };
    const draw = () => tf.multinomial(make(logits) as tf.Tensor2D, 8000, 42).data();
    const [first, again] = [await draw(), await draw()];
    assert.deepEqual(first, again);
    const share = (row: number, event: number) =>
      first.slice(row * 8000, (row + 1) * 8000).filter((drawn) => drawn === event).length / 8000;
    for (const [row, event, odds] of [
      [0, 0, 1 / 8],
      [0, 1, 3 / 8],
      [0, 2, 1 / 2],
      [1, 0, 1 / 2],
      [1, 1, 0],
    ] as const) {
      // Three standard deviations of 8,000 draws are at most 0.017.
      assert.ok(
        Math.abs(share(row, event) - odds) < 0.02,
        `row ${row}: event ${event} ${share(row, event)} of the time`,
      );
    }
    const other = await tf.multinomial(make(logits) as tf.Tensor2D, 8000, 43).data();
    assert.notDeepEqual(first, other);
  });

  it('what is not supported throws by name, and leaves nothing behind', () => {
    const before = tf.memory().numTensors;
    const x = tf.tensor1d([1, 2]);
    assert.throws(() => tf.complex(x, x), /Kernel 'Complex' not registered for backend 'simd'/);
    assert.throws(() => tf.spectral.rfft(x), /Kernel '\w+' not registered for backend 'simd'/);
    x.dispose();
    assert.equal(tf.memory().numTensors, before);
  });
});
