import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import type { ParityRow } from '../../src/parity/index.js';
import { ROOT } from '../support/fixtures.js';
import { skipWithout } from '../support/skip.js';
import type { DemoRun } from './demo-captions.js';
import type { KernelCase } from './kernel-cases.js';

/** Chromium's own software Vulkan: Dawn runs on it where there is no GPU. */
const SWIFTSHADER = process.env['VK_DRIVER_FILES'] ?? '/usr/lib/chromium/vk_swiftshader_icd.json';

/**
 * The lines of JSON that a program of this folder prints, with WebGPU. A process of its own: starting WebGPU in Node puts `navigator.gpu` into the
 * global scope. Skips the tests of `context`, with a reason, where Dawn finds no driver.
 */
async function rowsOf<Row>(context: Mocha.Context, program: string, args: readonly string[]): Promise<Row[]> {
  if (!existsSync(SWIFTSHADER))
    skipWithout(context, 'chromium', `its Vulkan driver file ${SWIFTSHADER}; Debian: apt-get install chromium`);
  const env = { ...process.env, VK_DRIVER_FILES: SWIFTSHADER };
  const command = ['--import', 'tsx', `${ROOT}test/webgpu/${program}`, ...args];
  const { stdout } = await promisify(execFile)(process.execPath, command, { env, cwd: ROOT, maxBuffer: 2 ** 26 });
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
}

/** Rounding of float32 sums: a few times 2^-24 for each unit of what is summed. */
const SUM_TOLERANCE = 4 * 2 ** -24;

/** Runs the cases of kernel-cases.ts and checks them. */
export async function checkKernels(context: Mocha.Context, args: readonly string[] = []): Promise<void> {
  const cases = await rowsOf<KernelCase>(context, 'kernel-cases.ts', args);
  for (const { name, error, size, left, rounding = 0 } of cases) {
    assert.ok(error <= SUM_TOLERANCE * size, `${name}: off by ${error}, allowed ${SUM_TOLERANCE * size}`);
    assert.deepEqual(left, [0, 0], name);
    assert.ok(rounding <= 1, `${name}: rounded by ${rounding} of what the format allows`);
  }
  assert.ok(cases.length >= 10, `${cases.length} cases`);
  const worst = Math.max(...cases.map(({ error, size }) => error / size / SUM_TOLERANCE));
  console.log(`    ${cases.length} cases, at most ${(100 * worst).toFixed(0)} % of the tolerance`);
}

/** Reference cases that match the patterns, none of which may fail; `worst` is the largest error in units of the reference's own. */
export async function checkParity(
  context: Mocha.Context,
  patterns: readonly string[],
): Promise<{ passed: number; worst: number }> {
  const rows = await rowsOf<ParityRow>(context, 'parity-rows.ts', patterns);
  const of = (verdict: ParityRow['verdict']) => rows.filter((row) => row.verdict === verdict);
  assert.deepEqual(of('fail'), []);
  const worst = Math.max(...rows.map(({ ratio = 0 }) => ratio));
  const [passed, notRun] = [of('pass').length, of('not run').length];
  console.log(`    ${passed} passed, ${notRun} not run, largest error ${worst.toFixed(2)} x the reference's own`);
  return { passed, worst };
}

/** At least so many of twelve captions are the reference's, and their log-probabilities as close: as on simd (test/simd/formats.test.ts). */
const FORMATS: Readonly<Record<string, { readonly misses: number; readonly error: number }>> = {
  f32: { misses: 0, error: 1e-4 },
  bf16: { misses: 0, error: 0.05 },
  f16: { misses: 0, error: 5e-3 },
  int8: { misses: 1, error: 0.05 },
};

/** Captions of the demo's first `count` images, greedily, with weights in each of the formats. */
export async function checkDemo(context: Mocha.Context, images: string, formats: readonly string[]): Promise<void> {
  const runs = await rowsOf<DemoRun>(context, 'demo-captions.ts', [images, ...formats]);
  assert.deepEqual(
    runs.map(({ format }) => format),
    formats,
  );
  for (const { format, captions, error, runs: kernels, left } of runs) {
    const same = captions.filter(({ text, wanted }) => text === wanted).length;
    const share = `${format}: ${same} of ${captions.length} captions as the reference's`;
    console.log(`    ${share}, their log-probabilities within ${error.toExponential(1)}`);
    assert.ok(captions.length - same <= FORMATS[format]!.misses, share);
    assert.ok(error <= FORMATS[format]!.error, `${format}: ${error}`);
    for (const kernel of ['GitLinear', 'GitLayerNorm', 'GitAttention', 'GitDecoderStep'])
      assert.ok((kernels[kernel] ?? 0) >= captions.length, `${format}: ${kernel} ran ${kernels[kernel]} times`);
    assert.equal(left, 0);
  }
}
