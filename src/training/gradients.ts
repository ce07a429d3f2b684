import type { Tensor, Tensor2D, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import {
  add,
  div,
  erf,
  exp,
  expandDims,
  log,
  matMul,
  max,
  mean,
  mul,
  reshape,
  rsqrt,
  scatterND,
  sigmoid,
  softmax,
  square,
  sub,
  sum,
  tensor1d,
  tensor2d,
  tidy,
} from '@tensorflow/tfjs-core';
import type { KeyValue } from '../layers/attention.js';
import { runFused } from '../layers/fused-kernel.js';
import type { LayerNorm } from '../layers/layer-norm.js';
import type { Activation } from '../layers/linear.js';
import { tidyTree } from '../layers/tidy.js';

// The gradient of each layer, written out, from tfjs operations that every backend has. tfjs's own tape is not used: Node's build of tfjs-core
// registers no gradients, a tape keeps every activation, and the embedding's gradient there needs a kernel that the stock wasm backend lacks.
// Each function takes the layer's input and the gradient of its output, and returns new tensors; test/training compares all of them with
// finite differences in double precision.

/** [B, T, D] as the matrix of its rows, [B·T, D]. */
export const rowsOf = (x: Tensor3D): Tensor2D => reshape(x, [x.shape[0] * x.shape[1], x.shape[2]]);

/** `more`, added to the gradient so far, where there is one. */
export const plus = <T extends Tensor>(sum: Tensor | undefined, more: T): T =>
  sum === undefined ? more : (add(sum, more) as T);

/** How many rows each sample of [B, T, D] has: fused kernels sum each from zero, so that micro-batches add up to the bits of one batch. */
const groupsOf = (x: Tensor3D): number[] => new Array<number>(x.shape[0]).fill(x.shape[1]);

/** Gradient of `linear`'s input. dy: [B, T, out] → [B, T, in]. */
export function linearInputGradient(weight: Tensor, dy: Tensor3D): Tensor3D {
  const inOne = runFused<Tensor3D>('GitLinearInputGradient', { dy, weight });
  if (inOne !== undefined) return inOne;
  return tidy(() => {
    const [batch, tokens] = dy.shape;
    return reshape(matMul(rowsOf(dy), weight as Tensor2D, false, true), [batch, tokens, weight.shape[0]!]);
  });
}

/** Gradient of `linear`'s weight, [in, out], summed over all rows. `sum`: the gradient so far, which is added. */
export function linearWeightGradient(x: Tensor3D, dy: Tensor3D, sum?: Tensor, groups = groupsOf(x)): Tensor2D {
  const inOne = runFused<Tensor2D>('GitLinearWeightGradient', { x, dy, sum }, { groups });
  return inOne ?? tidy(() => plus(sum, matMul(rowsOf(x), rowsOf(dy), true, false)));
}

/** Gradient of a bias, [out], summed over all rows. `before`: the gradient so far, which is added. */
export function biasGradient(dy: Tensor3D, before?: Tensor, groups = groupsOf(dy)): Tensor {
  const inOne = runFused<Tensor>('GitBiasGradient', { dy, sum: before }, { groups });
  return inOne ?? tidy(() => plus(before, sum(rowsOf(dy), 0)));
}

/**
 * Gradients of `layerNorm` by its input (the sum with the residual, where there is one), weight and bias. x, dy: [B, T, D]. `sums`: the
 * gradients so far, which are added.
 */
export function layerNormGradient(
  p: LayerNorm,
  x: Tensor3D,
  epsilon: number,
  dy: Tensor3D,
  sums: { readonly weight?: Tensor | undefined; readonly bias?: Tensor | undefined } = {},
): { readonly dx: Tensor3D; readonly weight: Tensor; readonly bias: Tensor } {
  const inputs = { x, dy, gamma: p.weight, gammaSum: sums.weight, betaSum: sums.bias };
  const inOne = runFused<Tensor[]>('GitLayerNormGradient', inputs, { epsilon, groups: groupsOf(x) });
  if (inOne !== undefined) return { dx: inOne[0] as Tensor3D, weight: inOne[1]!, bias: inOne[2]! };
  return tidyTree(() => {
    const centered = sub(x, mean(x, -1, true));
    const scale = rsqrt(add(mean(square(centered), -1, true), epsilon)); // [B, T, 1]
    const normed: Tensor3D = mul(centered, scale);
    const dNormed = mul(dy, p.weight);
    const along = mean(mul(dNormed, normed), -1, true);
    const dx: Tensor3D = mul(scale, sub(sub(dNormed, mean(dNormed, -1, true)), mul(normed, along)));
    return { dx, weight: plus(sums.weight, sum(rowsOf(mul(dy, normed)), 0)), bias: biasGradient(dy, sums.bias) };
  });
}

/** dy times the derivative of the activation at x, of any shape. */
export function activationGradient<T extends Tensor>(name: Activation, x: T, dy: T): T {
  const inOne = runFused<T>('GitActivationGradient', { x, dy }, { activation: name });
  if (inOne !== undefined) return inOne;
  return tidy(() => {
    if (name === 'gelu') {
      const below = mul(add(erf(mul(x, Math.SQRT1_2)), 1), 0.5); // the normal distribution up to x
      const density = mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
      return mul(dy, add(below, mul(x, density))) as T;
    }
    const gate = sigmoid(mul(x, 1.702));
    return mul(dy, mul(gate, add(mul(mul(x, 1.702), sub(1, gate)), 1))) as T;
  });
}

/**
 * Gradients of attention by queries, keys and values; the probabilities are computed again. q, dy: [B, H, T, K]; key, value: [B, H, S, K];
 * `mask`, [T, S] or [B, T, S], is added to the scores.
 */
export function attentionGradient(
  q: Tensor4D,
  { key, value }: KeyValue,
  mask: Tensor | undefined,
  dy: Tensor4D,
): { readonly query: Tensor4D; readonly key: Tensor4D; readonly value: Tensor4D } {
  const inOne = runFused<Tensor[]>('GitAttentionGradient', { q, key, value, mask, dy }) as Tensor4D[] | undefined;
  if (inOne !== undefined) return { query: inOne[0]!, key: inOne[1]!, value: inOne[2]! };
  return tidyTree(() => {
    const scale = 1 / Math.sqrt(q.shape[3]);
    const scaled: Tensor4D = mul(q, scale);
    const scores: Tensor4D = matMul(scaled, key, false, true);
    const added = mask?.rank === 3 ? expandDims(mask, 1) : mask;
    const weights: Tensor4D = softmax(added === undefined ? scores : add(scores, added)); // [B, H, T, S]
    const dWeights: Tensor4D = matMul(dy, value, false, true);
    const dScores: Tensor4D = mul(weights, sub(dWeights, sum(mul(dWeights, weights), -1, true)));
    return {
      query: mul(matMul(dScores, key), scale) as Tensor4D,
      key: matMul(dScores, scaled, true, false) as Tensor4D,
      value: matMul(weights, dy, true, false) as Tensor4D,
    };
  });
}

/**
 * Gradient of `embed`'s table, [rows, D]: each row gets the sum over the places that took it. Rows of `paddingId` get none, as with torch's
 * `padding_idx`. dy: [B, T, D]. `sum`: the gradient so far, which is added.
 */
export function embeddingGradient(
  table: Tensor,
  ids: readonly (readonly number[])[],
  dy: Tensor3D,
  paddingId?: number,
  sum?: Tensor,
): Tensor2D {
  return tidy(() => {
    const [flat, rows] = [ids.flat(), table.shape[0]!];
    const attributes = { rows, padding: paddingId ?? -1 };
    const inOne = runFused<Tensor2D>('GitEmbeddingGradient', { dy, ids: tensor1d(flat, 'int32'), sum }, attributes);
    if (inOne !== undefined) return inOne;
    const kept = paddingId === undefined ? rowsOf(dy) : mul(rowsOf(dy), keepRows(flat, paddingId));
    const indices = tensor2d(flat, [flat.length, 1], 'int32');
    return plus(sum, scatterND(indices, kept, table.shape as [number, number]) as Tensor2D);
  });
}

const keepRows = (ids: readonly number[], paddingId: number): Tensor2D =>
  tensor2d(
    ids.map((id) => (id === paddingId ? 0 : 1)),
    [ids.length, 1],
  );

/**
 * The loss of each row of logits against its label and the gradient by the logits: cross-entropy, or with `smoothing` e > 0 the original's
 * KL(q || p), q = 1 - e on the label and e/(V - 1) elsewhere. Both divided by `total`. logits: [M, V] → losses [M].
 */
export function crossEntropyGradient(
  logits: Tensor2D,
  labels: readonly number[],
  smoothing: number,
  total: number,
): { readonly losses: Tensor; readonly logits: Tensor2D } {
  return tidyTree(() => {
    const inputs = { logits, labels: tensor1d([...labels], 'int32') };
    const inOne = runFused<Tensor[]>('GitCrossEntropyGradient', inputs, { smoothing, total });
    if (inOne !== undefined) return { losses: inOne[0]!, logits: inOne[1] as Tensor2D };
    const [rows, vocabulary] = logits.shape;
    const elsewhere = smoothing / (vocabulary - 1);
    const indices = tensor2d(
      labels.flatMap((label, row) => [row, label]),
      [rows, 2],
      'int32',
    );
    const onLabel = new Float32Array(rows).fill(1 - smoothing - elsewhere);
    const target = add(scatterND(indices, onLabel, [rows, vocabulary]), elsewhere); // q: [M, V]
    const largest = max(logits, -1, true);
    const shifted = sub(logits, largest);
    const exponentials = exp(shifted);
    const normalizer = sum(exponentials, -1, true); // [M, 1]
    const logProbabilities = sub(shifted, log(normalizer));
    const entropy = smoothing === 0 ? 0 : (1 - smoothing) * Math.log(1 - smoothing) + smoothing * Math.log(elsewhere); // of one row of q
    const losses = sub(entropy, sum(mul(target, logProbabilities), -1));
    const gradient = sub(div(exponentials, normalizer), target);
    return { losses: mul(losses, 1 / total), logits: mul(gradient, 1 / total) as Tensor2D };
  });
}
