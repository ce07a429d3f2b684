import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { REFERENCE, ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';

/** Chromium's own software Vulkan: Dawn runs on it where there is no GPU. */
const SWIFTSHADER = process.env['VK_DRIVER_FILES'] ?? '/usr/lib/chromium/vk_swiftshader_icd.json';

/**
 * tfjs-backend-webgpu in Node through the npm package `webgpu`. In a process of its own: starting WebGPU puts `navigator.gpu` into the global scope.
 * Only single passes: software shaders take minutes for the generation cases.
 */
describe('parity on webgpu (Dawn in Node)', () => {
  before(function () {
    if (existsSync(SWIFTSHADER)) return;
    skipWithout(this, 'chromium', `its Vulkan driver file ${SWIFTSHADER}; Debian: apt-get install chromium`);
  });

  for (const only of ['tiny-a/forward_b1*', 'tiny-b/pad_left*', 'tiny-video/forward_three_frames*']) {
    it(only, async () => {
      const command = [
        '--import',
        'tsx',
        `${ROOT}src/cli/main.ts`,
        'parity',
        REFERENCE,
        '--only',
        only,
        '--backend',
        'webgpu',
        '--json',
      ];
      const env = { ...process.env, VK_DRIVER_FILES: SWIFTSHADER };
      const { stdout } = await promisify(execFile)(process.execPath, command, { env, maxBuffer: 2 ** 26 });
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
