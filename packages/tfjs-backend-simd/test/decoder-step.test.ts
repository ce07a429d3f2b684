import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { MAX_WAITING } from '../src/abi.js';
import { type SimdBackend, setThreads, uploadWeight, type WeightFormat } from '../src/index.js';
import {
  composedStep,
  fusedLayers,
  isWeight,
  parametersOf,
  type StepAttributes,
  stepInOne,
  steps,
} from './kernel-cases/decoder-step.js';
import { expectNoTensors, holds, make, type Spec, useVariant, VARIANTS } from './support.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'int8', 'int8-fast'];

/** The tensors of a case, weights in `format`. */
const upload = (inputs: Readonly<Record<string, Spec>>, format: WeightFormat): tf.NamedTensorMap =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, spec]) => {
      if (!isWeight(name, spec.shape)) return [name, make(spec)];
      const [rows, columns] = spec.shape as [number, number];
      return [name, uploadWeight({ format, data: Float32Array.from(spec.values), shape: [rows, columns] })];
    }),
  );

/** Shapes and bits of all results. */
async function bitsOf(tensors: readonly tf.Tensor[]): Promise<string[]> {
  const found: string[] = [];
  for (const t of tensors) found.push(`[${t.shape}] ${Buffer.from((await t.data()).slice().buffer).toString('hex')}`);
  return found;
}

for (const { name, threads = 1 } of VARIANTS) {
  describe(`${name}: a decoder step in one call`, () => {
    before(() => useVariant(name));

    for (const format of FORMATS) {
      it(`has the bits of its layers one by one, ${format}`, () =>
        holds(
          steps,
          ({ inputs, attributes }) =>
            expectNoTensors(async () => {
              const made = upload(inputs as Readonly<Record<string, Spec>>, format);
              const one = stepInOne(made, attributes);
              const many = tf.tidy(() => composedStep(made, attributes, fusedLayers));
              assert.deepEqual(await bitsOf(one), await bitsOf(many));
              tf.dispose([one, many, made]);
            }),
          25,
        ));
    }

    it('has the same bits on one thread and on two, at a size that is shared, with more jobs than can wait', async () => {
      const step: StepAttributes = {
        ids: [1, 2, 3],
        positions: [4, 4, 4],
        layers: Math.ceil(MAX_WAITING / 15) + 1, // of fifteen jobs
        heads: 12,
        epsilon: 1e-5,
        activation: 'gelu',
      };
      const made = wide(step);
      const found: string[][] = [];
      for (const count of [1, 2]) {
        setThreads(count, name);
        const one = stepInOne(made, step);
        const many = tf.tidy(() => composedStep(made, step, fusedLayers));
        found.push(await bitsOf(one));
        assert.deepEqual(found[0], await bitsOf(many));
        tf.dispose([one, many]);
      }
      setThreads(threads, name);
      assert.deepEqual(found[1], found[0]);
      tf.dispose(made);
    });
  });
}

/** Inputs of a step of 384 features over 50 columns of an image and 4 of a text. */
function wide({ layers, heads, ids }: StepAttributes): tf.NamedTensorMap {
  const [D, R, V] = [384, ids.length, 1000];
  const numbers = (shape: number[], seed: number) => tf.randomUniform(shape, -0.2, 0.2, 'float32', seed);
  const made: tf.NamedTensorMap = {
    'git.embeddings.word_embeddings.weight': numbers([V, D], 1),
    'git.embeddings.position_embeddings.weight': numbers([9, D], 2),
    'git.embeddings.LayerNorm.weight': tf.ones([D]),
    'git.embeddings.LayerNorm.bias': tf.zeros([D]),
    'output.weight': numbers([D, V], 3),
    'output.bias': numbers([V], 4),
  };
  for (let layer = 0; layer < layers; layer++) {
    const name = `git.encoder.layer.${layer}`;
    const dense = (part: string, inputs: number, outputs: number) => {
      made[`${name}.${part}.weight`] = numbers([inputs, outputs], 5 + layer);
      made[`${name}.${part}.bias`] = numbers([outputs], 6 + layer);
    };
    for (const part of ['query', 'key', 'value']) dense(`attention.self.${part}`, D, D);
    dense('attention.output.dense', D, D);
    dense('intermediate.dense', D, 4 * D);
    dense('output.dense', 4 * D, D);
    for (const part of ['attention.output', 'output']) {
      made[`${name}.${part}.LayerNorm.weight`] = tf.ones([D]);
      made[`${name}.${part}.LayerNorm.bias`] = tf.zeros([D]);
    }
    for (const part of ['key', 'value']) {
      made[`image.${layer}.${part}`] = numbers([1, heads, 50, D / heads], 8);
      made[`text.${layer}.${part}`] = numbers([R, heads, 4, D / heads], 9);
    }
  }
  return made;
}

