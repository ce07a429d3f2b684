import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import {
  ActivationGradientParam,
  AttentionGradientParam,
  BiasGradientParam,
  CrossEntropyParam,
  EmbeddingGradientParam,
  InputGradientParam,
  Job,
  K_BLOCK,
  LayerNormGradientParam,
  MAP_CHUNK,
  MapParam,
  PackPanelsParam,
  Unary,
  WeightGradientParam,
} from '../abi.js';
import type { KernelContext, Output } from '../kernel-context.js';
import {
  type Attributes,
  fault,
  input,
  type Kernel,
  type KernelTable,
  requireFloats,
  sizeOf,
} from '../kernel-context.js';
import { BLOCK_ROWS, packLeft, tileHeight } from '../product.js';
import { FORMATS } from '../tensor-memory.js';
import { floatBits, parametersOf } from '../thread-pool.js';
import { maskStep } from './transformer.js';

// The backward pass of the transformer's kernels. What is summed over rows takes `groups`, how many rows each sample has, and `sum`, the
// gradient of the samples before: samples that are learned together or in several calls give the same bits.

/** Panels of the input's gradient in one chunk: they share what is read of dy. Half as many where threads would have too little to share. */
const INPUT_PANELS = 8;
const MIN_CHUNKS_PER_THREAD = 3;
/** Rows of the input's gradient in one chunk. */
const INPUT_ROWS = 1020;
/** Panels of a weight's gradient in one chunk. */
const WEIGHT_PANELS = 4;
/** Rows of dy that are packed into panels at once. */
const PACK_ROWS = 32;
/** Columns of a bias's gradient in one chunk. */
const BIAS_COLUMNS = 64;

/** Rows and columns of a tensor over its last axis. */
const matrixOf = ({ shape }: TensorInfo): readonly [number, number] => [sizeOf(shape.slice(0, -1)), shape.at(-1) ?? 1];

/** After which row each block of at most `most` rows ends; none has rows of two samples. @throws BackendError (`shape`). */
export function blockEnds(kernel: string, { groups }: Attributes, rows: number, most: number): number[] {
  const lengths = (groups as readonly number[] | undefined) ?? [rows];
  const ends: number[] = [];
  let at = 0;
  for (const length of lengths) {
    for (let done = most; done < length; done += most) ends.push(at + done);
    at += length;
    if (length > 0) ends.push(at);
  }
  if (at !== rows) throw fault(kernel, 'shape', `groups of ${at} rows for ${rows}`);
  return ends;
}

/** int32 numbers in scratch memory. */
export function scratchNumbers(backend: KernelContext, numbers: readonly number[]): number {
  const address = backend.scratch(numbers.length * 4);
  backend.heap.i32.set(numbers, address / 4);
  return address;
}

/** dy float32 [..., out] and weight [in, out] in any format -> dy · transpose(weight), [..., in]. */
const linearInput: Kernel = (backend, inputs) => {
  const [dy, weight] = [input(inputs, 'dy'), input(inputs, 'weight')];
  const name = 'GitLinearInputGradient';
  requireFloats(name, dy, weight);
  const [rows, outputs] = matrixOf(dy);
  const [columns = 0] = weight.shape;
  const fits = weight.shape.length === 2 && weight.shape[1] === outputs;
  util.assert(fits, () => `${name}: [${dy.shape}] and [${weight.shape}] do not fit`);
  const packed = backend.pack(weight, columns, outputs);
  const output = backend.output([...dy.shape.slice(0, -1), columns], 'float32');
  if (sizeOf(output.shape) === 0) return output;
  if (outputs === 0) {
    backend.valuesOf(output).fill(0);
    return output;
  }
  const tileRows = tileHeight(backend, rows);
  const tiles = packLeft(backend, { m: rows, k: outputs, a: backend.addressOf(dy), lda: outputs * 4 }, tileRows);
  const blocks = Math.ceil(rows / INPUT_ROWS);
  const blockRows = Math.ceil(rows / (blocks * tileRows)) * tileRows;
  const many = Math.ceil(columns / (8 * INPUT_PANELS)) * blocks >= MIN_CHUNKS_PER_THREAD * backend.pool.threads;
  const chunkPanels = many ? INPUT_PANELS : INPUT_PANELS / 2;
  const threadBytes = 448 + chunkPanels * 32 * (K_BLOCK + blockRows);
  const blockChunks = Math.ceil(columns / (8 * chunkPanels));
  const parameters = parametersOf(InputGradientParam, {
    tiles,
    rows,
    outputs,
    weights: packed.address,
    format: FORMATS[packed.format],
    columnScales: packed.scales,
    inputs: columns,
    c: output.address,
    cStride: columns * 4,
    scratch: backend.scratch(threadBytes * backend.pool.threads),
    threadBytes,
    blockRows,
    chunkPanels,
    blockChunks,
    tileRows,
  });
  backend.pool.run(Job.inputGradient, blockChunks * Math.ceil(rows / blockRows), parameters);
  return output;
};

