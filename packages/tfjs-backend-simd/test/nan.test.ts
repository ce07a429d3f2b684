import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { type Spec, sameAsCpu, useVariant } from './support.js';

const [NAN, INFINITE] = [Number.NaN, Number.POSITIVE_INFINITY];

/** NaN inside, first, last, everywhere, and among infinities and zeros of both signs. */
const ROWS = [
  [1, NAN, 3, -2, NAN, 0, 5, -1],
  [NAN, 1, 2, 3, 4, 5, 6, 7],
  [7, 6, 5, 4, 3, 2, 1, NAN],
  [NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN],
  [-INFINITE, NAN, INFINITE, 0, -0, NAN, 1, 2],
];
const spec = (rows: readonly (readonly number[])[]): Spec => ({
  shape: [rows.length, rows[0]!.length],
  dtype: 'float32',
  values: rows.flat(),
});
const X = spec(ROWS);
const Y = spec(ROWS.map((row) => [...row].reverse()));
const IMAGE: Spec = { shape: [1, 4, 4, 1], dtype: 'float32', values: ROWS.slice(0, 2).flat() };

type One = (x: tf.Tensor2D) => tf.Tensor;
const OF_ONE: Readonly<Record<string, One>> = {
  argMax: (x) => tf.argMax(x, 1),
  argMin: (x) => tf.argMin(x, 1),
  max: (x) => tf.max(x, 1),
  min: (x) => tf.min(x, 1),
  'max down the columns': (x) => tf.max(x, 0),
  'min down the columns': (x) => tf.min(x, 0),
  sum: (x) => tf.sum(x, 1),
  mean: (x) => tf.mean(x, 1),
  prod: (x) => tf.prod(x, 1),
  cumsum: (x) => tf.cumsum(x, 1),
  cumprod: (x) => tf.cumprod(x, 1),
  softmax: (x) => tf.softmax(x),
  logSoftmax: (x) => tf.logSoftmax(x),
  logSumExp: (x) => tf.logSumExp(x, 1),
  'cast to int32': (x) => tf.cast(x, 'int32'),
  'cast to bool': (x) => tf.cast(x, 'bool'),
  clipByValue: (x) => tf.clipByValue(x, -1, 1),
  leakyRelu: (x) => tf.leakyRelu(x),
  step: (x) => tf.step(x),
};
/** tfjs's operation of this name. */
const call = (name: string) => (tf as unknown as Record<string, (...x: tf.Tensor[]) => tf.Tensor>)[name]!;

const UNARY = [
  'relu',
  'relu6',
  'elu',
  'selu',
  'sign',
  'round',
  'floor',
  'ceil',
  'sigmoid',
  'tanh',
  'erf',
  'exp',
] as const;
const MORE_UNARY = ['softplus', 'log', 'sqrt', 'rsqrt', 'abs', 'neg', 'isNaN', 'isFinite', 'isInf'] as const;
for (const name of [...UNARY, ...MORE_UNARY]) (OF_ONE as Record<string, One>)[name] = call(name);

const COMPARISONS = ['equal', 'notEqual', 'less', 'lessEqual', 'greater', 'greaterEqual'] as const;
const ARITHMETIC = ['maximum', 'minimum', 'mod', 'floorDiv', 'pow', 'squaredDifference', 'atan2', 'prelu'] as const;

const ON_IMAGES: Readonly<Record<string, (x: tf.Tensor4D) => tf.Tensor | tf.Tensor[]>> = {
  maxPool: (x) => tf.maxPool(x, 2, 1, 'valid'),
  avgPool: (x) => tf.avgPool(x, 2, 1, 'valid'),
  maxPoolWithArgmax: (x) => Object.values(tf.maxPoolWithArgmax(x, 2, 1, 'valid')),
  dilation2d: (x) => tf.dilation2d(x, tf.zeros([2, 2, 1]), 1, 'valid'),
  resizeBilinear: (x) => tf.image.resizeBilinear(x, [3, 5]),
  localResponseNormalization: (x) => tf.localResponseNormalization(x),
};