describe('simd: a decoder step in one call', () => {
  before(() => useVariant('simd'));
  const step: StepAttributes = { ids: [1], positions: [0], layers: 1, heads: 12, epsilon: 1e-5, activation: 'gelu' };

  it('sees that parameters were freed, replaced or changed since the last step', async () => {
    const made = wide(step);
    const name = 'git.encoder.layer.0.attention.self.query.weight';
    const query = tf.variable(made[name]!);
    made[name]!.dispose();
    made[name] = query;
    const parameters = parametersOf(made);
    const check = async () => {
      const one = stepInOne(made, step, parameters);
      const many = tf.tidy(() => composedStep(made, step, fusedLayers));
      assert.deepEqual(await bitsOf(one), await bitsOf(many));
      const [bits] = await bitsOf(one);
      tf.dispose([one, many]);
      return bits!;
    };
    const first = await check();
    assert.equal(await check(), first);
    const other = tf.randomUniform(query.shape, -0.2, 0.2, 'float32', 77);
    const kept = query.clone();
    query.assign(other); // the variable's numbers are elsewhere now, and the old ones still there
    other.dispose();
    const second = await check();
    assert.notEqual(second, first);
    query.assign(kept);
    kept.dispose();
    assert.equal(await check(), first);
    parameters['output.bias'] = tf.zeros([1000]); // another tensor, the old one freed
    made['output.bias']!.dispose();
    made['output.bias'] = parameters['output.bias'];
    assert.notEqual(await check(), first);
    for (const table of ['word', 'position']) {
      const name = `git.embeddings.${table}_embeddings.weight`;
      const old = parameters[name]!;
      parameters[name] = tf.randomUniform(old.shape, -0.2, 0.2, 'float32', 78);
      made[name] = parameters[name];
      old.dispose();
      await check();
    }
    // Something of the same size takes the place of a bias that was freed: the step must not read it.
    made['git.encoder.layer.0.output.dense.bias']!.dispose();
    const squatter = tf.ones([384]);
    assert.throws(() => stepInOne(made, step, parameters));
    tf.dispose([squatter, made]);
  });

  it('refuses what does not fit, and leaves nothing behind', async () => {
    const made = wide(step);
    const kept = () => (tf.backend() as SimdBackend).memory().simdBytesInUse;
    tf.dispose(stepInOne(made, step)); // packs the weights
    const [tensors, bytes] = [tf.memory().numTensors, kept()];
    const name = 'git.encoder.layer.0.intermediate.dense.bias';
    const short = tf.zeros([3]);
    for (const [inputs, attributes, message] of [
      [made, { ...step, ids: [1000] }, /index-out-of-range: 1000 is no row of \[1000, 384\]/],
      [made, { ...step, positions: [-1] }, /index-out-of-range: -1 is no row of \[9, 384\]/],
      [made, { ...step, positions: [] }, /1 ids, 0 positions/],
      [made, { ...step, heads: 7 }, /384 features of 7 heads/],
      [made, { ...step, activation: 'tanh' as never }, /unsupported-activation/],
      [made, { ...step, layers: 2 }, /git.encoder.layer.1.attention.self.query.bias \[undefined\] is not \[384\]/],
      [{ ...made, [name]: short }, step, /intermediate.dense.weight \[384,1536\] is not \[384,3\]/],
      [{ ...made, 'text.0.value': short }, step, /text.0.value \[3\] is not \[1,12,4,32\]/],
      [{ ...made, mask: tf.zeros([2, 2]) }, step, /mask \[2,2\] is neither/],
    ] as const) {
      assert.throws(() => stepInOne(inputs, attributes), message);
      if ('mask' in inputs) tf.dispose(inputs.mask);
    }
    short.dispose();
    assert.deepEqual([tf.memory().numTensors, kept()], [tensors, bytes]);
    tf.dispose(made);
  });
});
