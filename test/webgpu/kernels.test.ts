import { checkKernels } from './support.js';

/** Software shaders compile for about a second each; all combinations, and the demo, are in webgpu.full.test.ts. */
describe('our kernels on webgpu (Dawn in Node)', () => {
  it('compute what the composed layers do on cpu', async function () {
    this.timeout(1_800_000);
    await checkKernels(this);
  });
});
