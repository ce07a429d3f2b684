import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import type { SimdBackendOptions } from '../src/index.js';
import { bundleProgram, runProgram } from './tfjs-suite/run-suite.js';

const VARIANTS: readonly SimdBackendOptions[] = [{ threads: 2 }, { relaxed: false, shared: false }];

describe('simd: gradients of a transformer’s loss', () => {
  let folder = '';
  before(async () => {
    folder = await bundleProgram('transformer-gradients.ts');
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const variant of VARIANTS) {
    it(`are those of tfjs’s cpu backend: ${JSON.stringify(variant)}`, async () => {
      const errors = await runProgram<Record<string, number>>(folder, variant);
      const largest = Math.max(...Object.values(errors));
      console.log(`    largest error of a slope: ${largest.toExponential(1)} of the largest slope of its parameter`);
      assert.equal(Object.keys(errors).length, 6);
      assert.ok(largest < 1e-5, JSON.stringify(errors));
    });
  }
});