/** dy [rows, columns] at an address, as panels in scratch memory. */
function panelsOf(backend: KernelContext, dy: number, rows: number, columns: number): number {
  const panels = backend.scratch(Math.ceil(columns / 8) * rows * 32);
  const parameters = parametersOf(PackPanelsParam, {
    b: dy,
    bStride: columns * 4,
    panels,
    rows,
    columns,
    chunkRows: PACK_ROWS,
  });
  backend.pool.run(Job.packPanels, Math.ceil(rows / PACK_ROWS), parameters);
  return panels;
}

/** x float32 [..., in] and dy [..., out] over the same rows -> sum + transpose(x) · dy, [in, out], packed. */
const linearWeight: Kernel = (backend, inputs, attributes) => {
  const [x, dy, { sum }] = [input(inputs, 'x'), input(inputs, 'dy'), inputs];
  const name = 'GitLinearWeightGradient';
  requireFloats(name, x, dy, sum);
  const [[rows, columns], [others, outputs]] = [matrixOf(x), matrixOf(dy)];
  const fits = rows === others && (sum === undefined || util.arraysEqual(sum.shape, [columns, outputs]));
  util.assert(fits, () => `${name}: [${x.shape}], [${dy.shape}] and [${sum?.shape}] do not fit`);
  const before = sum === undefined ? 0 : backend.pack(sum, columns, outputs).address;
  const output = backend.packedOutput(columns, outputs);
  const ends = blockEnds(name, attributes, rows, K_BLOCK);
  if (columns * outputs === 0) return output;
  if (ends.length === 0) {
    const size = Math.ceil(outputs / 8) * 8 * columns;
    const target = backend.view(output.address, size, 'float32');
    if (before === 0) target.fill(0);
    else target.set(backend.view(before, size, 'float32'));
    return output;
  }
  const tileRows = tileHeight(backend, columns);
  const left = { m: columns, k: rows, a: backend.addressOf(x), lda: columns * 4, transposed: true };
  const tiles = packLeft(backend, left, tileRows);
  const blocks = Math.ceil(columns / BLOCK_ROWS);
  const blockRows = Math.ceil(columns / (blocks * tileRows)) * tileRows;
  const threadBytes = 256 + WEIGHT_PANELS * 32 * blockRows;
  const blockChunks = Math.ceil(outputs / (8 * WEIGHT_PANELS));
  const parameters = parametersOf(WeightGradientParam, {
    tiles,
    panels: panelsOf(backend, backend.addressOf(dy), rows, outputs),
    sum: before,
    c: output.address,
    inputs: columns,
    outputs,
    rows,
    blockEnds: scratchNumbers(backend, ends),
    blocks: ends.length,
    scratch: backend.scratch(threadBytes * backend.pool.threads),
    threadBytes,
    blockRows,
    chunkPanels: WEIGHT_PANELS,
    blockChunks,
    tileRows,
  });
  backend.pool.run(Job.weightGradient, blockChunks * Math.ceil(columns / blockRows), parameters);
  return output;
};

