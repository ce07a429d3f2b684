import assert from 'node:assert/strict';
import { add, fused, matMul, tensor, tensor1d, tensor2d, tidy } from '@tensorflow/tfjs-core';
import { useBackend } from '../support/backends.js';
import { largestError } from '../support/close.js';

/** Why `linear` is one untransposed 2-D product. If these fail, upstream has mended it and the rule may go. */
describe('traps of tfjs-backend-wasm 4.22.0 that the layers step around', () => {
  before(() => useBackend('wasm'));
  const numbers = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.cos(i * 1.7));

  const biasError = async (transposeB: boolean) => {
    const [a, bias] = [tensor2d(numbers(64 * 96), [64, 96]), tensor1d(numbers(80))];
    const b = tensor2d(numbers(96 * 80), transposeB ? [80, 96] : [96, 80]);
    const together = tidy(() => fused.matMul({ a, b, bias, transposeB }));
    const apart = tidy(() => add(matMul(a, b, false, transposeB), bias));
    const { error } = largestError(await together.data(), await apart.data());
    for (const t of [a, b, bias, together, apart]) t.dispose();
    return error;
  };

  it('a fused bias is right for an untransposed 2-D product', async () => {
    assert.ok((await biasError(false)) < 1e-4);
  });

  it('a fused bias is wrong with transposeB', async () => {
    assert.ok((await biasError(true)) > 0.1);
  });

  it('einsum is missing', async () => {
    const { einsum } = await import('@tensorflow/tfjs-core');
    assert.throws(() => einsum('ij,jk->ik', tensor([1], [1, 1]), tensor([1], [1, 1])), /Einsum.*wasm|wasm.*Einsum/s);
  });
});
