/**
 * What the tests of this package and those of a program that uses the built one share. It loads no backend: whoever imports it brings one,
 * and two copies in one process would register every kernel twice.
 */
import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { WORKER_BYTES, WORKERS } from '../src/abi.js';
import type { registerSimdBackend, SimdBackend, SimdBackendOptions } from '../src/index.js';

/** All four binaries, and threads on the one that has them by default. */
export const VARIANTS: readonly (SimdBackendOptions & { readonly name: string })[] = [
  { name: 'simd', threads: 1 },
  { name: 'simd-threads', threads: 3 },
  { name: 'simd-relaxed-unshared', relaxed: true, shared: false },
  { name: 'simd-plain-shared', relaxed: false, shared: true, threads: 2 },
  { name: 'simd-plain-unshared', relaxed: false, shared: false },
];

/** Starts the backend of one variant, and makes it the current one, with the `register` of the sources or of the built package. */
export const starterOf =
  (register: typeof registerSimdBackend) =>
  async (name: string): Promise<void> => {
    register(VARIANTS.find((variant) => variant.name === name) ?? { name });
    assert.ok(await tf.setBackend(name), `${name} does not start`);
  };

/** A property over random inputs, with a fixed seed. */
export async function holds<T>(
  arbitrary: fc.Arbitrary<T>,
  property: (value: T) => Promise<void>,
  numRuns = 40,
): Promise<void> {
  await fc.assert(fc.asyncProperty(arbitrary, property), { seed: 20_26, numRuns });
}

/** Where a worker's heartbeat is in its block (assembly/thread.ts). */
const HEARTBEAT = 64;
/** Rounds after which every worker must have worked, on however loaded a machine. */
const MOST_ROUNDS = 20_000;

/** Repeats `work`, which shares products or attention, until each of the first `workers` workers has computed a part of it. Returns the rounds. */
export async function untilAllWork(workers: number, work: () => unknown): Promise<number> {
  const { heap } = tf.backend() as SimdBackend;
  const heartbeats = () =>
    Array.from({ length: workers }, (_, i) => Atomics.load(heap.i32, (WORKERS + i * WORKER_BYTES + HEARTBEAT) >> 2));
  const before = heartbeats();
  const idle = () => heartbeats().flatMap((beat, i) => (beat === before[i] ? [i + 1] : []));
  for (let round = 1; round <= MOST_ROUNDS; round++) {
    await work();
    if (idle().length === 0) return round;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return assert.fail(`workers ${idle()} of ${workers} did nothing in ${MOST_ROUNDS} rounds`);
}
