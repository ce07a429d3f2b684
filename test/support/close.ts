import assert from 'node:assert/strict';
import type { Tensor } from '@tensorflow/tfjs-core';
import { memory } from '@tensorflow/tfjs-core';

export type Numbers = ArrayLike<number>;

/** Largest |got - expected|, with its place; NaN anywhere counts as infinite. */
export function largestError(got: Numbers, expected: Numbers): { error: number; index: number } {
  assert.equal(got.length, expected.length, `lengths differ: got ${got.length}, expected ${expected.length}`);
  let error = 0;
  let index = -1;
  for (let i = 0; i < got.length; i++) {
    const difference = got[i] === expected[i] ? 0 : Math.abs(got[i]! - expected[i]!);
    const here = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (here > error) [error, index] = [here, i];
  }
  return { error, index };
}

/** Fails unless |got - expected| <= atol everywhere; NaN never passes. Returns the largest error, for printing. */
export function expectClose(got: Numbers, expected: Numbers, atol: number, what = 'values'): number {
  const { error, index } = largestError(got, expected);
  assert.ok(
    error <= atol,
    `${what}: largest error ${error} > ${atol} at [${index}]: got ${got[index]}, expected ${expected[index]}`,
  );
  return error;
}

/** The same for a tensor, with its shape. */
export async function expectTensorClose(
  got: Tensor,
  shape: readonly number[],
  expected: Numbers,
  atol: number,
  what?: string,
) {
  assert.deepEqual([...got.shape], [...shape], `${what ?? 'tensor'}: shape`);
  return expectClose(await got.data(), expected, atol, what);
}

/** Runs `body` and fails unless the number of live tensors grew by exactly `grows`, also when it throws. */
export async function expectTensors<T>(grows: number, body: () => T | Promise<T>): Promise<T> {
  const before = memory().numTensors;
  try {
    const result = await body();
    assert.equal(
      memory().numTensors - before,
      grows,
      `live tensors grew by ${memory().numTensors - before}, not ${grows}`,
    );
    return result;
  } catch (error) {
    if (!(error instanceof assert.AssertionError)) {
      assert.equal(
        memory().numTensors - before,
        0,
        `${memory().numTensors - before} tensors leaked by a throw: ${error}`,
      );
    }
    throw error;
  }
}
