import type { Tensor2D, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { matMul, reshape, slice, tidy, transpose } from '@tensorflow/tfjs-core';
import { runFused } from './fused-kernel.js';
import type { ParamsOf } from './param-spec.js';
import { tensorSpec } from './param-spec.js';

/** torch.nn.Conv2d with stride = kernel and no bias: `weight` [D, 3, P, P] in the checkpoint, [P, P, 3, D] once loaded. */
export const patchEmbeddingSpec = (features: number, patch: number) => ({
  weight: tensorSpec([features, 3, patch, patch], 'conv2d'),
});
export type PatchEmbedding = ParamsOf<ReturnType<typeof patchEmbeddingSpec>>;

/**
 * Cuts images into P × P patches, row by row: [B, height, width, C] → [B·rows·columns, P·P·C]. Pixels right and below the last whole patch are
 * left out, as in a convolution.
 */
export function cutPatches(pixels: Tensor4D, patch: number): Tensor2D {
  return tidy(() => {
    const [batch, height, width, channels] = pixels.shape;
    const [rows, columns] = [Math.floor(height / patch), Math.floor(width / patch)];
    const whole = slice(pixels, 0, [batch, rows * patch, columns * patch, channels]);
    const cut = reshape(whole, [batch, rows, patch, columns, patch * channels]);
    return reshape(transpose(cut, [0, 1, 3, 2, 4]), [batch * rows * columns, patch * patch * channels]);
  });
}

/**
 * Projects each patch of the image: float32 [B, height, width, 3] → [B, rows·columns, D]. Patches do not overlap, so the convolution is one
 * matrix product.
 */
export function patchEmbedding(p: PatchEmbedding, pixels: Tensor4D): Tensor3D {
  return tidy(() => {
    const [patch, , channels, features] = p.weight.shape as [number, number, number, number];
    const patches = cutPatches(pixels, patch); // [B·(I-1), P·P·3]
    const weight = reshape(p.weight, [patch * patch * channels, features]) as Tensor2D;
    const product =
      runFused<Tensor2D>('GitLinear', { x: patches, weight }, { activation: 'none' }) ?? matMul(patches, weight);
    return reshape(product, [pixels.shape[0], patches.shape[0] / pixels.shape[0], features]); // [B, I-1, D]
  });
}