describe('simd: NaN, against tfjs’s cpu backend', () => {
  before(() => useVariant('simd'));

  for (const [name, op] of Object.entries(OF_ONE)) {
    it(name, () => sameAsCpu('simd', [X], (x) => op(x as tf.Tensor2D), 3e-6));
  }
  for (const name of [...COMPARISONS, ...ARITHMETIC]) {
    it(name, () => sameAsCpu('simd', [X, Y], call(name), 3e-6));
  }
  for (const [name, op] of Object.entries(ON_IMAGES)) {
    it(name, () => sameAsCpu('simd', [IMAGE], (x) => op(x as tf.Tensor4D), 3e-6));
  }

  it('-0 keeps its sign', async () => {
    for (const op of [tf.tanh, tf.erf, tf.neg, tf.sqrt, tf.floor, tf.ceil, tf.sin]) {
      const signs: boolean[] = [];
      for (const backend of ['cpu', 'simd']) {
        await tf.setBackend(backend);
        signs.push(Object.is((await op(tf.tensor1d([-0])).data())[0], -0));
      }
      assert.equal(signs[1], signs[0], op.name);
    }
  });
});

describe('simd: NaN, where tfjs’s cpu backend leaves the answer to chance', () => {
  before(() => useVariant('simd'));

  it('topk: NaN is larger than every number, as in PyTorch; equal ones in their order', async () => {
    const expected = [
      [1, 4, 6, 2, 0, 5, 7, 3],
      [0, 7, 6, 5, 4, 3, 2, 1],
      [7, 0, 1, 2, 3, 4, 5, 6],
      [0, 1, 2, 3, 4, 5, 6, 7],
      [1, 5, 2, 7, 6, 3, 4, 0],
    ];
    for (const k of [1, 3, 8]) {
      const { values, indices } = tf.topk(tf.tensor2d(ROWS), k);
      const wanted = expected.map((row) => row.slice(0, k));
      assert.deepEqual(await indices.array(), wanted);
      assert.deepEqual(
        [...(await values.data())],
        wanted.flatMap((row, r) => row.map((i) => ROWS[r]![i]!)),
      );
    }
    // A long list is sorted instead.
    const long = Float32Array.from({ length: 200 }, (_, i) => (i % 3 === 1 ? NAN : (i * 37) % 101));
    const order = [...long.keys()].sort((i, j) => {
      const [a, b] = [i, j].map((at) => (Number.isNaN(long[at]!) ? INFINITE : long[at]!)) as [number, number];
      return a === b ? i - j : b - a;
    });
    const { indices } = tf.topk(tf.tensor1d(long), 150);
    assert.deepEqual([...(await indices.data())], order.slice(0, 150));
  });

  it('unsortedSegmentSum: NaN stays in its segment, as in TensorFlow; cpu spreads it over all of them', async () => {
    const ids = tf.tensor1d([0, 1, 1, 2, -1], 'int32');
    const sums = await (tf.unsortedSegmentSum(tf.tensor1d([1, NAN, 3, 4, NAN]), ids, 4) as tf.Tensor1D).array();
    assert.deepEqual(sums, [1, NAN, 4, 0]);
  });
});

describe('simd: lists that are ragged, which tfjs lets through', () => {
  before(() => useVariant('simd'));
  const ragged = (rows: number[][], dtype?: 'int32') => tf.tensor(rows as never, undefined, dtype);

  for (const rows of [
    [[1, 2], [3]],
    [[1], [2, 3]],
    [[1], [], [4, 5, 6]],
  ]) {
    it(`${JSON.stringify(rows)} reads and adds as on cpu`, async () => {
      for (const dtype of [undefined, 'int32'] as const) {
        const seen: unknown[] = [];
        for (const backend of ['cpu', 'simd']) {
          await tf.setBackend(backend);
          const [x, sum] = tf.tidy(() => [ragged(rows, dtype), tf.add(ragged(rows, dtype), ragged(rows, dtype))]);
          seen.push([x.shape, [...(await x.data())], [...(await sum.data())]]);
          tf.dispose([x, sum]);
        }
        assert.deepEqual(seen[1], seen[0]);
      }
    });
  }
});
