import type { NamedAttrMap, NamedTensorMap, Tensor } from '@tensorflow/tfjs-core';
import { engine, getBackend, getKernel } from '@tensorflow/tfjs-core';

/** Kernels of our own that a backend may bring; a layer composes the same from tfjs operations where it does not. */
export type FusedKernel =
  | 'GitLinear'
  | 'GitLayerNorm'
  | 'GitAttention'
  | 'GitDecoderStep'
  | 'GitTopTokens'
  | 'GitLinearInputGradient'
  | 'GitLinearWeightGradient'
  | 'GitBiasGradient'
  | 'GitAttentionGradient'
  | 'GitCrossEntropyGradient'
  | 'GitEmbeddingGradient'
  | 'GitLayerNormGradient'
  | 'GitActivation'
  | 'GitActivationGradient'
  | 'GitAdamW'
  | 'GitSquaredNorm';

type Attributes = Readonly<Record<string, string | number | readonly number[] | NamedTensorMap>>;

/**
 * Runs a fused kernel if the current backend has it; undefined otherwise. Inputs that are undefined are left out.
 * Gradients do not pass through these kernels; `withoutFusedKernels` switches them off.
 */
export function runFused<T extends Tensor | Tensor[]>(
  kernel: FusedKernel,
  inputs: Readonly<Record<string, Tensor | undefined>>,
  attributes: Attributes = {},
): T | undefined {
  if (disabled > 0 || getKernel(kernel, getBackend()) === undefined) return undefined;
  const present: NamedTensorMap = {};
  for (const name in inputs) if (inputs[name] !== undefined) present[name] = inputs[name];
  return engine().runKernel(kernel, present, attributes as unknown as NamedAttrMap) as T;
}

let disabled = 0;

/** Runs `body` (synchronous) with every layer composed from tfjs operations: the plain version, as oracle and for gradients. */
export function withoutFusedKernels<T>(body: () => T): T {
  disabled++;
  try {
    return body();
  } finally {
    disabled--;
  }
}
