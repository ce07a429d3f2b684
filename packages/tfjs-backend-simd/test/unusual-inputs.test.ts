import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../src/index.js';
import { make, type Spec, sameAsCpu, useVariant } from './support.js';

const counted = (shape: number[], dtype: Spec['dtype'] = 'float32'): Spec => {
  const size = shape.reduce((product, n) => product * n, 1);
  const value = (n: number) => (dtype === 'bool' ? n % 2 : n + (dtype === 'int32' ? -3 : 0.5));
  return { shape, dtype, values: Array.from({ length: size }, (_, i) => value((i * 7) % 11)) };
};

type Case = readonly [string, readonly Spec[], (...x: never[]) => tf.Tensor];
const same = (sizes: number, times: number) => new Array<number>(sizes).fill(times);

/** Inputs that tfjs lets through and that its cpu backend takes as they are meant. */
const CASES: readonly Case[] = [
  [
    'one tensor as mean, scale and offset',
    [counted([2, 3, 3, 4]), counted([4])],
    (x: tf.Tensor4D, m: tf.Tensor1D) => tf.batchNorm(x, m, m, m, m),
  ],
  [
    'integers joined to numbers',
    [counted([3]), counted([2], 'int32')],
    (a: tf.Tensor1D, b: tf.Tensor1D) => tf.concat([a, b]),
  ],
  [
    'numbers joined to integers',
    [counted([3], 'int32'), counted([2])],
    (a: tf.Tensor1D, b: tf.Tensor1D) => tf.concat([a, b]),
  ],
  [
    'a softmax of integers',
    [counted([2, 5], 'int32')],
    (logits: tf.Tensor) => tf.engine().runKernel('Softmax', { logits }, { dim: -1 }) as tf.Tensor,
  ],
  [
    'a sum over integers and numbers',
    [counted([2, 3], 'int32'), counted([3, 4])],
    (a: tf.Tensor, b: tf.Tensor) => tf.einsum('ij,jk->ik', a, b),
  ],
  [
    'a sum over two tensors of truths, which counts',
    [counted([2, 3], 'bool'), counted([3, 4], 'bool')],
    (a: tf.Tensor, b: tf.Tensor) => tf.einsum('ij,jk->ik', a, b),
  ],
  [
    'images of integers whose pixels are only moved',
    [counted([1, 4, 3, 2], 'int32')],
    (x: tf.Tensor4D) => tf.image.resizeNearestNeighbor(x, [3, 5]),
  ],
  [
    'a tile of nine dimensions, which are eighteen to copy',
    [counted(same(9, 2))],
    (x: tf.Tensor) => tf.tile(x, same(9, 2)),
  ],
  [
    'seventeen dimensions transposed',
    [counted([2 ** 17])],
    (x: tf.Tensor) => tf.transpose(tf.reshape(x, same(17, 2)), [...Array(17).keys()].reverse()),
  ],
  [
    'a convolution over no channels',
    [counted([1, 4, 4, 0]), counted([2, 2, 0, 3])],
    (x: tf.Tensor4D, f: tf.Tensor4D) => tf.conv2d(x, f, 1, 'valid'),
  ],
  [
    'deep windows of one pixel that step over the edge',
    [counted([1, 2, 2, 2, 1])],
    (x: tf.Tensor5D) => tf.avgPool3d(x, 1, 2, 1 as never),
  ],
];

describe('simd: unusual inputs', () => {
  before(() => useVariant('simd'));

  for (const [name, inputs, run] of CASES) it(name, () => sameAsCpu('simd', inputs, run as never, 1e-5));

  it('truths that are summed by segment are counted', async () => {
    await useVariant('simd');
    const [x, segments] = [tf.tensor1d([1, 1, 0, 1], 'bool'), tf.tensor1d([1, 1, 0, 1], 'int32')];
    const sums = tf.unsortedSegmentSum(x, segments, 2);
    assert.deepEqual([sums.dtype, [...(await sums.data())]], ['int32', [0, 3]]);
    tf.dispose([x, segments, sums]);
  });

  it('strings are not joined to numbers', async () => {
    await useVariant('simd');
    const [words, numbers] = [tf.tensor1d(['a', 'b']), tf.tensor1d([1])];
    const before = tf.memory().numDataBuffers;
    assert.throws(() => tf.concat([words, numbers as never]), /unsupported-dtype/);
    assert.throws(() => tf.concat([numbers, words as never]), /unsupported-dtype/);
    assert.equal(tf.memory().numDataBuffers, before);
    tf.dispose([words, numbers]);
  });

  it('a window that is larger than its image in two directions makes no tensor', async () => {
    await useVariant('simd');
    const [x, filter] = [tf.ones([1, 2, 2, 1]), tf.ones([4, 4, 1, 3])] as [tf.Tensor4D, tf.Tensor4D];
    const windows = [
      () => tf.conv2d(x, filter, 1, 'valid'),
      () => tf.depthwiseConv2d(x, filter, 1, 'valid'),
      () => tf.maxPool(x, 4, 1, 'valid'),
    ];
    const before = tf.memory().numDataBuffers;
    for (const window of windows) assert.throws(window, /simd: \w+: shape: there is no tensor \[1,-1,-1,\d\]/);
    assert.equal(tf.memory().numDataBuffers, before);
    tf.dispose([x, filter]);
  });

  it('scratch memory of many products is that of one', async () => {
    await useVariant('simd');
    const { heap } = tf.backend() as SimdBackend;
    const most = (run: () => tf.Tensor): number => {
      let peak = 0;
      const alloc = heap.alloc.bind(heap);
      heap.alloc = (bytes) => {
        const address = alloc(bytes);
        peak = Math.max(peak, heap.stats().used);
        return address;
      };
      const before = heap.stats().used;
      try {
        run().dispose();
      } finally {
        heap.alloc = alloc;
      }
      assert.equal(heap.stats().used, before);
      return peak - before;
    };
    const [a, b] = [make(counted([200, 16, 64])), make(counted([200, 64, 16]))];
    const few = [tf.slice(a, 0, 100), tf.slice(b, 0, 100)] as const;
    const output = 100 * 16 * 16 * 4;
    assert.ok(most(() => tf.matMul(a, b)) < most(() => tf.matMul(...few)) + 1.1 * output + 10_000);
    tf.dispose([a, b, ...few]);
    const [image, filter] = [make(counted([1, 160, 160, 16])), make(counted([3, 3, 16, 4]))] as [
      tf.Tensor4D,
      tf.Tensor4D,
    ];
    const [patches, result] = [160 * 160 * 144 * 4, 160 * 160 * 4 * 4];
    // Of the 15 MB of patches, 8 MiB are there at a time, once as rows and once as tiles.
    assert.ok(patches > 14e6);
    assert.ok(most(() => tf.conv2d(image, filter, 1, 'same')) < 2 * 2 ** 23 + result + 2 ** 20);
    tf.dispose([image, filter]);
  });
});
