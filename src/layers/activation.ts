import type { Tensor } from '@tensorflow/tfjs-core';
import { add, erf, mul, sigmoid, tidy } from '@tensorflow/tfjs-core';

/** Activations that published GIT checkpoints use, by their Hugging Face names. */
export const ACTIVATIONS = ['gelu', 'quick_gelu'] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/**
 * The exact GELU, x/2 (1 + erf(x/√2)), of any shape. BERT's decoder uses it; the tanh approximation is another function
 * (Hendrycks and Gimpel, arXiv 1606.08415).
 */
export function gelu<T extends Tensor>(x: T): T {
  return tidy(() => mul(mul(x, 0.5), add(erf(mul(x, Math.SQRT1_2)), 1)) as T);
}

/** x · sigmoid(1.702 x), of any shape: OpenAI CLIP's approximation, which its vision tower was trained with. */
export function quickGelu<T extends Tensor>(x: T): T {
  return tidy(() => mul(x, sigmoid(mul(x, 1.702))) as T);
}

/** Applies an activation by name. */
export function activate<T extends Tensor>(name: Activation, x: T): T {
  return name === 'gelu' ? gelu(x) : quickGelu(x);
}
