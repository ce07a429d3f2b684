import type { TensorInfo } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import type { UNARY } from '../memory-map.js';
import type { SimdBackend } from '../simd-backend.js';
import { binaryKernels } from './binary.js';
import type { Attributes, Inputs } from './table.js';
import { unaryKernels } from './unary.js';

/** What tfjs calls an activation, as the kernel that does it. */
const ACTIVATIONS: Readonly<Record<string, string>> = {
  relu: 'Relu',
  relu6: 'Relu6',
  elu: 'Elu',
  sigmoid: 'Sigmoid',
  leakyrelu: 'LeakyRelu',
  prelu: 'Prelu',
};

/** Those that the product itself can do. */
const FUSED: ReadonlySet<string> = new Set<keyof typeof UNARY>(['Relu', 'Sigmoid']);

/** The activation that a product may apply while its result is still in the cache. */
export function fusedActivation(activation: string | null | undefined): keyof typeof UNARY | undefined {
  const name = ACTIVATIONS[activation ?? ''];
  return name !== undefined && FUSED.has(name) ? (name as keyof typeof UNARY) : undefined;
}

/** `y` + `bias`; takes `y` over. */
export function addBias(backend: SimdBackend, y: TensorInfo, bias: TensorInfo): TensorInfo {
  const sum = binaryKernels['Add']!(backend, { a: y, b: bias }, {}) as TensorInfo;
  backend.release(y);
  return sum;
}

/**
 * Applies the activation that the attributes ask for; takes `x` over.
 * @throws BackendError (`unsupported-activation`) naming an activation that tfjs does not define.
 */
export function activate(backend: SimdBackend, x: TensorInfo, inputs: Inputs, attributes: Attributes): TensorInfo {
  const { activation, leakyreluAlpha } = attributes as { activation?: string | null; leakyreluAlpha?: number };
  if ((activation ?? 'linear') === 'linear') return x;
  const name = ACTIVATIONS[activation!];
  if (name === undefined) {
    const detail = `activation ${activation} is not one of linear, ${Object.keys(ACTIVATIONS).join(', ')}`;
    throw new BackendError({ path: 'simd', code: 'unsupported-activation', detail, unsupported: true });
  }
  const alpha = inputs['preluActivationWeights'];
  const kernel = name === 'Prelu' ? binaryKernels[name]! : unaryKernels[name]!;
  const y = kernel(backend, alpha === undefined ? { x } : { x, alpha }, { alpha: leakyreluAlpha ?? 0.2 });
  backend.release(x);
  return y as TensorInfo;
}
