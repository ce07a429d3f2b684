import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { type Spec, specs } from '../support.js';
import type { Drawn, KernelCase } from './case.js';

/** What a step does: attributes of `GitDecoderStep`, beside the decoder's parameters. */
export interface StepAttributes {
  readonly ids: readonly number[];
  readonly positions: readonly number[];
  readonly layers: number;
  readonly heads: number;
  readonly epsilon: number;
  readonly activation: 'gelu' | 'quick_gelu';
}

/** The parameters among the tensors of a step, by the checkpoint's names; the others are columns. */
export const parametersOf = (tensors: tf.NamedTensorMap): tf.NamedTensorMap =>
  Object.fromEntries(Object.entries(tensors).filter(([name]) => /^(git|output)\./.test(name)));

/** A step in one call; `parameters` is one object for all steps of a decoder. */
export function stepInOne(
  tensors: tf.NamedTensorMap,
  step: StepAttributes,
  parameters = parametersOf(tensors),
): tf.Tensor[] {
  const columns = Object.fromEntries(Object.entries(tensors).filter(([name]) => !(name in parameters)));
  return tf.engine().runKernel('GitDecoderStep', columns, { ...step, parameters } as never) as unknown as tf.Tensor[];
}

/** The layers that a step is made of, as tfjs's operations or as kernels of this backend. */
export interface StepLayers {
  linear(
    x: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor,
    activation: 'none' | StepAttributes['activation'],
  ): tf.Tensor;
  norm(x: tf.Tensor, residual: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: number): tf.Tensor;
  /** q [R, H, 1, K] and columns of text and, perhaps, of an image → [R, 1, H · K]. */
  attend(columns: Readonly<Record<'q' | 'key' | 'value', tf.Tensor>> & Readonly<Record<string, tf.Tensor>>): tf.Tensor;
}

/** The step, layer by layer: logits and the longer keys and values. */
export function composedStep(inputs: tf.NamedTensorMap, step: StepAttributes, layers: StepLayers): tf.Tensor[] {
  const { ids, positions, heads, epsilon, activation } = step;
  const at = (name: string) => inputs[name]!;
  const norm = (name: string, x: tf.Tensor, residual: tf.Tensor) =>
    layers.norm(x, residual, at(`${name}.weight`), at(`${name}.bias`), epsilon);
  const linear = (name: string, x: tf.Tensor, active: 'none' | StepAttributes['activation'] = 'none') =>
    layers.linear(x, at(`${name}.weight`), at(`${name}.bias`), active);
  const rows = (table: string, indices: readonly number[]) => {
    const found = tf.gather(at(`git.embeddings.${table}.weight`), tf.tensor1d([...indices], 'int32'));
    return tf.reshape(found, [indices.length, 1, -1]);
  };
  let x = norm('git.embeddings.LayerNorm', rows('word_embeddings', ids), rows('position_embeddings', positions));
  const cache: tf.Tensor[] = [];
  const split = (y: tf.Tensor) => tf.reshape(y, [ids.length, heads, 1, -1]);
  for (let index = 0; index < step.layers; index++) {
    const name = `git.encoder.layer.${index}`;
    const self = (part: string) => split(linear(`${name}.attention.self.${part}`, x));
    const longer = (part: 'key' | 'value') => {
      const [past, fresh] = [inputs[`text.${index}.${part}`], self(part)];
      return past === undefined ? fresh : tf.concat([past, fresh], 2);
    };
    const [q, key, value] = [self('query'), longer('key'), longer('value')];
    const image = [inputs[`image.${index}.key`], inputs[`image.${index}.value`]];
    const seen = layers.attend({
      ...{ q, key, value },
      ...(image[0] === undefined ? {} : { imageKey: image[0], imageValue: image[1]! }),
      ...(inputs['mask'] === undefined ? {} : { mask: inputs['mask'] }),
    });
    const h = norm(`${name}.attention.output.LayerNorm`, linear(`${name}.attention.output.dense`, seen), x);
    const wide = linear(`${name}.intermediate.dense`, h, activation);
    x = norm(`${name}.output.LayerNorm`, linear(`${name}.output.dense`, wide), h);
    cache.push(key, value);
  }
  return [linear('output', x), ...cache];
}

