import type { Tensor3D } from '@tensorflow/tfjs-core';
import { add, mean, mul, rsqrt, square, sub, tidy } from '@tensorflow/tfjs-core';
import { runFused } from './fused-kernel.js';
import type { ParamsOf } from './param-spec.js';
import { tensorSpec } from './param-spec.js';

/** torch.nn.LayerNorm over the last axis: `weight` and `bias`, both [D]. */
export const layerNormSpec = (features: number) => ({ weight: tensorSpec([features]), bias: tensorSpec([features]) });
export type LayerNorm = ParamsOf<ReturnType<typeof layerNormSpec>>;

/**
 * Normalizes the last axis of x (+ residual): biased variance, epsilon inside the root (Ba et al., arXiv 1607.06450, as in PyTorch).
 * x, residual: float32 [B, T, D], returned with the same shape.
 */
export function layerNorm(p: LayerNorm, x: Tensor3D, epsilon: number, residual?: Tensor3D): Tensor3D {
  const inputs = { x, residual, gamma: p.weight, beta: p.bias };
  return runFused<Tensor3D>('GitLayerNorm', inputs, { epsilon }) ?? composedLayerNorm(p, x, epsilon, residual);
}

function composedLayerNorm(p: LayerNorm, x: Tensor3D, epsilon: number, residual?: Tensor3D): Tensor3D {
  return tidy(() => {
    const input = residual === undefined ? x : add(x, residual);
    const centered = sub(input, mean(input, -1, true));
    const variance = mean(square(centered), -1, true); // [B, T, 1]
    return add(mul(mul(centered, rsqrt(add(variance, epsilon))), p.weight), p.bias);
  });
}
