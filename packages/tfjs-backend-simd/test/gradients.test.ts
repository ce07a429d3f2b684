import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import type { SimdBackendOptions } from '../src/index.js';
import type { LayersResult } from './tfjs-suite/layers-model.js';
import { bundleProgram, runProgram } from './tfjs-suite/run-suite.js';

const VARIANTS: readonly SimdBackendOptions[] = [{ threads: 2 }, { relaxed: false, shared: false }];

describe('simd: training', () => {
  const folders: string[] = [];
  const bundle = async (program: string) => {
    const folder = await bundleProgram(program);
    folders.push(folder);
    return folder;
  };
  after(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  it('gradients of a transformer’s loss are those of tfjs’s cpu backend', async () => {
    const folder = await bundle('transformer-gradients.ts');
    for (const variant of VARIANTS) {
      const errors = await runProgram<Record<string, number>>(folder, variant);
      const largest = Math.max(...Object.values(errors));
      console.log(`    largest error of a slope: ${largest.toExponential(1)} of the largest slope of its parameter`);
      assert.equal(Object.keys(errors).length, 6);
      assert.ok(largest < 1e-5, JSON.stringify(errors));
    }
  });

  it('a model of tfjs-layers learns by fit() and answers by predict() as on tfjs’s cpu backend', async () => {
    const folder = await bundle('layers-model.ts');
    for (const variant of VARIANTS) {
      const { cpu, simd } = await runProgram<LayersResult>(folder, variant);
      const worst = (of: 'losses' | 'predictions') =>
        Math.max(...simd[of].map((value, i) => Math.abs(value - cpu[of][i]!)));
      const [first, last] = [simd.losses[0]!, simd.losses.at(-1)!];
      const within = `losses within ${worst('losses').toExponential(1)}, predictions ${worst('predictions').toExponential(1)}`;
      console.log(`    ${JSON.stringify(variant)}: loss ${first.toFixed(3)} to ${last.toFixed(3)}; ${within} of cpu's`);
      assert.deepEqual([simd.losses.length, simd.predictions.length], [6, 48]);
      assert.ok(last < first / 2, `${simd.losses}`);
      assert.ok(worst('losses') <= 1e-4 && worst('predictions') <= 1e-3, within);
      assert.equal(simd.leaked, cpu.leaked);
    }
  });
});
