import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { AdamWParam, Job, MAP_CHUNK, SquaresParam } from '../abi.js';
import type { KernelContext, Output } from '../kernel-context.js';
import { packedBytes } from '../tensor-memory.js';
import { floatBits, parametersOf } from '../thread-pool.js';
import { input, type Kernel, type KernelTable, requireFloats, sizeOf } from './kernel.js';

// Kernels over whole parameters. A gradient in panels (`GitLinearWeightGradient`) is taken as it is, and what belongs to it is brought into
// panels too: once, for its tensors stay so.

/** Numbers of a parameter in the order of the gradient's own. */
interface Numbers {
  readonly size: number;
  /** Where a tensor's numbers are in this order; 0 where there is none. */
  of(tensor: TensorInfo | undefined): number;
  /** A new tensor in this order. */
  output(): Output;
}

function orderOf(backend: KernelContext, gradient: TensorInfo): Numbers {
  const packed = backend.packedOf(gradient);
  const { shape } = gradient;
  if (packed?.format !== 'f32') {
    return {
      size: sizeOf(shape),
      of: (tensor) => (tensor === undefined ? 0 : backend.addressOf(tensor)),
      output: () => backend.output(shape, 'float32'),
    };
  }
  const { rows, columns } = packed;
  return {
    size: packedBytes('f32', rows, columns) / 4,
    of(tensor) {
      if (tensor === undefined) return 0;
      if ((backend.packedOf(tensor)?.format ?? 'f32') === 'f32') return backend.pack(tensor, rows, columns).address;
      const panels = backend.scratch(packedBytes('f32', rows, columns));
      backend.kernels.packPanels(backend.addressOf(tensor), columns * 4, panels, rows, columns, rows);
      return panels;
    },
    output: () => backend.packedOutput(rows, columns),
  };
}

interface Updated {
  readonly from: number;
  readonly output: Output;
}

/** Where an update reads numbers, and the tensor that it writes: the same where nobody else has them, which saves a third of the traffic. */
function updated(backend: KernelContext, numbers: Numbers, tensor: TensorInfo | undefined): Updated {
  const from = numbers.of(tensor);
  const isThere = tensor !== undefined && from === backend.placeOf(tensor); // and not a copy in the order asked for
  if (!isThere || backend.refCount(tensor.dataId) > 1) return { from, output: numbers.output() };
  return { from, output: { ...backend.alias(tensor, tensor.shape), address: from } };
}

/**
 * One update of AdamW, in the order of operations of torch.optim.AdamW: parameter, gradient and, but for the first update, the moments `first` and
 * `second` -> the three anew. Takes parameter and moments over: what shares its numbers with no other tensor is updated where it is, so the old
 * tensors are to be disposed of and not read again. Attributes: `scale` of the gradient, `beta1`, `beta2`, `epsilon`, `learningRate`,
 * `weightDecay` (decoupled), `step` from 1.
 */
const adamW: Kernel = (backend, inputs, attributes) => {
  const [parameter, gradient] = [input(inputs, 'parameter'), input(inputs, 'gradient')];
  const { first, second } = inputs;
  requireFloats('GitAdamW', parameter, gradient, first, second);
  const alike = [gradient, first, second].every((x) => x === undefined || util.arraysEqual(x.shape, parameter.shape));
  util.assert(alike, () => `GitAdamW: [${parameter.shape}], [${gradient.shape}] and [${first?.shape}] differ`);
  const attribute = (name: string) => attributes[name] as number;
  const [beta1, beta2, step, learningRate] = ['beta1', 'beta2', 'step', 'learningRate'].map(attribute) as [
    ...[number, number, number, number],
  ];
  const numbers = orderOf(backend, gradient);
  const [x, m, v] = [parameter, first, second].map((tensor) => updated(backend, numbers, tensor)) as [
    ...[Updated, Updated, Updated],
  ];
  const threadBytes = 3 * 4 * MAP_CHUNK;
  const parameters = parametersOf(AdamWParam, {
    x: x.from,
    gradient: numbers.of(gradient),
    oldFirst: m.from,
    oldSecond: v.from,
    y: x.output.address,
    first: m.output.address,
    second: v.output.address,
    size: numbers.size,
    scale: floatBits(attribute('scale')),
    firstRate: floatBits(1 - beta1),
    beta2: floatBits(beta2),
    secondRate: floatBits(1 - beta2),
    shrink: floatBits(1 - learningRate * attribute('weightDecay')),
    rootFactor: floatBits(1 / Math.sqrt(1 - beta2 ** step)),
    epsilon: floatBits(attribute('epsilon')),
    rate: floatBits(learningRate / (1 - beta1 ** step)),
    scratch: backend.scratch(threadBytes * backend.pool.threads),
    threadBytes,
  });
  if (numbers.size > 0) backend.pool.run(Job.adamW, Math.ceil(numbers.size / MAP_CHUNK), parameters);
  return [x.output, m.output, v.output];
};

/** x float32 of any shape -> the sum of its squares, a scalar, added up in double precision. */
const squaredNorm: Kernel = (backend, inputs) => {
  const x = input(inputs, 'x');
  requireFloats('GitSquaredNorm', x);
  const numbers = orderOf(backend, x);
  const chunks = Math.ceil(numbers.size / MAP_CHUNK);
  const sums = backend.scratch(chunks * 8);
  const parameters = parametersOf(SquaresParam, { x: numbers.of(x), y: sums, size: numbers.size });
  if (chunks > 0) backend.pool.run(Job.squares, chunks, parameters);
  const output = backend.output([], 'float32');
  const total = new Float64Array(backend.heap.f32.buffer, sums, chunks).reduce((a, b) => a + b, 0);
  backend.heap.f32[output.address / 4] = total;
  return output;
};

export const optimizerKernels: KernelTable = {
  GitAdamW: adamW,
  GitSquaredNorm: squaredNorm,
};
