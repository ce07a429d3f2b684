import { util } from '@tensorflow/tfjs-core';
import { JOB } from '../memory-map.js';
import { floatBits } from '../thread-pool.js';
import { input, type Kernel, type KernelTable, requireFloats, sizeOf } from './table.js';

/** Numbers that a thread takes at once. */
const CHUNK = 16384;

/** Layer norm of x (+ residual), float32 [M, D], over its last axis: biased variance, epsilon inside the root; gamma, beta [D]. */
const layerNorm: Kernel = (backend, inputs, attributes) => {
  const [x, residual] = [input(inputs, 'x'), inputs['residual']];
  const [gamma, beta] = [input(inputs, 'gamma'), input(inputs, 'beta')];
  requireFloats('GitLayerNorm', x, residual, gamma, beta);
  const n = x.shape.at(-1) ?? 1;
  const rows = sizeOf(x.shape) / Math.max(n, 1);
  const alike = residual === undefined || util.arraysEqual(residual.shape, x.shape);
  util.assert(
    alike && gamma.shape[0] === n && beta.shape[0] === n,
    () => `GitLayerNorm: [${x.shape}], [${residual?.shape}], [${gamma.shape}] and [${beta.shape}] do not fit`,
  );
  const output = backend.output(x.shape, 'float32');
  if (rows * n === 0) return output;
  const perThread = n * 4 + 64;
  const scratch = backend.scratch(perThread * backend.pool.threads);
  const perChunk = Math.ceil(CHUNK / n);
  const parameters = [
    ...[backend.addressOf(x), residual === undefined ? 0 : backend.addressOf(residual)],
    ...[backend.addressOf(gamma), backend.addressOf(beta), output.address, rows, n],
    ...[floatBits(attributes['epsilon'] as number), perChunk, scratch, perThread],
  ];
  backend.pool.run(JOB.layerNorm, Math.ceil(rows / perChunk), parameters);
  return output;
};

export const gitLayerNormKernels: KernelTable = { GitLayerNorm: layerNorm };
