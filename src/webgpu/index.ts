import type { engine, getKernel, KernelFunc, registerKernel, TensorInfo } from '@tensorflow/tfjs-core';
import type { WeightFormat } from 'tfjs-backend-simd';
import type { FusedKernel } from '../layers/fused-kernel.js';
import { attention } from './attention.js';
import { decoderStep } from './decoder-step.js';
import { layerNorm } from './layer-norm.js';
import { linear } from './linear.js';
import { check, sizeOf, type WebGpuBackend } from './program.js';
import { startParam, WEBGPU_WEIGHT_FORMATS } from './weights.js';

/** tfjs's functions, handed in: a bundle of this module alone must not bring a second tfjs. */
interface Tfjs {
  readonly engine: typeof engine;
  readonly getKernel: typeof getKernel;
  readonly registerKernel: typeof registerKernel;
}

type Inputs = Readonly<Record<string, TensorInfo | undefined>>;
type Kernel = (
  backend: WebGpuBackend,
  inputs: Inputs,
  attributes: Readonly<Record<string, unknown>>,
) => TensorInfo | TensorInfo[];

function input(inputs: Inputs, name: string): TensorInfo {
  const found = inputs[name];
  check(found !== undefined, () => `there is no ${name}`);
  return found;
}

/** Each as the kernel of its name in tfjs-backend-simd. */
const KERNELS: Readonly<Partial<Record<FusedKernel, Kernel>>> = {
  GitLinear(backend, inputs, { activation }) {
    const [x, weight, bias] = [input(inputs, 'x'), input(inputs, 'weight'), inputs['bias']];
    const outer = x.shape.slice(0, -1);
    const output = backend.makeTensorInfo([...outer, weight.shape[1]!], 'float32');
    return linear(backend, { x, m: sizeOf(outer), weight, bias, activation: activation as string }, output);
  },
  GitLayerNorm(backend, inputs, { epsilon }) {
    const [x, residual] = [input(inputs, 'x'), inputs['residual']];
    const output = backend.makeTensorInfo([...x.shape], 'float32');
    return layerNorm(
      backend,
      { x, residual },
      [input(inputs, 'gamma'), input(inputs, 'beta')],
      epsilon as number,
      output,
    );
  },
  GitAttention(backend, inputs) {
    const q = input(inputs, 'q');
    const [R = 0, H = 0, T = 0, K = 0] = q.shape;
    return attention(backend, { ...inputs, q }, backend.makeTensorInfo([R, T, H * K], 'float32'));
  },
  GitDecoderStep: decoderStep,
};

/**
 * Registers the fused kernels with tfjs's backend `webgpu`, which is the current one, and lets it keep linear weights as f32, bf16, f16 or int8.
 * Once is enough for a backend; more does no harm.
 */
export function addWebGpuKernels(tfjs: Tfjs): void {
  const backend = tfjs.engine().backend as unknown as WebGpuBackend;
  if (typeof backend.runWebGPUProgram !== 'function') return; // another backend of this name
  for (const [kernelName, kernel] of Object.entries(KERNELS)) {
    if (tfjs.getKernel(kernelName, 'webgpu') !== undefined) continue;
    const kernelFunc: KernelFunc = ({ inputs, backend, attrs }) =>
      kernel(backend as WebGpuBackend, inputs, attrs ?? {});
    tfjs.registerKernel({ kernelName, backendName: 'webgpu', kernelFunc });
  }
  Object.assign(backend, {
    weightFormats: WEBGPU_WEIGHT_FORMATS,
    startParam: (shape: readonly number[], layout: string, format: WeightFormat) =>
      startParam(backend, tfjs.engine(), shape, layout, format as (typeof WEBGPU_WEIGHT_FORMATS)[number]),
  });
}
