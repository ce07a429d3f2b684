import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { Unary } from '../abi.js';
import type { KernelContext, Output } from '../kernel-context.js';
import { multiply, multiplyAll, type Product } from '../product.js';
import { fault, type Inputs, type Kernel, type KernelTable, requireFloats } from './kernel.js';
import { activationOf, attendRows, columnsOf, maskStep, normalizeRows } from './transformer.js';

const NAME = 'GitDecoderStep';

/** What every layer of one step shares. */
interface Step {
  readonly backend: KernelContext;
  readonly inputs: Inputs;
  /** Rows, width of the model, heads and their width, text columns so far. */
  readonly rows: number;
  readonly features: number;
  readonly heads: number;
  readonly past: number;
  readonly epsilon: number;
  readonly activation: keyof typeof Unary | undefined;
  /** Scratch [rows, features] each: q, and fresh keys and values; what was attended to; a sum before its norm; what goes on beside the MLP. */
  readonly q: number;
  readonly key: number;
  readonly value: number;
  readonly attended: number;
  readonly sum: number;
  readonly hidden: number;
  readonly middle: number;
}

function wanted(inputs: Inputs, name: string, shape: readonly (number | undefined)[]): TensorInfo {
  const found = inputs[name];
  const fits = found?.shape.length === shape.length && shape.every((n, d) => n === undefined || found.shape[d] === n);
  util.assert(fits, () => `${NAME}: ${name} [${found?.shape}] is not [${shape.map((n) => n ?? '?')}]`);
  return found!;
}

/** The product of [rows, inputs] at `from` with a linear layer, into `to`; its weight is packed here, once, as by `GitLinear`. */
function layerOf(step: Step, name: string, from: number, to: number, [k, n]: readonly [number, number]): Product {
  const { backend, inputs, rows } = step;
  const [weight, bias] = [wanted(inputs, `${name}.weight`, [k, n]), wanted(inputs, `${name}.bias`, [n])];
  const b = backend.pack(weight, k, n);
  return { m: rows, k, n, a: from, lda: k * 4, b, c: to, ldc: n * 4, bias: backend.addressOf(bias) };
}

function normalize(step: Step, name: string, x: number, residual: number, y: number): void {
  const { backend, inputs, rows, features, epsilon } = step;
  const at = (part: string) => backend.addressOf(wanted(inputs, `${name}.${part}`, [features]));
  const [gamma, beta] = [at('weight'), at('bias')];
  backend.part(() => normalizeRows(backend, { x, residual, gamma, beta, y, rows, columns: features, epsilon }));
}

/** The past columns [rows, heads, S, K], where there are any, and a fresh one [rows, heads · K]: a new tensor [rows, heads, S + 1, K]. */
function appended(step: Step, name: string, fresh: number): Output {
  const { backend, inputs, rows, heads, features, past } = step;
  const width = features / heads;
  const old = past === 0 ? undefined : wanted(inputs, name, [rows, heads, past, width]);
  const longer = backend.output([rows, heads, past + 1, width], 'float32');
  const from = old === undefined ? 0 : backend.addressOf(old);
  backend.kernels.appendColumns(from, fresh, longer.address, rows * heads, past * width * 4, width * 4);
  return longer;
}

/** One post-norm BERT block on `step.hidden`, in place. Returns its longer keys and values. */
function decoderLayer(step: Step, index: number): [Output, Output] {
  const { backend, inputs, rows, features, heads, past, q, key, value, attended, sum, hidden, middle } = step;
  const name = `git.encoder.layer.${index}`;
  const square = [features, features] as const;
  multiplyAll(backend, [
    layerOf(step, `${name}.attention.self.query`, hidden, q, square),
    layerOf(step, `${name}.attention.self.key`, hidden, key, square),
    layerOf(step, `${name}.attention.self.value`, hidden, value, square),
  ]);
  const keys = appended(step, `text.${index}.key`, key);
  const values = appended(step, `text.${index}.value`, value);
  const [imageKey, imageValue] = [inputs[`image.${index}.key`], inputs[`image.${index}.value`]];
  const query = { shape: [rows, heads, 1, features / heads], dtype: 'float32' as const, dataId: {} };
  const imageColumns = columnsOf((n) => n > 0 && rows % n === 0, query, imageKey, imageValue);
  const { mask } = inputs;
  const addresses = {
    imageKey: imageKey === undefined ? 0 : backend.addressOf(imageKey),
    imageValue: imageValue === undefined ? 0 : backend.addressOf(imageValue),
    mask: mask === undefined ? 0 : backend.addressOf(mask),
  };
  backend.part(() =>
    attendRows(backend, {
      ...addresses,
      q,
      key: keys.address,
      value: values.address,
      maskStride: maskStep(inputs, rows, 1, past + 1),
      out: attended,
      rows,
      heads,
      tokens: 1,
      textColumns: past + 1,
      width: features / heads,
      images: imageKey?.shape[0] ?? rows,
      imageColumns,
    }),
  );
  multiply(backend, layerOf(step, `${name}.attention.output.dense`, attended, sum, square));
  normalize(step, `${name}.attention.output.LayerNorm`, sum, hidden, middle);
  backend.part(() => {
    const wide = wanted(inputs, `${name}.intermediate.dense.bias`, [undefined]).shape[0]!;
    const active = backend.scratch(rows * wide * 4);
    const { activation } = step;
    multiply(backend, {
      ...layerOf(step, `${name}.intermediate.dense`, middle, active, [features, wide]),
      activation,
    });
    multiply(backend, layerOf(step, `${name}.output.dense`, active, sum, [wide, features]));
  });
  normalize(step, `${name}.output.LayerNorm`, sum, middle, hidden);
  return [keys, values];
}

