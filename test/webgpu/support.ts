import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';

/** Chromium's own software Vulkan: Dawn runs on it where there is no GPU. */
const SWIFTSHADER = process.env['VK_DRIVER_FILES'] ?? '/usr/lib/chromium/vk_swiftshader_icd.json';

/** Skips the tests of `context`, with a reason, where Dawn finds no driver. */
export function skipWithoutVulkan(context: Mocha.Context): void {
  if (existsSync(SWIFTSHADER)) return;
  skipWithout(context, 'chromium', `its Vulkan driver file ${SWIFTSHADER}; Debian: apt-get install chromium`);
}

/** What a program says on stdout, with WebGPU. A process of its own: starting WebGPU in Node puts `navigator.gpu` into the global scope. */
export async function runWithWebGpu(...args: readonly string[]): Promise<string> {
  const env = { ...process.env, VK_DRIVER_FILES: SWIFTSHADER };
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', ...args], {
    ...{ env, cwd: ROOT, maxBuffer: 2 ** 26 },
  });
  return stdout;
}

/** The lines of JSON that a program below the root prints, with WebGPU. */
export async function rowsOf<Row>(context: Mocha.Context, program: string, ...args: readonly string[]): Promise<Row[]> {
  skipWithoutVulkan(context);
  const stdout = await runWithWebGpu(`${ROOT}${program}`, ...args);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
}
