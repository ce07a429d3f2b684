import type { FusedBatchNormAttrs, LRNAttrs } from '@tensorflow/tfjs-core';
import type { Numbers } from '../tensor-memory.js';
import { input, type Kernel, type KernelTable } from './kernel.js';

/** The number for element `i` of x: there is one a channel, or one for each element. */
const numberAt = (values: Numbers, i: number) => values[i % values.length]!;

/** (x - mean) / sqrt(variance + epsilon) * scale + offset. */
const batchNorm: Kernel = (backend, inputs, attributes) => {
  const [x, mean, variance] = [input(inputs, 'x'), input(inputs, 'mean'), input(inputs, 'variance')];
  const { varianceEpsilon } = attributes as unknown as FusedBatchNormAttrs;
  const epsilon = varianceEpsilon ?? 0.001;
  const output = backend.output(x.shape, x.dtype);
  const { scale, offset } = inputs;
  const given = [scale ?? mean, offset ?? mean] as const; // stand-ins, not read
  const [values, means, variances, scales, offsets, target] = backend.viewsOf(x, mean, variance, ...given, output);
  for (let i = 0; i < target.length; i++) {
    const factor = (scale === undefined ? 1 : numberAt(scales, i)) / Math.sqrt(numberAt(variances, i) + epsilon);
    target[i] = (values[i]! - numberAt(means, i)) * factor + (offset === undefined ? 0 : numberAt(offsets, i));
  }
  return output;
};

/** Local response: bias + alpha * the squares of the channels up to `depthRadius` away. */
function responses(values: Numbers, channels: number, { depthRadius, bias, alpha }: LRNAttrs): Float64Array {
  return Float64Array.from(values, (_, i) => {
    const first = i - (i % channels);
    let sum = 0;
    const end = Math.min(first + channels - 1, i + depthRadius);
    for (let j = Math.max(first, i - depthRadius); j <= end; j++) sum += values[j]! * values[j]!;
    return bias + alpha * sum;
  });
}

/** x / response^beta. */
const localResponse: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const options = attributes as unknown as LRNAttrs;
  const output = backend.output(x.shape, 'float32');
  const [values, target] = backend.viewsOf(x, output);
  const around = responses(values, x.shape.at(-1)!, options);
  for (let i = 0; i < target.length; i++) target[i] = values[i]! * around[i]! ** -options.beta;
  return output;
};

/** A channel has a share in its own result, and, through the response, in those of its neighbors. */
const localResponseGradient: Kernel = (backend, inputs, attributes) => {
  const [x, y, dy] = [input(inputs, 'x'), input(inputs, 'y'), input(inputs, 'dy')];
  const options = attributes as unknown as LRNAttrs;
  const { depthRadius, alpha, beta } = options;
  const channels = x.shape.at(-1)!;
  const output = backend.output(dy.shape, 'float32');
  const [values, results, slopes, target] = backend.viewsOf(x, y, dy, output);
  const around = responses(values, channels, options);
  const sums = new Float64Array(target.length);
  for (let i = 0; i < sums.length; i++) {
    const first = i - (i % channels);
    const shared = (-2 * alpha * beta * results[i]! * slopes[i]!) / around[i]!;
    const end = Math.min(first + channels - 1, i + depthRadius);
    for (let j = Math.max(first, i - depthRadius); j <= end; j++) sums[j]! += shared * values[j]!;
    sums[i]! += slopes[i]! * around[i]! ** -beta;
  }
  target.set(sums);
  return output;
};

export const normalizationKernels: KernelTable = {
  FusedBatchNorm: batchNorm,
  LRN: localResponse,
  LRNGrad: localResponseGradient,
};
