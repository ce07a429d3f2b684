import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { add, erf, fused, mul, reshape, sigmoid, tidy } from '@tensorflow/tfjs-core';
import { runFused } from './fused-kernel.js';
import type { ParamsOf } from './param-spec.js';
import { tensorSpec } from './param-spec.js';

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
  const inOne = runFused<T>('GitActivation', { x }, { activation: name });
  if (inOne !== undefined) return inOne;
  return name === 'gelu' ? gelu(x) : quickGelu(x);
}

/** torch.nn.Linear: `weight` [out, in] in the checkpoint, [in, out] once loaded; `bias` [out]. */
export const linearSpec = (inFeatures: number, outFeatures: number) => ({
  weight: tensorSpec([outFeatures, inFeatures], 'linear'),
  bias: tensorSpec([outFeatures]),
});
export type Linear = ParamsOf<ReturnType<typeof linearSpec>>;

/** x · W + b over the last axis, then the activation if one is named. x: float32 [B, T, in] → [B, T, out]. */
export function linear(p: Linear, x: Tensor3D, activation?: Activation): Tensor3D {
  const inputs = { x, weight: p.weight, bias: p.bias };
  const inOne = runFused<Tensor3D>('GitLinear', inputs, { activation: activation ?? 'none' });
  return inOne ?? composedLinear(p, x, activation);
}

/**
 * Always one 2-D product with an untransposed weight: the wasm backend's fused bias is wrong for `transposeB` or a batch
 * (test/layers/wasm-traps.test.ts pins it), and `transposeB` is 13 times slower there.
 */
function composedLinear(p: Linear, x: Tensor3D, activation?: Activation): Tensor3D {
  return tidy(() => {
    const [batch, tokens, inFeatures] = x.shape;
    const rows: Tensor2D = reshape(x, [batch * tokens, inFeatures]); // [B·T, in]
    const product = fused.matMul({ a: rows, b: p.weight as Tensor2D, bias: p.bias }) as Tensor2D;
    const active = activation === undefined ? product : activate(activation, product);
    return reshape(active, [batch, tokens, p.bias.size]); // [B, T, out]
  });
}
