import type { TensorInfo } from '@tensorflow/tfjs-core';
import { attention } from './attention.js';
import { layerNorm } from './layer-norm.js';
import { appendLinear, linear } from './linear.js';
import { check, type WebGpuBackend } from './program.js';

export type Inputs = Readonly<Record<string, TensorInfo | undefined>>;

/** What every layer of one step shares. */
interface Step {
  readonly backend: WebGpuBackend;
  readonly inputs: Inputs;
  /** Rows, width of the model, heads, text columns so far. */
  readonly rows: number;
  readonly features: number;
  readonly heads: number;
  readonly past: number;
  readonly epsilon: number;
  readonly activation: string;
  /** [rows, features] each: used by one layer after the other. `hidden` is what goes from layer to layer, `middle` what goes on beside the MLP. */
  readonly q: TensorInfo;
  readonly attended: TensorInfo;
  readonly sum: TensorInfo;
  readonly hidden: TensorInfo;
  readonly middle: TensorInfo;
}

function wanted(inputs: Inputs, name: string): TensorInfo {
  const found = inputs[name];
  check(found !== undefined, () => `GitDecoderStep: there is no ${name}`);
  return found;
}

const weightAndBias = (inputs: Inputs, name: string) => ({
  weight: wanted(inputs, `${name}.weight`),
  bias: wanted(inputs, `${name}.bias`),
});

function normalize(step: Step, name: string, x: TensorInfo, residual: TensorInfo, output: TensorInfo): void {
  const { weight, bias } = weightAndBias(step.inputs, name);
  layerNorm(step.backend, { x, residual }, [weight, bias], step.epsilon, output);
}

/** Another shape of the same numbers. */
const shaped = ({ dataId, dtype }: TensorInfo, shape: number[]): TensorInfo => ({ dataId, dtype, shape });

/** One post-norm BERT block on `step.hidden`, in place, in nine passes. Returns its longer keys and values. */
function decoderLayer(step: Step, index: number): [TensorInfo, TensorInfo] {
  const { backend, inputs, rows, features, heads, past, q, attended, sum, hidden, middle, activation } = step;
  const name = `git.encoder.layer.${index}`;
  const width = features / heads;
  const multiply = (layer: string, x: TensorInfo, output: TensorInfo, active = 'none') =>
    linear(backend, { x, m: rows, ...weightAndBias(inputs, `${name}.${layer}`), activation: active }, output);
  const appended = (layer: 'key' | 'value'): TensorInfo => {
    const product = { x: hidden, m: rows, ...weightAndBias(inputs, `${name}.attention.self.${layer}`) };
    const old = past === 0 ? undefined : wanted(inputs, `text.${index}.${layer}`);
    const longer = backend.makeTensorInfo([rows, heads, past + 1, width], 'float32');
    return appendLinear(backend, product, { past: old, heads, columns: past }, longer);
  };
  multiply('attention.self.query', hidden, q);
  const [key, value] = [appended('key'), appended('value')];
  const [imageKey, imageValue] = [inputs[`image.${index}.key`], inputs[`image.${index}.value`]];
  const { mask } = inputs;
  attention(backend, { q: shaped(q, [rows, heads, 1, width]), key, value, imageKey, imageValue, mask }, attended);
  multiply('attention.output.dense', attended, sum);
  normalize(step, `${name}.attention.output.LayerNorm`, sum, hidden, middle);
  const wide = backend.makeTensorInfo([rows, wanted(inputs, `${name}.intermediate.dense.weight`).shape[1]!], 'float32');
  multiply('intermediate.dense', middle, wide, activation);
  multiply('output.dense', wide, sum);
  backend.disposeData(wide.dataId);
  normalize(step, `${name}.output.LayerNorm`, sum, middle, hidden);
  return [key, value];
}

/**
 * One new token for each of R rows through BERT's post-norm decoder and the vocabulary: what `GitDecoderStep` of tfjs-backend-simd takes and returns.
 * All passes are recorded one after the other, and nothing is read back between them.
 */
export function decoderStep(
  backend: WebGpuBackend,
  columns: Inputs,
  attributes: Readonly<Record<string, unknown>>,
): TensorInfo[] {
  const inputs = { ...(attributes['parameters'] as Inputs), ...columns };
  const [ids, positions] = [attributes['ids'] as readonly number[], attributes['positions'] as readonly number[]];
  const [layers, heads] = [attributes['layers'] as number, attributes['heads'] as number];
  const words = wanted(inputs, 'git.embeddings.word_embeddings.weight');
  const places = wanted(inputs, 'git.embeddings.position_embeddings.weight');
  const [rows, features] = [ids.length, words.shape[1]!];
  check(
    rows > 0 && positions.length === rows && features % heads === 0,
    () => `GitDecoderStep: ${rows} ids, ${heads} heads`,
  );
  const isRow = (table: TensorInfo) => (index: number) =>
    Number.isInteger(index) && index >= 0 && index < table.shape[0]!;
  check(
    ids.every(isRow(words)) && positions.every(isRow(places)),
    () => `GitDecoderStep: no such row: ${ids}; ${positions}`,
  );
  const scratch = () => backend.makeTensorInfo([rows, features], 'float32');
  const own = { q: scratch(), attended: scratch(), sum: scratch(), hidden: scratch(), middle: scratch() };
  const step: Step = {
    ...{ backend, inputs, rows, features, heads, ...own },
    past: inputs['text.0.key']?.shape[2] ?? 0,
    epsilon: attributes['epsilon'] as number,
    activation: attributes['activation'] as string,
  };
  const indices = backend.makeTensorInfo([2 * rows], 'int32', Int32Array.from([...ids, ...positions]));
  const norm = weightAndBias(inputs, 'git.embeddings.LayerNorm');
  layerNorm(backend, { words, positions: places, ids: indices }, [norm.weight, norm.bias], step.epsilon, own.hidden);
  const cache = Array.from({ length: layers }, (_, index) => decoderLayer(step, index)).flat();
  const output = weightAndBias(inputs, 'output');
  const logits = backend.makeTensorInfo([rows, 1, output.weight.shape[1]!], 'float32');
  linear(backend, { x: own.hidden, m: rows, ...output }, logits);
  for (const { dataId } of [...Object.values(own), indices]) backend.disposeData(dataId);
  return [logits, ...cache];
}
