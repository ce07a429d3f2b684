import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { JOB } from '../memory-map.js';
import { floatBits } from '../thread-pool.js';
import { type Inputs, input, type Kernel, type KernelTable, requireFloats, sizeOf } from './table.js';

/** Columns of a [*, heads, columns, K] pair; 0 where there is none. */
function columnsOf(
  rows: (n: number) => boolean,
  q: TensorInfo,
  key: TensorInfo | undefined,
  value: TensorInfo | undefined,
): number {
  if (key === undefined) return 0;
  const fits =
    value !== undefined &&
    util.arraysEqual(key.shape, value.shape) &&
    key.shape.length === 4 &&
    key.shape[1] === q.shape[1] &&
    key.shape[3] === q.shape[3] &&
    rows(key.shape[0]!);
  util.assert(fits, () => `GitAttention: key [${key.shape}] and value [${value?.shape}] do not fit q [${q.shape}]`);
  return key.shape[2]!;
}

/** Bytes from the mask of one row to that of the next: 0 where all share one. */
function maskStep(inputs: Inputs, R: number, T: number, S: number): number {
  const { mask } = inputs;
  if (mask === undefined || S === 0) return 0;
  const shape = mask.shape.length === 3 ? mask.shape.slice(1) : mask.shape;
  const fits = util.arraysEqual(shape, [T, S]) && (mask.shape.length === 2 || mask.shape[0] === R);
  util.assert(fits, () => `GitAttention: mask [${mask.shape}] is neither [${T}, ${S}] nor [${R}, ${T}, ${S}]`);
  return mask.shape.length === 3 ? T * S * 4 : 0;
}

/**
 * Attention of q float32 [R, H, T, K] to the columns of an image, imageKey and imageValue [N, H, I, K], followed by those of
 * the row's own text, key and value [R, H, S, K]: softmax(q · kT / sqrt(K)) · v over both -> float32 [R, T, H * K]. The mask,
 * [T, S] or [R, T, S], is added to the scores of the text. Row r belongs to image floor(r * N / R).
 */
const attention: Kernel = (backend, inputs) => {
  const { key, value, imageKey, imageValue, mask } = inputs;
  const q = input(inputs, 'q');
  requireFloats('GitAttention', q, key, value, imageKey, imageValue, mask);
  const [R = 0, H = 0, T = 0, K = 0] = q.shape;
  const N = imageKey?.shape[0] ?? R;
  const S = columnsOf((n) => n === R, q, key, value);
  const I = columnsOf((n) => n > 0 && R % n === 0, q, imageKey, imageValue);
  const step = maskStep(inputs, R, T, S);
  const output = backend.output([R, T, H * K], 'float32');
  if (sizeOf(output.shape) === 0) return output;
  util.assert(I + S > 0, () => 'GitAttention: no key at all');
  const at = (tensor: TensorInfo | undefined) => (tensor === undefined ? 0 : backend.addressOf(tensor));
  const perThread = backend.kernels.attentionScratch(T, K, S, I) + 64;
  const parameters = [
    ...[at(q), at(key), at(value), at(imageKey), at(imageValue), at(S > 0 ? mask : undefined), output.address],
    ...[R, H, T, S, K, N, I, step],
    ...[backend.scratch(perThread * backend.pool.threads), perThread, floatBits(1 / Math.sqrt(K))],
  ];
  backend.pool.run(JOB.attention, R * H, parameters);
  return output;
};

export const gitAttentionKernels: KernelTable = { GitAttention: attention };
