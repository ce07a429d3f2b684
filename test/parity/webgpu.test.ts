import assert from 'node:assert/strict';
import { REFERENCE, ROOT } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
import { runWithWebGpu, skipWithoutVulkan } from '../webgpu/support.js';

/**
 * tfjs-backend-webgpu with our kernels, in Node through the npm package `webgpu`. Only single passes: software shaders take minutes for the generation cases.
 */
describe('parity on webgpu (Dawn in Node)', () => {
  before(function () {
    skipWithoutVulkan(this);
  });

  const more = FULL ? ['tiny-b/pad_left*', 'tiny-video/forward_three_frames*'] : [];
  for (const only of ['tiny-a/forward_b1*', ...more]) {
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
