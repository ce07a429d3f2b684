import {
  add,
  dispose,
  div,
  erf,
  exp,
  expandDims,
  keep,
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
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  type TensorContainer,
  tensor1d,
  tensor2d,
  tidy,
} from '@tensorflow/tfjs-core';
import type { KeyValue } from '../layers/attention.js';
import { runFused } from '../layers/fused-kernel.js';
import type { LayerNorm } from '../layers/layer-norm.js';
import type { Activation, Linear } from '../layers/linear.js';
import { tidyTree } from '../layers/tidy.js';
import type { Adapter } from '../model/lora.js';

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
 * The gradient of `gather`: zeros [count, D] to which each row of dy, [M, D], is added at its place. Rows whose place is `padding` get none.
 * `sum`: the gradient so far, which is added.
 */
export function scatterRows(
  dy: Tensor2D,
  places: readonly number[],
  count: number,
  { padding = -1, sum }: { readonly padding?: number | undefined; readonly sum?: Tensor | undefined } = {},
): Tensor2D {
  return tidy(() => {
    const inputs = { dy, ids: tensor1d([...places], 'int32'), sum };
    const inOne = runFused<Tensor2D>('GitEmbeddingGradient', inputs, { rows: count, padding });
    if (inOne !== undefined) return inOne;
    const kept = places.includes(padding) ? mul(dy, keepRows(places, padding)) : dy;
    const indices = tensor2d([...places], [places.length, 1], 'int32');
    return plus(sum, scatterND(indices, kept, [count, dy.shape[1]]) as Tensor2D);
  });
}

/**
 * Gradient of `embed`'s table, [rows, D]: each row gets the sum over the places that took it. Rows of `paddingId` get none, as with torch's
 * `padding_idx`. dy: [B, T, D]. `sum`: the gradient so far, which is added.
 */
export const embeddingGradient = (
  table: Tensor,
  ids: readonly (readonly number[])[],
  dy: Tensor3D,
  padding?: number,
  sum?: Tensor,
): Tensor2D => tidy(() => scatterRows(rowsOf(dy), ids.flat(), table.shape[0]!, { padding, sum }));

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

// What the backward passes of the vision tower and of the decoder share: where gradients are added up, and the layers that both are made of.

/** Gradients by parameter name, summed over micro-batches. It owns them. */
export interface Gradients {
  /** Is this parameter trained? */
  wants(name: string): boolean;
  /** Is any parameter trained whose name begins so? */
  wantsBelow(prefix: string): boolean;
  /** Keeps `make(sum)`, a new tensor, where the parameter is trained; `sum` is its gradient so far. Does nothing for others. */
  add(name: string, make: (sum: Tensor | undefined) => Tensor): void;
  readonly byName: ReadonlyMap<string, Tensor>;
  dispose(): void;
}

/** No gradients yet, for the parameters of `names`. */
export function startGradients(names: Iterable<string>): Gradients {
  const trained = new Set(names);
  const byName = new Map<string, Tensor>();
  return {
    byName,
    wants: (name) => trained.has(name),
    wantsBelow: (prefix) => [...trained].some((name) => name.startsWith(prefix)),
    add(name, make) {
      if (!trained.has(name)) return;
      const before = byName.get(name);
      byName.set(
        name,
        tidy(() => keep(make(before))),
      );
      before?.dispose();
    },
    dispose() {
      dispose([...byName.values()]);
      byName.clear();
    },
  };
}

/** What a pass needs besides its tensors. */
export interface Pass {
  readonly gradients: Gradients;
  /** By the layer's name, such as `git.encoder.layer.0.attention.self.query`. */
  readonly adapters: ReadonlyMap<string, Adapter>;
  /** Takes tensors, to dispose of at the end of the pass at the latest. */
  readonly own: <T>(values: T) => T;
  /** Disposes of what `own` took. */
  readonly free: (values: unknown) => void;
  /** Called between layers: yields to the event loop, and throws where the call was aborted. */
  readonly pause: () => Promise<void>;
  /** Keep only each layer's input, and compute the rest again on the way back. */
  readonly recompute: boolean;
}

/** `own` and `free` of a pass, and `freeAll` for its end. */
export function startOwning(): Pick<Pass, 'own' | 'free'> & { freeAll(): void } {
  const owned = new Set<TensorContainer>();
  return {
    own(values) {
      owned.add(values as TensorContainer);
      return values;
    },
    free(values) {
      if (owned.delete(values as TensorContainer)) dispose(values as TensorContainer);
    },
    freeAll() {
      for (const values of owned) dispose(values);
      owned.clear();
    },
  };
}

/**
 * Adds the gradients of a linear layer's own parameters and of its adapter. x: [B, T, in], dy: [B, T, out].
 *
 * @param groups how many rows each sample has, where x has those of several in one.
 */
export function addLinearGradients(
  { gradients, adapters }: Pass,
  name: string,
  x: Tensor3D,
  dy: Tensor3D,
  groups?: number[],
): void {
  gradients.add(`${name}.weight`, (sum) => linearWeightGradient(x, dy, sum, groups));
  gradients.add(`${name}.bias`, (sum) => biasGradient(dy, sum, groups));
  const adapter = adapters.get(name);
  if (adapter !== undefined) {
    const { a, b, scale } = adapter;
    gradients.add(
      `${name}.lora_A`,
      (sum) => plus(sum, mul(matMul(matMul(rowsOf(dy), b), rowsOf(x), true, false), scale)), // [r, in]
    );
    gradients.add(
      `${name}.lora_B`,
      (sum) => plus(sum, mul(matMul(rowsOf(dy), matMul(rowsOf(x), a, false, true), true, false), scale)), // [out, r]
    );
  }
}

/** The same, and returns the gradient by the layer's input. */
export function linearBackward(
  pass: Pass,
  name: string,
  p: Linear,
  x: Tensor3D,
  dy: Tensor3D,
  groups?: number[],
): Tensor3D {
  addLinearGradients(pass, name, x, dy, groups);
  return linearInputGradient(p.weight, dy);
}

/** The same of a layer norm. x: what is normalized, dy: [B, T, D]. */
export function layerNormBackward(
  { gradients }: Pass,
  name: string,
  p: LayerNorm,
  x: Tensor3D,
  epsilon: number,
  dy: Tensor3D,
): Tensor3D {
  return tidy(() => {
    const [weightName, biasName] = [`${name}.weight`, `${name}.bias`];
    const sums = { weight: gradients.byName.get(weightName), bias: gradients.byName.get(biasName) };
    const { dx, weight, bias } = layerNormGradient(p, x, epsilon, dy, sums);
    gradients.add(weightName, () => weight.clone());
    gradients.add(biasName, () => bias.clone());
    return dx;
  });
}
