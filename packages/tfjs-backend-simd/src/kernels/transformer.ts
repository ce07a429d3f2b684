import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { AttentionParam, Job, LayerNormParam, LogSumParam, TopTokensParam, type Unary } from '../abi.js';
import { BackendError } from '../errors.js';
import {
  fault,
  type Inputs,
  input,
  type Kernel,
  type KernelContext,
  type KernelTable,
  requireFloats,
  sizeOf,
} from '../kernel-context.js';
import { multiply } from '../product.js';
import { floatBits, parametersOf } from '../thread-pool.js';

/** What `GitLinear` may apply to its result. */
export type LinearActivation = 'none' | 'gelu' | 'quick_gelu';

/** The activation of a linear layer, by the name that its caller gives. @throws BackendError (`unsupported-activation`). */
export function activationOf(kernel: string, name: unknown): keyof typeof Unary | undefined {
  const activation = name as LinearActivation;
  if (activation in ACTIVATIONS) return ACTIVATIONS[activation];
  const detail = `activation ${String(activation)} is not one of ${Object.keys(ACTIVATIONS).join(', ')}`;
  throw new BackendError({ path: `simd: ${kernel}`, code: 'unsupported-activation', detail });
}

const ACTIVATIONS: Readonly<Record<LinearActivation, keyof typeof Unary | undefined>> = {
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
  const activation = activationOf('GitLinear', attributes['activation']);
  requireFloats('GitLinear', x, weight, bias);
  const [outer, k] = [x.shape.slice(0, -1), x.shape.at(-1)!];
  const [m, [rows, n = 0]] = [sizeOf(outer), weight.shape];
  const fits = x.shape.length > 1 && weight.shape.length === 2 && rows === k && (bias?.shape[0] ?? n) === n;
  util.assert(fits, () => `GitLinear: [${x.shape}] · [${weight.shape}] + [${bias?.shape}] do not fit`);
  const packed = backend.pack(weight, k, n);
  const output = backend.output([...outer, n], 'float32');
  multiply(backend, {
    m,
    k,
    n,
    a: backend.addressOf(x),
    lda: k * 4,
    b: packed,
    c: output.address,
    ldc: n * 4,
    bias: bias === undefined ? 0 : backend.addressOf(bias),
    activation,
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
  normalizeRows(backend, {
    x: backend.addressOf(x),
    residual: residual === undefined ? 0 : backend.addressOf(residual),
    gamma: backend.addressOf(gamma),
    beta: backend.addressOf(beta),
    y: output.address,
    rows,
    columns: n,
    epsilon: attributes['epsilon'] as number,
  });
  return output;
};

/** A layer norm by addresses, 0 for no residual. */
export interface RowsToNormalize {
  readonly x: number;
  readonly residual: number;
  readonly gamma: number;
  readonly beta: number;
  readonly y: number;
  readonly rows: number;
  readonly columns: number;
  readonly epsilon: number;
}

export function normalizeRows(backend: KernelContext, norm: RowsToNormalize): void {
  const { x, residual, gamma, beta, y, rows, columns, epsilon } = norm;
  if (rows * columns === 0) return;
  const perThread = columns * 4 + 64;
  const scratch = backend.scratch(perThread * backend.pool.threads);
  const perChunk = Math.ceil(CHUNK / columns);
  const parameters = parametersOf(LayerNormParam, {
    x,
    residual,
    gamma,
    beta,
    y,
    rows,
    columns,
    epsilon: floatBits(epsilon),
    chunkRows: perChunk,
    scratch,
    threadBytes: perThread,
  });
  backend.pool.run(Job.layerNorm, Math.ceil(rows / perChunk), parameters);
}

/** Columns of a [*, heads, columns, K] pair; 0 where there is none. */
export function columnsOf(
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
export function maskStep(inputs: Inputs, R: number, T: number, S: number): number {
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
  attendRows(backend, {
    q: at(q),
    key: at(key),
    value: at(value),
    imageKey: at(imageKey),
    imageValue: at(imageValue),
    mask: at(S > 0 ? mask : undefined),
    maskStride: step,
    out: output.address,
    rows: R,
    heads: H,
    tokens: T,
    textColumns: S,
    width: K,
    images: N,
    imageColumns: I,
  });
  return output;
};

/** An attention by addresses, with the names of `AttentionParam`. */
export type RowsToAttend = Readonly<
  Record<Exclude<keyof typeof AttentionParam, 'scratch' | 'threadBytes' | 'scale'>, number>
>;

export function attendRows(backend: KernelContext, rows: RowsToAttend): void {
  const { tokens, width, textColumns, imageColumns } = rows;
  const perThread = backend.kernels.attentionScratch(tokens, width, textColumns, imageColumns) + 64;
  const parameters = parametersOf(AttentionParam, {
    q: rows.q,
    key: rows.key,
    value: rows.value,
    imageKey: rows.imageKey,
    imageValue: rows.imageValue,
    mask: rows.mask,
    maskStride: rows.maskStride,
    out: rows.out,
    rows: rows.rows,
    heads: rows.heads,
    tokens,
    textColumns,
    width,
    images: rows.images,
    imageColumns,
    scratch: backend.scratch(perThread * backend.pool.threads),
    threadBytes: perThread,
    scale: floatBits(1 / Math.sqrt(width)),
  });
  backend.pool.run(Job.attention, rows.rows * rows.heads, parameters);
}

const TOP_TOKENS = 'GitTopTokens';

/** A float64 as three float32 whose sum it is, exactly. */
function parts(value: number): [number, number, number] {
  const high = Math.fround(value);
  const middle = Math.fround(value - high);
  return [high, middle, value - high - middle];
}

/**
 * logits float32 [..., V] -> of each of the R rows the `count` best words, int32 [R, count], best first, of equals the lower one; their logits and then
 * those of the words `asked`, float32 [R, count + asked]; and log(sum(exp(logits))) in float64, as three float32 that add up to it, [R, 3]. A word is
 * ranked by its logit, or, with `by: 'logProb'`, by the log-probability rounded to float32. `count` is at most V. Of a row that has a number which is
 * not finite, the first of them is the best word, and the normalizer is NaN.
 * @throws BackendError (`unsupported-dtype`, `index-out-of-range`).
 */
const topTokens: Kernel = (backend, inputs, attributes) => {
  const logits = input(inputs, 'logits');
  const { count, asked, by } = attributes as { count: number; asked: readonly number[]; by: 'logit' | 'logProb' };
  requireFloats(TOP_TOKENS, logits);
  const columns = logits.shape.at(-1) ?? 0;
  const rows = sizeOf(logits.shape) / Math.max(columns, 1);
  util.assert(
    Number.isInteger(count) && count >= 1 && count <= columns && (by === 'logit' || by === 'logProb'),
    () => `${TOP_TOKENS}: ${count} of [${logits.shape}] by ${by}`,
  );
  const odd = asked.find((id) => !(Number.isInteger(id) && id >= 0 && id < columns));
  if (odd !== undefined) throw fault(TOP_TOKENS, 'index-out-of-range', `${odd} is no word of ${columns}`);
  const width = count + asked.length;
  const ids = backend.output([rows, count], 'int32');
  const best = backend.output([rows, width], 'float32');
  const normalizers = backend.output([rows, 3], 'float32');
  const [x, sums, logs] = [backend.addressOf(logits), backend.scratch(rows * 16), backend.scratch(rows * 8)];
  backend.pool.run(Job.logSum, rows, parametersOf(LogSumParam, { x, y: sums, columns }));
  const { buffer } = backend.heap.f32;
  const rowSums = new Float64Array(buffer, sums, 2 * rows);
  const ofRow = new Float64Array(buffer, logs, rows).map((_, r) => rowSums[2 * r]! + Math.log(rowSums[2 * r + 1]!));
  new Float64Array(buffer, logs, rows).set(ofRow);
  const parameters = parametersOf(TopTokensParam, {
    ...{ x, columns, count, ids: ids.address, logits: best.address, logitStride: width * 4 },
    normalizers: by === 'logProb' ? logs : 0,
  });
  backend.pool.run(Job.topTokens, rows, parameters);
  const [words, found, all, values] = backend.viewsOf(ids, best, normalizers, logits);
  for (let r = 0; r < rows; r++) {
    for (const [i, id] of asked.entries()) found[r * width + count + i] = values[r * columns + id]!;
    all.set(parts(ofRow[r]!), 3 * r);
    if (!Number.isNaN(ofRow[r])) continue;
    const row = values.subarray(r * columns, (r + 1) * columns);
    words[r * count] = row.findIndex((logit) => !Number.isFinite(logit));
    found[r * width] = row[words[r * count]!]!;
  }
  return [ids, best, normalizers];
};

export const transformerKernels: KernelTable = {
  GitLinear: linear,
  GitPackWeight: packWeight,
  GitLayerNorm: layerNorm,
  GitAttention: attention,
  [TOP_TOKENS]: topTokens,
};
