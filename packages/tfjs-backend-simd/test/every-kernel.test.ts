import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import type { KernelCases } from './kernel-cases/case.js';
import { elementwiseCases } from './kernel-cases/elementwise.js';
import { gradientCases } from './kernel-cases/gradients.js';
import { creationCases, movementCases } from './kernel-cases/movement.js';
import { otherCases } from './kernel-cases/others.js';
import { reductionCases } from './kernel-cases/reductions.js';
import { imageCases, windowCases } from './kernel-cases/windows.js';
import { holds, sameAsCpu, useVariant } from './support.js';

const CASES: KernelCases = {
  ...elementwiseCases,
  ...reductionCases,
  ...movementCases,
  ...creationCases,
  ...windowCases,
  ...gradientCases,
  ...imageCases,
  ...otherCases,
};

describe('simd: every kernel against tfjs’s cpu backend', () => {
  before(() => useVariant('simd'));

  it('has a case', () => {
    const names = tf.getKernelsForBackend('simd').map(({ kernelName }) => kernelName);
    assert.deepEqual(Object.keys(CASES).sort(), names.sort());
  });

  for (const [kernel, { draw, tolerance, reference, call }] of Object.entries(CASES)) {
    it(kernel, () =>
      holds(
        draw,
        ({ inputs, attributes = {} }) => {
          const names = Object.keys(inputs);
          const run = (...tensors: tf.Tensor[]) => {
            const byName = Object.fromEntries(tensors.map((tensor, i) => [names[i]!, tensor]));
            const named = names[0] === '0' ? (tensors as never) : byName; // a list, to kernels that take one
            if (reference !== undefined && tf.getBackend() === 'cpu') return reference(named, attributes);
            if (call !== undefined) return call(named, attributes);
            return tf.engine().runKernel(kernel, named, attributes as never) as tf.Tensor | tf.Tensor[];
          };
          return sameAsCpu('simd', Object.values(inputs), run, tolerance);
        },
        30,
      ),
    );
  }
});
