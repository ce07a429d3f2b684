import assert from 'node:assert/strict';
import { FULL } from '../support/full.js';
import { checkParity } from '../webgpu/support.js';

/** tfjs's webgpu backend with our kernels, in Node through the npm package `webgpu`. All cases are in test/webgpu/webgpu.full.test.ts. */
describe('parity on webgpu (Dawn in Node)', () => {
  const more = ['tiny-b/pad_left*', 'tiny-video/forward_three_frames*'];
  // A minute and more where no GPU is at hand; test/webgpu compares every kernel each time.
  if (!FULL) return;
  it('single passes', async function () {
    this.timeout(1_800_000);
    const { passed, worst } = await checkParity(this, ['tiny-a/forward_b1*', ...more]);
    assert.ok(passed >= 26, `${passed} rows`);
    assert.ok(worst <= 3, `${worst}`);
  });
});
