import assert from 'node:assert/strict';
import type { KernelCase } from './kernel-cases.js';
import { rowsOf } from './support.js';

/** Rounding of float32 sums: a few times 2^-24 for each unit of what is summed. */
const TOLERANCE = 4 * 2 ** -24;

export async function checkKernels(context: Mocha.Context, ...args: readonly string[]): Promise<void> {
  const cases = await rowsOf<KernelCase>(context, 'test/webgpu/kernel-cases.ts', ...args);
  for (const { name, error, size, left, rounding = 0 } of cases) {
    assert.ok(error <= TOLERANCE * size, `${name}: off by ${error}, allowed ${TOLERANCE * size}`);
    assert.deepEqual(left, [0, 0], name);
    assert.ok(rounding <= 1, `${name}: rounded by ${rounding} of what the format allows`);
  }
  assert.ok(cases.length >= 10, `${cases.length} cases`);
  const worst = Math.max(...cases.map(({ error, size }) => error / size / TOLERANCE));
  console.log(`    ${cases.length} cases, at most ${(100 * worst).toFixed(0)} % of the tolerance`);
}

describe('our kernels on webgpu (Dawn in Node)', () => {
  it('compute what the composed layers do on cpu', async function () {
    this.timeout(600_000);
    await checkKernels(this);
  });
});
