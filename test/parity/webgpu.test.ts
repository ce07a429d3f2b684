import assert from 'node:assert/strict';
import { REFERENCE, ROOT } from '../support/fixtures.js';
import { runWithWebGpu, skipWithoutVulkan } from '../webgpu/support.js';

/**
 * tfjs-backend-webgpu with our kernels, in Node through the npm package `webgpu`. Single passes here; all cases are in webgpu.full.test.ts.
 */
describe('parity on webgpu (Dawn in Node)', () => {
  before(function () {
    skipWithoutVulkan(this);
  });

  for (const only of ['tiny-a/forward_b1*']) {
    it(only, async () => {
      const options = ['--only', only, '--backend', 'webgpu', '--json'];
      const stdout = await runWithWebGpu(`${ROOT}src/cli/main.ts`, 'parity', REFERENCE, ...options);
      const rows = JSON.parse(stdout) as { verdict: string; ratio?: number; case: string; tensor: string }[];
      assert.ok(rows.length >= 5, `${rows.length} rows`);
      assert.deepEqual(
        rows.filter((row) => row.verdict !== 'pass'),
        [],
      );
      const worst = Math.max(...rows.map((row) => row.ratio ?? 0));
      console.log(`    ${only}: ${rows.length} passed, largest error ${worst.toFixed(2)} x the reference's own`);
      assert.ok(worst <= 3, `${worst}`);
    });
  }
});
