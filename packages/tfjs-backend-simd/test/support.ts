import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import fc from 'fast-check';
import { registerSimdBackend } from '../src/index.js';
import { starterOf } from './variants.js';

export { holds, untilAllWork, VARIANTS } from './variants.js';

export const useVariant = starterOf(registerSimdBackend);

/** A tensor by its contents, to be made on any backend. */
export interface Spec {
  readonly shape: number[];
  readonly dtype: 'float32' | 'int32' | 'bool';
  readonly values: number[];
}

/** A tensor of strings. */
export interface StringSpec {
  readonly shape: number[];
  readonly dtype: 'string';
  readonly values: string[];
}

export const make = ({ shape, dtype, values }: Spec | StringSpec): tf.Tensor => tf.tensor(values, shape, dtype);

/** A shape of up to `maxRank` small dimensions; about one in twelve is empty. */
export const shapes = (maxRank: number, minRank = 0, most = 7): fc.Arbitrary<number[]> =>
  fc.array(
    fc.integer({ min: 1, max: 12 * most }).map((n) => (n > 11 * most ? 0 : 1 + (n % most))),
    {
      minLength: minRank,
      maxLength: maxRank,
    },
  );

/** Numbers of a type. `kind` positive keeps away from zero and below. */
export function specs(
  shape: readonly number[],
  dtype: Spec['dtype'] = 'float32',
  { min = -4, max = 4 }: { min?: number; max?: number } = {},
): fc.Arbitrary<Spec> {
  const size = shape.reduce((product, n) => product * n, 1);
  return fc.integer().map((seed) => {
    let state = seed | 0;
    const next = () => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return (state >>> 8) / 2 ** 24;
    };
    const values = Array.from({ length: size }, () => {
      const value = min + next() * (max - min);
      if (dtype === 'bool') return next() < 0.5 ? 0 : 1;
      return dtype === 'int32' ? Math.round(value) : Math.fround(value);
    });
    return { shape: [...shape], dtype, values };
  });
}

type Result = { shape: number[]; dtype: string; values: ArrayLike<number> };

async function evaluate(
  backend: string,
  inputs: readonly (Spec | StringSpec)[],
  run: (...x: tf.Tensor[]) => tf.Tensor | tf.Tensor[],
) {
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const tensors = inputs.map(make);
  let outputs: tf.Tensor[];
  try {
    outputs = tf.tidy(() => [run(...tensors)].flat());
  } catch (error) {
    tf.dispose(tensors);
    throw error;
  }
  const results: Result[] = [];
  for (const output of outputs) {
    results.push({ shape: output.shape, dtype: output.dtype, values: (await output.data()) as never });
  }
  tf.dispose([outputs, tensors]);
  assert.equal(tf.memory().numTensors, before, 'tensors leak');
  return results;
}

/** Does `run` give the same on `backend` as on tfjs's cpu backend, within `tolerance` relative to max(1, |expected|)? */
export async function sameAsCpu(
  backend: string,
  inputs: readonly (Spec | StringSpec)[],
  run: (...x: tf.Tensor[]) => tf.Tensor | tf.Tensor[],
  tolerance = 0,
): Promise<void> {
  const expected = await evaluate('cpu', inputs, run).catch((error: Error) => {
    // tfjs's cpu backend itself fails on some empty tensors, where there is nothing to compare with.
    assert.match(
      error.message,
      /vals\.subarray is not a function|must match the product of shape|Negative size values/,
    );
    return undefined;
  });
  if (expected === undefined) return;
  const got = await evaluate(backend, inputs, run);
  assert.equal(got.length, expected.length);
  got.forEach((result, i) => {
    const wanted = expected[i]!;
    assert.deepEqual([result.shape, result.dtype], [wanted.shape, wanted.dtype], 'shape and type');
    assert.equal(result.values.length, wanted.values.length);
    for (let j = 0; j < wanted.values.length; j++) {
      const [a, b] = [result.values[j]!, wanted.values[j]!];
      const equal = Object.is(a, b) || a === b || Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b));
      assert.ok(equal, `element ${j} of [${wanted.shape}]: got ${a}, expected ${b}`);
    }
  });
}

/** A float32 tensor of sines: `step` from one number's angle to the next one's. */
export const wave = (shape: number[], step: number): tf.Tensor =>
  tf.tidy(() => tf.sin(tf.mul(tf.reshape(tf.range(0, tf.util.sizeFromShape(shape)), shape), step)));

/** Runs `body`, and fails unless it leaves no tensor, also when it throws. */
export async function expectNoTensors<T>(body: () => T | Promise<T>): Promise<T> {
  const before = tf.memory().numTensors;
  try {
    return await body();
  } finally {
    assert.equal(tf.memory().numTensors, before, 'tensors leak');
  }
}

/** Fails unless |got - expected| <= `atol` everywhere; NaN never passes. */
export function expectClose(got: ArrayLike<number>, expected: ArrayLike<number>, atol: number): void {
  assert.equal(got.length, expected.length);
  for (let i = 0; i < got.length; i++) {
    assert.ok(Math.abs(got[i]! - expected[i]!) <= atol, `element ${i}: got ${got[i]}, expected ${expected[i]}`);
  }
}
