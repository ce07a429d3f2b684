import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { Job } from '../src/abi.js';
import { registerSimdBackend, type SimdBackend, setThreads, uploadWeight } from '../src/index.js';
import { untilAllWork, useVariant, wave } from './support.js';

/** One of everything that is shared between threads, at sizes of several chunks. */
function everything(weights: readonly tf.Tensor[]): tf.Tensor[] {
  return tf.tidy(() => {
    const [x, weight, bias] = [wave([70, 96], 0.37), wave([96, 515], 0.11), wave([515], 0.5)];
    const run = (name: string, inputs: tf.NamedTensorMap, attrs = {}) =>
      tf.engine().runKernel(name, inputs, attrs) as tf.Tensor;
    const heads = wave([2, 6, 40, 16], 0.7);
    const few = wave([3, 768], 0.3);
    const formats = weights.map((weight) => run('GitLinear', { x: few, weight }, { activation: 'none' }));
    return [
      run('GitLinear', { x, weight: tf.clone(weight), bias }, { activation: 'gelu' }),
      run('GitAttention', { q: heads, key: heads, value: heads }),
      run('GitLayerNorm', { x: wave([900, 96], 0.2), gamma: wave([96], 1), beta: wave([96], 2) }, { epsilon: 1e-5 }),
      ...formats,
      tf.exp(wave([200_000], 0.1)),
      tf.add(wave([300, 900], 0.1), wave([900], 0.3)),
      tf.softmax(wave([500, 333], 0.9)),
      tf.sum(wave([700, 333], 0.9), 1),
      tf.transpose(wave([31, 17, 29], 0.1), [2, 0, 1]),
    ];
  });
}

async function read(tensors: tf.Tensor[]): Promise<Uint8Array[]> {
  const bytes = await Promise.all(tensors.map(async (tensor) => new Uint8Array((await tensor.data()).buffer)));
  tf.dispose(tensors);
  return bytes;
}

describe('simd: threads', () => {
  before(() => useVariant('simd-threads'));

  it('the same bits from every number of threads', async () => {
    setThreads(1, 'simd-threads');
    const data = Float32Array.from({ length: 768 * 1000 }, (_, i) => Math.sin(i));
    const shape = [768, 1000] as const;
    const weights = (['f32', 'bf16', 'f16', 'int8', 'int8-fast'] as const).map((format) =>
      uploadWeight({ format, data, shape }),
    );
    const alone = await read(everything(weights));
    for (const threads of [2, 3, 5]) {
      assert.equal(setThreads(threads, 'simd-threads'), threads);
      await untilAllWork(threads - 1, async () => {
        const together = await read(everything(weights));
        const differing = together.filter((bytes, i) => Buffer.compare(bytes, alone[i]!) !== 0);
        assert.equal(differing.length, 0, `${threads} threads`);
      });
    }
    setThreads(3, 'simd-threads');
    tf.dispose(weights);
  });

  it('workers take chunks of elementwise jobs', async () => {
    setThreads(2, 'simd-threads');
    const { kernels, heap } = tf.backend() as SimdBackend;
    const x = tf.zeros([200 * 16384]);
    const y = tf.exp(x); // leaves its parameters behind, which the same job now reads again
    let own = 200;
    for (let round = 0; round < 2000 && own === 200; round++) {
      own = kernels.share(Job.map, 200);
      kernels.join(1e6, 1);
      await new Promise((resolve) => setImmediate(resolve)); // the worker may still have to start
    }
    assert.ok(own < 200 && heap.stats().used > 0, 'the worker never took a chunk');
    tf.dispose([x, y]);
  });

  it('memory that is not shared has one thread', async () => {
    await useVariant('simd-plain-unshared');
    assert.equal(setThreads(4, 'simd-plain-unshared'), 1);
    assert.throws(() => setThreads(2, 'no-such-backend'), /no-such-backend: not-started/);
    for (const count of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.throws(() => setThreads(count, 'simd-plain-unshared'), /thread-count: expected a whole number from 1 on/);
      assert.throws(() => registerSimdBackend({ name: 'odd', threads: count }), /odd: thread-count/);
    }
    await useVariant('simd-threads');
  });

  it('can be removed, and registered again with other options', async () => {
    const registerAndStart = async (threads: number) => {
      registerSimdBackend({ name: 'simd-again', threads });
      assert.ok(await tf.setBackend('simd-again'));
      return (tf.backend() as SimdBackend).pool.threads;
    };
    assert.equal(await registerAndStart(2), 2);
    tf.removeBackend('simd-again');
    assert.equal(await registerAndStart(3), 3);
    assert.equal(await registerAndStart(1), 1);
    tf.removeBackend('simd-again');
    await useVariant('simd-threads');
  });
});