/** Rows of a table, one for each index, to `target`. */
function gatherRows(backend: KernelContext, table: TensorInfo, indices: readonly number[], target: number): void {
  const [count, width] = table.shape as [number, number];
  const from = backend.addressOf(table);
  for (const [r, index] of indices.entries()) {
    if (!(Number.isInteger(index) && index >= 0 && index < count))
      throw fault(NAME, 'index-out-of-range', `${index} is no row of [${count}, ${width}]`);
    const start = from + index * width * 4;
    backend.heap.u8.copyWithin(target + r * width * 4, start, start + width * 4);
  }
}

/**
 * One new token for each of R rows through BERT's post-norm decoder and the vocabulary: the bits of GitLinear, GitLayerNorm and GitAttention one
 * after the other, in one call.
 *
 * Inputs by the checkpoint's names: `git.embeddings.*` with tables [V, D] and [P, D], `git.encoder.layer.N.*` and `output.*` with weights [in, out];
 * `image.N.key` and `.value` [N, H, I, K], where there is an image; `text.N.key` and `.value` [R, H, S, K], unless the tokens are the first; `mask`
 * [1, S + 1] or [R, 1, S + 1], added to the scores of the text. Attributes: `ids` and `positions`, R numbers each, `layers`, `heads`, `epsilon`,
 * `activation`. Outputs: logits [R, 1, V], then of each layer the longer keys and values [R, H, S + 1, K].
 * @throws BackendError (`unsupported-activation`, `unsupported-dtype`, `index-out-of-range`).
 */
const decoderStep: Kernel = (backend, inputs, attributes) => {
  const [ids, positions] = [attributes['ids'] as readonly number[], attributes['positions'] as readonly number[]];
  const [layers, heads] = [attributes['layers'] as number, attributes['heads'] as number];
  requireFloats(NAME, ...Object.values(inputs));
  const words = wanted(inputs, 'git.embeddings.word_embeddings.weight', [undefined, undefined]);
  const [rows, features] = [ids.length, words.shape[1]!];
  const places = wanted(inputs, 'git.embeddings.position_embeddings.weight', [undefined, features]);
  util.assert(
    rows > 0 && positions.length === rows && features % heads === 0,
    () => `${NAME}: ${rows} ids, ${positions.length} positions, ${features} features of ${heads} heads`,
  );
  const scratch = () => backend.scratch(rows * features * 4);
  const step: Step = {
    ...{ backend, inputs, rows, features, heads },
    past: inputs['text.0.key']?.shape[2] ?? 0,
    epsilon: attributes['epsilon'] as number,
    activation: activationOf(NAME, attributes['activation']),
    ...{
      q: scratch(),
      key: scratch(),
      value: scratch(),
      attended: scratch(),
      sum: scratch(),
      hidden: scratch(),
      middle: scratch(),
    },
  };
  gatherRows(backend, words, ids, step.sum);
  gatherRows(backend, places, positions, step.middle);
  normalize(step, 'git.embeddings.LayerNorm', step.sum, step.middle, step.hidden);
  const cache = Array.from({ length: layers }, (_, index) => decoderLayer(step, index)).flat();
  const vocabulary = wanted(inputs, 'output.bias', [undefined]).shape[0]!;
  const logits = backend.output([rows, 1, vocabulary], 'float32');
  multiply(backend, layerOf(step, 'output', step.hidden, logits.address, [features, vocabulary]));
  return [logits, ...cache];
};

export const decoderStepKernels: KernelTable = { GitDecoderStep: decoderStep };
