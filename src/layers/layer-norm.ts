import type { Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { add, mean, mul, reshape, rsqrt, square, sub, tidy } from '@tensorflow/tfjs-core';
import { runFused } from './fused-kernel.js';
import type { ParamsOf } from './param-spec.js';
import { tensorSpec } from './param-spec.js';

/** torch.nn.LayerNorm over the last axis: `weight` and `bias`, both [D]. */
export const layerNormSpec = (features: number) => ({ weight: tensorSpec([features]), bias: tensorSpec([features]) });
export type LayerNorm = ParamsOf<ReturnType<typeof layerNormSpec>>;

/**
 * Normalises the last axis of x (+ residual): biased variance, epsilon inside the root (Ba et al., arXiv 1607.06450, as in PyTorch).
 * x, residual: float32 [B, T, D], returned with the same shape.
 */
export function layerNorm(p: LayerNorm, x: Tensor3D, epsilon: number, residual?: Tensor3D): Tensor3D {
  return tidy(() => {
    const shape = x.shape;
    const flat = (t: Tensor3D) => reshape(t, [shape[0] * shape[1], shape[2]]); // [B·T, D]
    const inputs = { x: flat(x), residual: residual && flat(residual), gamma: p.weight, beta: p.bias };
    const inOne = runFused<Tensor2D>('GitLayerNorm', inputs, { epsilon });
    if (inOne !== undefined) return reshape(inOne, shape);
    const input = residual === undefined ? x : add(x, residual);
    const centred = sub(input, mean(input, -1, true));
    const variance = mean(square(centred), -1, true); // [B, T, 1]
    return add(mul(mul(centred, rsqrt(add(variance, epsilon))), p.weight), p.bias);
  });
}