/** dy float32 [..., out] -> sum + the sum of its rows, [out]. */
const bias: Kernel = (backend, inputs, attributes) => {
  const [dy, { sum }] = [input(inputs, 'dy'), inputs];
  const name = 'GitBiasGradient';
  requireFloats(name, dy, sum);
  const [rows, columns] = matrixOf(dy);
  const fits = sum === undefined || util.arraysEqual(sum.shape, [columns]);
  util.assert(fits, () => `${name}: [${dy.shape}] and [${sum?.shape}] do not fit`);
  const output = backend.output([columns], 'float32');
  const ends = blockEnds(name, attributes, rows, K_BLOCK);
  if (columns === 0) return output;
  const parameters = parametersOf(BiasGradientParam, {
    dy: backend.addressOf(dy),
    sum: sum === undefined ? 0 : backend.addressOf(sum),
    y: output.address,
    columns,
    chunkColumns: BIAS_COLUMNS,
    blockEnds: scratchNumbers(backend, ends),
    blocks: ends.length,
  });
  backend.pool.run(Job.biasGradient, Math.ceil(columns / BIAS_COLUMNS), parameters);
  return output;
};

/** Rows whose sums for gamma and beta are one block. */
const NORM_ROWS = 32;

/** sum + `blocks` rows [columns] at an address, in order. */
function addBlocks(
  backend: KernelContext,
  rows: number,
  blocks: number,
  columns: number,
  sum: TensorInfo | undefined,
): TensorInfo {
  const output = backend.output([columns], 'float32');
  const ends = Array.from({ length: blocks }, (_, i) => i + 1);
  const parameters = parametersOf(BiasGradientParam, {
    dy: rows,
    sum: sum === undefined ? 0 : backend.addressOf(sum),
    y: output.address,
    columns,
    chunkColumns: BIAS_COLUMNS,
    blockEnds: scratchNumbers(backend, ends),
    blocks,
  });
  backend.pool.run(Job.biasGradient, Math.ceil(columns / BIAS_COLUMNS), parameters);
  return output;
}

/**
 * x and dy float32 [..., D], gamma [D] -> the gradients of `GitLayerNorm` by x, gamma and beta; `gammaSum` and `betaSum` are added to the
 * last two. x is the sum with the residual.
 */
const layerNorm: Kernel = (backend, inputs, attributes) => {
  const [x, dy, gamma] = [input(inputs, 'x'), input(inputs, 'dy'), input(inputs, 'gamma')];
  const { gammaSum, betaSum } = inputs;
  const name = 'GitLayerNormGradient';
  requireFloats(name, x, dy, gamma, gammaSum, betaSum);
  const [rows, columns] = matrixOf(x);
  const fits = util.arraysEqual(x.shape, dy.shape) && util.arraysEqual(gamma.shape, [columns]);
  const alike = [gammaSum, betaSum].every((sum) => sum === undefined || util.arraysEqual(sum.shape, [columns]));
  util.assert(fits && alike, () => `${name}: [${x.shape}], [${dy.shape}] and [${gamma.shape}] do not fit`);
  const ends = blockEnds(name, attributes, rows, NORM_ROWS);
  const output = backend.output(x.shape, 'float32');
  const bytes = ends.length * columns * 4;
  const [gammaSums, betaSums] = [backend.scratch(bytes), backend.scratch(bytes)];
  const parameters = parametersOf(LayerNormGradientParam, {
    x: backend.addressOf(x),
    dy: backend.addressOf(dy),
    gamma: backend.addressOf(gamma),
    dx: output.address,
    columns,
    epsilon: floatBits(attributes['epsilon'] as number),
    gammaSums,
    betaSums,
    blockEnds: scratchNumbers(backend, ends),
  });
  if (columns > 0) backend.pool.run(Job.layerNormGradient, ends.length, parameters);
  const of = (sums: number, sum: TensorInfo | undefined) => addBlocks(backend, sums, ends.length, columns, sum);
  return [output, of(gammaSums, gammaSum), of(betaSums, betaSum)];
};

/** The activation that a kernel is asked for. @throws BackendError (`unsupported-activation`). */
function activationOf(kernel: string, { activation }: Attributes): Unary {
  if (activation === 'gelu') return Unary.Gelu;
  if (activation === 'quick_gelu') return Unary.QuickGelu;
  throw fault(kernel, 'unsupported-activation', `activation ${String(activation)} is not one of gelu, quick_gelu`);
}

