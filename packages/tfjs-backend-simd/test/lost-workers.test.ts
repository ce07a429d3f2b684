import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { WORKER_BYTES, WORKERS } from '../src/abi.js';
import { type SimdBackend, setThreads } from '../src/index.js';
import { useVariant } from './support.js';

/** A backend of their own: elsewhere there may be a third worker. */
const NAME = 'simd-lost-workers';

/** Number of the worker that the tests play themselves, behind the two real ones. */
const IMPOSTOR = 3;
const STATE = (WORKERS + (IMPOSTOR - 1) * WORKER_BYTES) >> 2;
/** Products after which the impostor must have found its chunk, on however loaded a machine. */
const TURNS = 20_000;
/** Times that the caller must sleep before the impostor has its result in place. */
const SLEEPS = 20;
const [IDLE, RECLAIMED] = [0, 2];

/**
 * A worker that claims one chunk of the next job, as assembly/pool.ts says, and then does nothing at all with it. `sign` is what it
 * says of itself: 1 computing, for ever; -1 putting its result in place, until it has seen the caller go to sleep `sleeps` times. It counts
 * them, and stops where the caller goes on without it: `turns` is the number of products that the caller has finished.
 */
const IMPOSTURE = `
  const { workerData: { memory, state, sign, sleeps, turns }, parentPort } = require('node:worker_threads');
  const words = new Int32Array(memory.buffer), longs = new BigInt64Array(memory.buffer);
  const JOINING = 1, [OPEN, NEXT, CHUNKS, CALLER_SLEEPS] = [32832 >> 2, 32896 >> 3, 33092 >> 2, 33152 >> 2];
  parentPort.postMessage('ready');
  for (let claimed = false; !claimed; ) {
    while (Atomics.load(words, OPEN) === 0) {}
    Atomics.store(words, state, JOINING);
    if (Atomics.load(words, OPEN) === 1) {
      const next = Atomics.load(longs, NEXT), chunk = Number(next & 0xffffffffn), holds = sign * (chunk + 4);
      claimed = chunk < Atomics.load(words, CHUNKS)
        && Atomics.compareExchange(words, state, JOINING, holds) === JOINING
        && Atomics.compareExchange(longs, NEXT, next, next + 1n) === next;
    }
    if (!claimed) Atomics.store(words, state, 0);
  }
  if (sign > 0) Atomics.wait(turns, 1, 0);
  const turn = Atomics.load(turns, 0);
  let seen = 0;
  while (seen < sleeps && Atomics.load(turns, 0) === turn) seen += Atomics.exchange(words, CALLER_SLEEPS, 0);
  const wentOn = Atomics.load(turns, 0) !== turn;
  Atomics.store(words, state, 0);
  parentPort.postMessage({ seen, wentOn });
`;

/** Products that the caller has finished; and a word that never changes, to sleep on. */
const turns = new Int32Array(new SharedArrayBuffer(8));

async function impostor(sign: 1 | -1): Promise<Worker> {
  const { heap, kernels } = tf.backend() as SimdBackend;
  const workerData = { memory: { buffer: heap.u8.buffer }, state: STATE, sign, sleeps: SLEEPS, turns };
  const worker = new Worker(IMPOSTURE, { eval: true, workerData });
  await once(worker, 'message');
  kernels.setLimit(IMPOSTOR);
  return worker;
}

/** A product of some 130 chunks, each of which the reference must find done. */
function product(): tf.Tensor {
  const [x, weight] = [tf.ones([400, 260]), tf.tidy(() => tf.reshape(tf.range(0, 260 * 4000), [260, 4000]))];
  const y = tf.engine().runKernel('GitLinear', { x, weight }, { activation: 'none' }) as tf.Tensor;
  tf.dispose([x, weight]);
  return y;
}

const take = async (tensor: tf.Tensor): Promise<Uint8Array> => {
  const bytes = new Uint8Array((await tensor.data()).buffer);
  tensor.dispose();
  return bytes;
};

describe('simd: workers that are lost', () => {
  let expected: Uint8Array;

  before(async () => {
    await useVariant(NAME);
    setThreads(1, NAME);
    expected = await take(product());
    assert.equal(setThreads(3, NAME), 3);
  });
  after(() => (tf.backend() as SimdBackend).kernels.setLimit(2));

  it('a chunk in the hands of a worker that does not run is done by the caller', async () => {
    const { heap } = tf.backend() as SimdBackend;
    const worker = await impostor(1);
    for (let i = 0; i < TURNS && Atomics.load(heap.i32, STATE) !== RECLAIMED; i++) {
      assert.deepEqual(await take(product()), expected);
    }
    assert.equal(Atomics.load(heap.i32, STATE), RECLAIMED, 'its chunk was taken');
    // While it may still write to its scratch, nobody else gets memory that is given back.
    const block = heap.alloc(100_000);
    heap.free(block, 100_000);
    const other = heap.alloc(100_000);
    assert.notEqual(other, block);
    heap.free(other, 100_000);
    Atomics.store(heap.i32, STATE, IDLE);
    await worker.terminate();
  });

  it('one that is putting its result in place is waited for', async () => {
    const { heap } = tf.backend() as SimdBackend;
    const worker = await impostor(-1);
    let found: unknown;
    worker.on('message', (message) => {
      found = message;
    });
    for (let i = 0; i < TURNS && found === undefined; i++) {
      await take(product()); // without that chunk, which nobody did
      Atomics.add(turns, 0, 1);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual(found, { seen: SLEEPS, wentOn: false });
    assert.equal(Atomics.load(heap.i32, STATE), IDLE);
    await worker.terminate();
    assert.deepEqual(await take(product()), expected);
  });
});