/** tfjs's operations, on any backend. */
const plainLayers: StepLayers = {
  linear(x, weight, bias, activation) {
    const product = tf.matMul(tf.reshape(x, [-1, weight.shape[0]!]), weight);
    const y = tf.reshape(tf.add(product, bias), [x.shape[0]!, 1, -1]);
    if (activation === 'none') return y;
    if (activation === 'quick_gelu') return tf.mul(y, tf.sigmoid(tf.mul(y, 1.702)));
    return tf.mul(tf.mul(y, 0.5), tf.add(tf.erf(tf.mul(y, Math.SQRT1_2)), 1));
  },
  norm(x, residual, gamma, beta, epsilon) {
    const { mean, variance } = tf.moments(tf.add(x, residual), -1, true);
    const centered = tf.sub(tf.add(x, residual), mean);
    return tf.add(tf.mul(tf.div(centered, tf.sqrt(tf.add(variance, epsilon))), gamma), beta);
  },
  attend({ q, key, value, imageKey, imageValue, mask }) {
    const [R, H, , K] = q.shape as [number, number, number, number];
    const shared = (image: tf.Tensor) => {
      const index = Array.from({ length: R }, (_, r) => Math.floor((r * image.shape[0]!) / R));
      return tf.gather(image, tf.tensor1d(index, 'int32'));
    };
    const scores = (keys: tf.Tensor) => tf.mul(tf.matMul(q, keys, false, true), 1 / Math.sqrt(K));
    const own = mask === undefined ? scores(key) : tf.add(scores(key), tf.reshape(mask, [-1, 1, 1, key.shape[2]!]));
    const all = imageKey === undefined ? own : tf.concat([scores(shared(imageKey)), own], 3);
    const values = imageValue === undefined ? value : tf.concat([shared(imageValue), value], 2);
    return tf.reshape(tf.matMul(tf.softmax(all), values), [R, 1, H * K]);
  },
};

/** The kernels of this backend, one call each. */
export const fusedLayers: StepLayers = {
  linear: (x, weight, bias, activation) =>
    tf.engine().runKernel('GitLinear', { x, weight, bias }, { activation }) as tf.Tensor,
  norm: (x, residual, gamma, beta, epsilon) =>
    tf.engine().runKernel('GitLayerNorm', { x, residual, gamma, beta }, { epsilon }) as tf.Tensor,
  attend: (columns) => tf.engine().runKernel('GitAttention', columns) as tf.Tensor,
};

/** Which of the inputs are weights of linear layers, [in, out]. */
export const isWeight = (name: string, shape: readonly number[]): boolean =>
  shape.length === 2 && name.endsWith('.weight') && !name.includes('embeddings');

const upTo = (most: number, least = 1) => fc.integer({ min: least, max: most });

/** Steps of any size: with and without image, past and mask, rows that share an image. */
export const steps: fc.Arbitrary<Drawn & { readonly attributes: StepAttributes & Record<string, unknown> }> = fc
  .record({
    ...{ images: upTo(2), perImage: upTo(4), heads: upTo(3), width: upTo(9), layers: upTo(3), vocabulary: upTo(60, 3) },
    ...{ wide: upTo(40), past: upTo(12, 0), imageColumns: upTo(20, 0), mask: fc.constantFrom('no', 'shared', 'rows') },
    ...{ activation: fc.constantFrom<StepAttributes['activation']>('gelu', 'quick_gelu'), seed: fc.nat(1000) },
  })
  .chain(({ images, perImage, heads, width, layers, vocabulary, wide, past, imageColumns, mask, activation, seed }) => {
    const [R, D] = [images * perImage, heads * width];
    const shapes: Record<string, number[]> = {
      'git.embeddings.word_embeddings.weight': [vocabulary, D],
      'git.embeddings.position_embeddings.weight': [past + 2, D],
      'git.embeddings.LayerNorm.weight': [D],
      'git.embeddings.LayerNorm.bias': [D],
      'output.weight': [D, vocabulary],
      'output.bias': [vocabulary],
    };
    for (let index = 0; index < layers; index++) {
      const name = `git.encoder.layer.${index}`;
      const dense = (part: string, inputs: number, outputs: number) => {
        shapes[`${name}.${part}.weight`] = [inputs, outputs];
        shapes[`${name}.${part}.bias`] = [outputs];
      };
      for (const part of ['query', 'key', 'value']) dense(`attention.self.${part}`, D, D);
      dense('attention.output.dense', D, D);
      dense('intermediate.dense', D, wide);
      dense('output.dense', wide, D);
      for (const part of ['attention.output', 'output']) {
        shapes[`${name}.${part}.LayerNorm.weight`] = [D];
        shapes[`${name}.${part}.LayerNorm.bias`] = [D];
      }
      for (const part of ['key', 'value']) {
        if (past > 0) shapes[`text.${index}.${part}`] = [R, heads, past, width];
        if (imageColumns > 0) shapes[`image.${index}.${part}`] = [images, heads, imageColumns, width];
      }
    }
    if (mask !== 'no') shapes['mask'] = mask === 'rows' ? [R, 1, past + 1] : [1, past + 1];
    const attributes = {
      ids: Array.from({ length: R }, (_, r) => (seed + 7 * r) % vocabulary),
      positions: Array.from({ length: R }, (_, r) => (past + r) % (past + 2)),
      ...{ layers, heads, epsilon: 1e-3, activation },
    };
    const names = Object.keys(shapes);
    const range = { min: -1, max: 1 };
    return fc.tuple(...names.map((name) => specs(shapes[name]!, 'float32', range))).map((made) => ({
      inputs: Object.fromEntries(made.map((spec, i) => [names[i]!, spec])) as Record<string, Spec>,
      attributes,
    }));
  });

export const decoderStepCase: KernelCase = {
  draw: steps,
  tolerance: 2e-4,
  reference: (inputs, attributes) => composedStep(inputs, attributes as unknown as StepAttributes, plainLayers),
  call: (inputs, attributes) => stepInOne(inputs, attributes as unknown as StepAttributes),
};