/** x float32 of any shape -> its activation. */
const activation: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  requireFloats('GitActivation', x);
  const operation = activationOf('GitActivation', attributes);
  const size = sizeOf(x.shape);
  const output = backend.output(x.shape, 'float32');
  const parameters = parametersOf(MapParam, {
    ...{ operation, x: backend.addressOf(x), y: output.address },
    ...{ size, first: 0, second: 0 },
  });
  if (size > 0) backend.pool.run(Job.map, Math.ceil(size / MAP_CHUNK), parameters);
  return output;
};

/** x and dy float32 of one shape -> dy times the slope of the activation at x. */
const activationGradient: Kernel = (backend, inputs, attributes) => {
  const [x, dy] = [input(inputs, 'x'), input(inputs, 'dy')];
  const name = 'GitActivationGradient';
  requireFloats(name, x, dy);
  util.assert(util.arraysEqual(x.shape, dy.shape), () => `${name}: [${x.shape}] and [${dy.shape}] differ`);
  const size = sizeOf(x.shape);
  const output = backend.output(x.shape, 'float32');
  const parameters = parametersOf(ActivationGradientParam, {
    activation: activationOf(name, attributes),
    x: backend.addressOf(x),
    dy: backend.addressOf(dy),
    y: output.address,
    size,
  });
  if (size > 0) backend.pool.run(Job.activationGradient, Math.ceil(size / MAP_CHUNK), parameters);
  return output;
};

/**
 * q and dy float32 [R, H, T, K], key and value [R, H, S, K], mask [T, S] or [R, T, S] -> the gradients of `GitAttention` over a text's columns by q,
 * key and value. dy has its heads apart.
 */
const attention: Kernel = (backend, inputs) => {
  const [q, key, value, dy] = ['q', 'key', 'value', 'dy'].map((name) => input(inputs, name)) as [
    ...[TensorInfo, TensorInfo, TensorInfo, TensorInfo],
  ];
  const { mask } = inputs;
  const name = 'GitAttentionGradient';
  requireFloats(name, q, key, value, dy, mask);
  const [R = 0, H = 0, T = 0, K = 0] = q.shape;
  const S = key.shape[2] ?? 0;
  const fits = util.arraysEqual(dy.shape, q.shape) && q.shape.length === 4 && util.arraysEqual(key.shape, [R, H, S, K]);
  util.assert(
    fits && util.arraysEqual(value.shape, key.shape),
    () => `${name}: [${q.shape}], [${key.shape}], [${value.shape}] and [${dy.shape}] do not fit`,
  );
  const maskStride = maskStep(inputs, R, T, S);
  const [dQuery, dKey, dValue] = [q, key, value].map(({ shape }) => backend.output(shape, 'float32')) as [
    ...[Output, Output, Output],
  ];
  if (R * H * T * S * K === 0) {
    for (const empty of [dQuery, dKey, dValue]) backend.valuesOf(empty).fill(0);
    return [dQuery, dKey, dValue];
  }
  const threadBytes = Math.ceil(backend.kernels.attentionGradientScratch(T, S, K) / 64) * 64 + 64;
  const parameters = parametersOf(AttentionGradientParam, {
    q: backend.addressOf(q),
    key: backend.addressOf(key),
    value: backend.addressOf(value),
    mask: mask === undefined ? 0 : backend.addressOf(mask),
    maskStride,
    dy: backend.addressOf(dy),
    dQuery: dQuery.address,
    dKey: dKey.address,
    dValue: dValue.address,
    heads: H,
    tokens: T,
    columns: S,
    width: K,
    scratch: backend.scratch(threadBytes * backend.pool.threads),
    threadBytes,
    scale: floatBits(1 / Math.sqrt(K)),
  });
  backend.pool.run(Job.attentionGradient, R * H, parameters);
  return [dQuery, dKey, dValue];
};

