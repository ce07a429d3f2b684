import { checkDemo, checkKernels } from './support.js';

/** Software shaders compile for about a second each; all combinations are in webgpu.full.test.ts. */
describe('our kernels on webgpu (Dawn in Node)', function () {
  this.timeout(900_000);

  it('compute what the composed layers do on cpu', async function () {
    await checkKernels(this);
  });

  it('say of an image of the demo what the reference says, with weights as f16', async function () {
    await checkDemo(this, '1', ['f16']);
  });
});
