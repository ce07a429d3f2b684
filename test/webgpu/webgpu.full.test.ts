import assert from 'node:assert/strict';
import { checkDemo, checkKernels, checkParity } from './support.js';

describe('our kernels on webgpu (Dawn in Node), all of it', function () {
  this.timeout(3_600_000);

  it('compute what the composed layers do on cpu: shapes, activations, formats, masks', async function () {
    await checkKernels(this, ['all']);
  });

  it('the captions of the demo, with weights in each format', async function () {
    await checkDemo(this, '12', ['f32', 'bf16', 'f16', 'int8']);
  });

  for (const [folder, least] of [
    ['tiny-a', 280],
    ['tiny-b', 250],
    ['tiny-video', 285],
    ['tiny-original-beam', 80],
  ] as const) {
    it(`the reference cases of ${folder}`, async function () {
      const { passed } = await checkParity(this, [`${folder}/*`]);
      assert.ok(passed >= least, `${passed}`);
    });
  }
});
