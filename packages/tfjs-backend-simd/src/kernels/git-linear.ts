import { util } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import type { UNARY } from '../memory-map.js';
import { multiply } from '../product.js';
import { input, type Kernel, type KernelTable, requireFloats, sizeOf } from './table.js';

/** What `GitLinear` may apply to its result. */
export type LinearActivation = 'none' | 'gelu' | 'quick_gelu';

const ACTIVATIONS: Readonly<Record<LinearActivation, keyof typeof UNARY | undefined>> = {
  none: undefined,
  gelu: 'Gelu',
  quick_gelu: 'QuickGelu',
};

/**
 * x float32 [..., in] · weight [in, out] + bias [out], with an activation -> float32 [..., out]. A weight that is not packed yet is
 * packed here, once: from then on its tensor has only the packed copy (and still reads as before).
 * @throws BackendError (`unsupported-activation`) for an activation it does not know.
 */
const linear: Kernel = (backend, inputs, attributes) => {
  const [x, weight, bias] = [input(inputs, 'x'), input(inputs, 'weight'), inputs['bias']];
  const activation = attributes['activation'] as LinearActivation;
  if (!(activation in ACTIVATIONS)) {
    const detail = `activation ${String(activation)} is not one of ${Object.keys(ACTIVATIONS).join(', ')}`;
    throw new BackendError({ path: 'simd: GitLinear', code: 'unsupported-activation', detail });
  }
  requireFloats('GitLinear', x, weight, bias);
  const [outer, k] = [x.shape.slice(0, -1), x.shape.at(-1)!];
  const [m, [rows, n = 0]] = [sizeOf(outer), weight.shape];
  const fits = x.shape.length > 1 && weight.shape.length === 2 && rows === k && (bias?.shape[0] ?? n) === n;
  util.assert(fits, () => `GitLinear: [${x.shape}] · [${weight.shape}] + [${bias?.shape}] do not fit`);
  const packed = backend.pack(weight, k, n);
  const output = backend.output([...outer, n], 'float32');
  const fused = ACTIVATIONS[activation];
  multiply(backend, {
    ...{ m, k, n, a: backend.addressOf(x), lda: k * 4, b: packed, c: output.address, ldc: n * 4 },
    ...{ bias: bias === undefined ? 0 : backend.addressOf(bias) },
    ...(fused === undefined ? {} : { activation: fused }),
  });
  return output;
};

/** w float32 [in, out] -> the same tensor, its storage now packed for `GitLinear`. */
const packWeight: Kernel = (backend, inputs) => {
  const w = input(inputs, 'w');
  util.assert(
    w.shape.length === 2 && w.dtype === 'float32',
    () => `GitPackWeight: float32 [in, out], not [${w.shape}]`,
  );
  backend.pack(w, w.shape[0]!, w.shape[1]!);
  return backend.alias(w, w.shape);
};

export const gitLinearKernels: KernelTable = { GitLinear: linear, GitPackWeight: packWeight };
