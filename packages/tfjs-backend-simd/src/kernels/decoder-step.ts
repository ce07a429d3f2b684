import { type NamedTensorMap, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { AppendColumnsParam, Job, STREAM_ROWS, type Unary } from '../abi.js';
import { fault, type Inputs, type Kernel, type KernelContext, type Output, requireFloats } from '../kernel-context.js';
import { multiply, multiplyAll, type Panels, type Product } from '../product.js';
import { parametersOf } from '../thread-pool.js';
import { activationOf, attendRows, columnsOf, maskStep, normalizeRows } from './transformer.js';

const DECODER_STEP = 'GitDecoderStep';

function wanted(tensors: Inputs, name: string, shape: readonly (number | undefined)[]): TensorInfo {
  const found = tensors[name];
  const fits = found?.shape.length === shape.length && shape.every((n, d) => n === undefined || found.shape[d] === n);
  util.assert(fits, () => `${DECODER_STEP}: ${name} [${found?.shape}] is not [${shape.map((n) => n ?? '?')}]`);
  return found!;
}

/** A linear layer, and a layer norm, by addresses. */
type LinearLayer = Required<Pick<Product, 'k' | 'n' | 'b' | 'bias'>>;
type Norm = Readonly<Record<'gamma' | 'beta', number>>;

interface DecoderLayer {
  readonly query: LinearLayer;
  readonly key: LinearLayer;
  readonly value: LinearLayer;
  readonly attended: LinearLayer;
  readonly attendedNorm: Norm;
  readonly intermediate: LinearLayer;
  readonly output: LinearLayer;
  readonly outputNorm: Norm;
}

/** A decoder's parameters, checked, and where they are. */
interface Decoder {
  /** Its tensors, and whose numbers they had: a variable is assigned others. */
  readonly tensors: readonly TensorInfo[];
  readonly dataIds: readonly object[];
  /** [V, D] and [P, D] */
  readonly words: TensorInfo;
  readonly positions: TensorInfo;
  readonly norm: Norm;
  readonly layers: readonly DecoderLayer[];
  readonly vocabulary: LinearLayer;
}

/** A decoder's parameters, looked up by their names once, and again when one of them was freed or assigned to. */
function decoderOf(backend: KernelContext, parameters: NamedTensorMap, layers: number): Decoder {
  const known = backend.notes.get(parameters) as Decoder | undefined;
  const same = known?.layers.length === layers && known.tensors.every(({ dataId }, i) => dataId === known.dataIds[i]);
  if (same) return known;
  const found = findDecoder(backend, parameters, layers);
  backend.notes.set(parameters, found);
  return found;
}

/** Weights are packed here, once, as by `GitLinear`. */
function findDecoder(backend: KernelContext, parameters: Inputs, layers: number): Decoder {
  requireFloats(DECODER_STEP, ...Object.values(parameters));
  const words = wanted(parameters, 'git.embeddings.word_embeddings.weight', [undefined, undefined]);
  const features = words.shape[1]!;
  const norm = (name: string): Norm => ({
    gamma: backend.fixedAddressOf(wanted(parameters, `${name}.weight`, [features])),
    beta: backend.fixedAddressOf(wanted(parameters, `${name}.bias`, [features])),
  });
  const panels = new Map<TensorInfo, Panels>();
  const linear = (name: string, k: number, outputs?: number): LinearLayer => {
    const bias = wanted(parameters, `${name}.bias`, [outputs]);
    const n = bias.shape[0]!;
    const weight = wanted(parameters, `${name}.weight`, [k, n]);
    const b = backend.pack(weight, k, n);
    panels.set(weight, b);
    return { k, n, b, bias: backend.fixedAddressOf(bias) };
  };
  const layer = (index: number): DecoderLayer => {
    const name = `git.encoder.layer.${index}`;
    const self = (part: string) => linear(`${name}.attention.self.${part}`, features, features);
    const [query, key, value] = [self('query'), self('key'), self('value')];
    const intermediate = linear(`${name}.intermediate.dense`, features);
    return {
      ...{ query, key, value, intermediate },
      attended: linear(`${name}.attention.output.dense`, features, features),
      attendedNorm: norm(`${name}.attention.output.LayerNorm`),
      output: linear(`${name}.output.dense`, intermediate.n, features),
      outputNorm: norm(`${name}.output.LayerNorm`),
    };
  };
  const tensors = Object.values(parameters);
  const decoder = {
    ...{ tensors, dataIds: tensors.map(({ dataId }) => dataId), words },
    positions: wanted(parameters, 'git.embeddings.position_embeddings.weight', [undefined, features]),
    norm: norm('git.embeddings.LayerNorm'),
    layers: Array.from({ length: layers }, (_, index) => layer(index)),
    vocabulary: linear('output', features),
  };
  for (const tensor of tensors) backend.note(tensor);
  const stayed = [...panels].every(([weight, b]) => backend.packedOf(weight) === b);
  util.assert(stayed, () => `${DECODER_STEP}: weights of different shapes share their numbers`);
  return decoder;
}

/** What every layer of one step shares. */
interface Step {
  readonly backend: KernelContext;
  readonly inputs: Inputs;
  /** Rows, width of the model, heads, text columns so far. */
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

/** The product of [rows, k] at `a` with a linear layer, into `c`. */
const productOf = ({ rows }: Step, { k, n, b, bias }: LinearLayer, a: number, c: number): Product => ({
  ...{ m: rows, k, n, a, lda: k * 4, b, c, ldc: n * 4, bias },
});

function normalize({ backend, rows, features, epsilon }: Step, norm: Norm, x: number, residual: number, y: number) {
  const { gamma, beta } = norm;
  backend.part(() => normalizeRows(backend, { x, residual, gamma, beta, y, rows, columns: features, epsilon }));
}

/** The names of a layer's columns, made once: to make a name takes longer than to look it up. */
const NAMES: { readonly image: readonly [string, string]; readonly text: readonly [string, string] }[] = [];

const namesOf = (layer: number) =>
  (NAMES[layer] ??= {
    image: [`image.${layer}.key`, `image.${layer}.value`],
    text: [`text.${layer}.key`, `text.${layer}.value`],
  });

/** The past columns [rows, heads, S, K], where there are any, and a fresh one [rows, heads · K]: a new tensor [rows, heads, S + 1, K]. */
function appended({ backend, inputs, rows, heads, features, past }: Step, name: string, fresh: number): Output {
  const width = features / heads;
  const old = past === 0 ? undefined : wanted(inputs, name, [rows, heads, past, width]);
  const longer = backend.output([rows, heads, past + 1, width], 'float32');
  const from = old === undefined ? 0 : backend.addressOf(old);
  const [pastBytes, freshBytes] = [past * width * 4, width * 4];
  const parameters = { past: from, fresh, target: longer.address, rows: rows * heads, pastBytes, freshBytes };
  backend.pool.run(Job.appendColumns, 1, parametersOf(AppendColumnsParam, parameters));
  return longer;
}

/** One post-norm BERT block on `step.hidden`, in place. Returns its longer keys and values. */
function decoderLayer(step: Step, layer: DecoderLayer, index: number): [Output, Output] {
  const { backend, inputs, rows, features, heads, past, q, key, value, attended, sum, hidden, middle } = step;
  multiplyAll(backend, [
    productOf(step, layer.query, hidden, q),
    productOf(step, layer.key, hidden, key),
    productOf(step, layer.value, hidden, value),
  ]);
  const names = namesOf(index);
  const keys = appended(step, names.text[0], key);
  const values = appended(step, names.text[1], value);
  const [imageKey, imageValue] = [inputs[names.image[0]], inputs[names.image[1]]];
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
  multiply(backend, productOf(step, layer.attended, attended, sum));
  normalize(step, layer.attendedNorm, sum, hidden, middle);
  backend.part(() => {
    const active = backend.scratch(rows * layer.intermediate.n * 4);
    const { activation } = step;
    multiply(backend, { ...productOf(step, layer.intermediate, middle, active), activation });
    multiply(backend, productOf(step, layer.output, active, sum));
  });
  normalize(step, layer.outputNorm, sum, middle, hidden);
  return [keys, values];
}

/** Rows of a table, one for each index, to `target`. */
function gatherRows(backend: KernelContext, table: TensorInfo, indices: readonly number[], target: number): void {
  const [count, width] = table.shape as [number, number];
  for (const index of indices)
    if (!(Number.isInteger(index) && index >= 0 && index < count))
      throw fault(DECODER_STEP, 'index-out-of-range', `${index} is no row of [${count}, ${width}]`);
  backend.copyRows(table, indices, target);
}

/**
 * One new token for each of R rows through BERT's post-norm decoder and the vocabulary: the bits of GitLinear, GitLayerNorm and GitAttention one
 * after the other, in one call.
 *
 * Inputs: `image.N.key` and `.value` [N, H, I, K], where there is an image; `text.N.key` and `.value` [R, H, S, K], unless the tokens are the first;
 * `mask` [1, S + 1] or [R, 1, S + 1], added to the scores of the text. Attributes: `parameters`, an object of tensors by the checkpoint's names,
 * `git.embeddings.*` with tables [V, D] and [P, D], `git.encoder.layer.N.*` and `output.*` with weights [in, out], which is looked through when it is
 * first used, and again after one of its tensors was freed or assigned to (for other tensors take another object); `ids` and `positions`, R numbers each; `layers`, `heads`, `epsilon`,
 * `activation`. Outputs: logits [R, 1, V], then of each layer the longer keys and values [R, H, S + 1, K].
 * @throws BackendError (`unsupported-activation`, `unsupported-dtype`, `index-out-of-range`).
 */
export const decoderStep: Kernel = (backend, inputs, attributes) => {
  const [ids, positions] = [attributes['ids'] as readonly number[], attributes['positions'] as readonly number[]];
  const [layers, heads] = [attributes['layers'] as number, attributes['heads'] as number];
  requireFloats(DECODER_STEP, ...Object.values(inputs));
  const decoder = decoderOf(backend, (attributes['parameters'] ?? {}) as NamedTensorMap, layers);
  const [rows, features] = [ids.length, decoder.words.shape[1]!];
  util.assert(
    rows > 0 && positions.length === rows && features % heads === 0,
    () => `${DECODER_STEP}: ${rows} ids, ${positions.length} positions, ${features} features of ${heads} heads`,
  );
  const scratch = () => backend.scratch(rows * features * 4);
  const step: Step = {
    ...{ backend, inputs, rows, features, heads },
    past: inputs['text.0.key']?.shape[2] ?? 0,
    epsilon: attributes['epsilon'] as number,
    activation: activationOf(DECODER_STEP, attributes['activation']),
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
  gatherRows(backend, decoder.words, ids, step.sum);
  gatherRows(backend, decoder.positions, positions, step.middle);
  const logits = backend.output([rows, 1, decoder.vocabulary.n], 'float32');
  const cache: Output[] = [];
  const decode = () => {
    normalize(step, decoder.norm, step.sum, step.middle, step.hidden);
    for (const [index, layer] of decoder.layers.entries()) cache.push(...decoderLayer(step, layer, index));
    multiply(backend, productOf(step, decoder.vocabulary, step.hidden, logits.address));
  };
  if (rows <= STREAM_ROWS) backend.pool.inOneGo(decode);
  else decode(); // so many rows take scratch memory that would add up, and JavaScript is a small part of their time
  return [logits, ...cache];
};