/** @throws BackendError (`index-out-of-range`) for an index that is not from 0 to `below` - 1. */
function requireIndices(backend: KernelContext, kernel: string, indices: TensorInfo, below: number): void {
  if (indices.dtype !== 'int32') throw fault(kernel, 'unsupported-dtype', `indices are int32, not ${indices.dtype}`);
  const odd = backend.valuesOf(indices).find((index) => index < 0 || index >= below);
  if (odd !== undefined) throw fault(kernel, 'index-out-of-range', `${odd} is not from 0 to ${below - 1}`);
}

/**
 * logits float32 [M, V] and labels int32 [M] -> the loss of each row, [M], and the gradient by the logits, both divided by `total`: the sum of
 * q · (log q - log p), q = 1 - `smoothing` on the label and smoothing / (V - 1) elsewhere.
 */
const crossEntropy: Kernel = (backend, inputs, attributes) => {
  const [logits, labels] = [input(inputs, 'logits'), input(inputs, 'labels')];
  const name = 'GitCrossEntropyGradient';
  requireFloats(name, logits);
  const [rows, columns] = matrixOf(logits);
  util.assert(
    logits.shape.length === 2 && util.arraysEqual(labels.shape, [rows]),
    () => `${name}: [${logits.shape}] and [${labels.shape}] do not fit`,
  );
  requireIndices(backend, name, labels, columns);
  const { smoothing, total } = attributes as { smoothing: number; total: number };
  const elsewhere = smoothing / (columns - 1);
  const entropy = smoothing === 0 ? 0 : (1 - smoothing) * Math.log(1 - smoothing) + smoothing * Math.log(elsewhere);
  const [losses, output] = [backend.output([rows], 'float32'), backend.output(logits.shape, 'float32')];
  const parameters = parametersOf(CrossEntropyParam, {
    x: backend.addressOf(logits),
    labels: backend.addressOf(labels),
    y: output.address,
    losses: losses.address,
    columns,
    onLabel: floatBits(1 - smoothing),
    elsewhere: floatBits(elsewhere),
    entropy: floatBits(entropy),
    factor: floatBits(1 / total),
  });
  backend.pool.run(Job.crossEntropy, rows, parameters);
  return [losses, output];
};

/** Bytes of an embedding table's gradient in one chunk. */
const EMBEDDING_BYTES = 1_048_576;

/** dy float32 [..., D] and ids int32, one for each of its rows -> sum + the rows of dy, each at its id: [`rows`, D]. `padding` gets none. */
const embedding: Kernel = (backend, inputs, attributes) => {
  const [dy, ids, { sum }] = [input(inputs, 'dy'), input(inputs, 'ids'), inputs];
  const name = 'GitEmbeddingGradient';
  requireFloats(name, dy, sum);
  const { rows, padding = -1 } = attributes as { rows: number; padding?: number };
  const [count, columns] = matrixOf(dy);
  const fits = sizeOf(ids.shape) === count && (sum === undefined || util.arraysEqual(sum.shape, [rows, columns]));
  util.assert(fits, () => `${name}: [${dy.shape}], [${ids.shape}] and [${sum?.shape}] do not fit`);
  requireIndices(backend, name, ids, rows);
  const output = backend.output([rows, columns], 'float32');
  const chunkRows = Math.max(1, Math.floor(EMBEDDING_BYTES / Math.max(columns * 4, 1)));
  const parameters = parametersOf(EmbeddingGradientParam, {
    ids: backend.addressOf(ids),
    count,
    dy: backend.addressOf(dy),
    sum: sum === undefined ? 0 : backend.addressOf(sum),
    y: output.address,
    rows,
    columns,
    padding,
    chunkRows,
  });
  backend.pool.run(Job.embeddingGradient, Math.ceil(rows / chunkRows), parameters);
  return output;
};

export const gradientKernels: KernelTable = {
  GitAttentionGradient: attention,
  GitCrossEntropyGradient: crossEntropy,
  GitEmbeddingGradient: embedding,
  GitLayerNormGradient: layerNorm,
  GitActivation: activation,
  GitActivationGradient: activationGradient,
  GitLinearInputGradient: linearInput,
  GitLinearWeightGradient: linearWeight,
  GitBiasGradient: bias,
};
