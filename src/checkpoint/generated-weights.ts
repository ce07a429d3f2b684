import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.js';
import { mapSpec, type ParamsOf, type SpecTree, specEntries } from '../layers/param-spec.js';
import { transposedShape } from './layout.js';
import { elementCount, type StoredTensor, type TensorMap } from './stored-tensor.js';

/**
 * Weights by formula: a model of any size without a file, the same everywhere to the last bit. The formula is documented in the
 * reference's README ("full-b16"): a hash of name and index, spread evenly over offset ± scale.
 */

/** Which weights: the first rule whose suffix a name ends with gives its offset and scale. */
export interface WeightRecipe {
  readonly salt: string;
  readonly rules: readonly (readonly [suffix: string, offset: number, scale: number])[];
  /** Added to single values afterwards. */
  readonly add: readonly { readonly name: string; readonly index: number; readonly value: number }[];
}

/** The recipe of the git-base sized reference case: attention, norms and logits of a plausible size. */
export const GIT_BASE_RECIPE: WeightRecipe = {
  salt: 'git-b16:',
  rules: [
    ['output.LayerNorm.weight', 1, 0.4],
    ['embeddings.LayerNorm.weight', 1, 0.4],
    ['visual_projection.1.weight', 1, 0.4],
    ['layer_norm1.weight', 1, 0.4],
    ['layer_norm2.weight', 1, 0.4],
    ['pre_layrnorm.weight', 1, 0.4],
    ['post_layernorm.weight', 1, 0.4],
    ['class_embedding', 0, 0.7],
    ['position_embedding.weight', 0, 0.5],
    ['position_embeddings.weight', 0, 0.6],
    ['word_embeddings.weight', 0, 1.2],
    ['patch_embedding.weight', 0, 0.06],
    ['q_proj.weight', 0, 0.11],
    ['k_proj.weight', 0, 0.11],
    ['v_proj.weight', 0, 0.07],
    ['out_proj.weight', 0, 0.055],
    ['fc1.weight', 0, 0.06],
    ['fc2.weight', 0, 0.03],
    ['self.query.weight', 0, 0.2],
    ['self.key.weight', 0, 0.2],
    ['self.value.weight', 0, 0.04],
    ['attention.output.dense.weight', 0, 0.04],
    ['intermediate.dense.weight', 0, 0.07],
    ['output.dense.weight', 0, 0.05],
    ['visual_projection.0.weight', 0, 0.06],
    ['output.weight', 0, 0.19],
    ['self.value.bias', 0, 0.02],
    ['dense.bias', 0, 0.05],
    ['LayerNorm.bias', 0, 0.05],
    ['.bias', 0, 0.2],
  ],
  add: [{ name: 'output.bias', index: 102, value: 5.5 }], // so that a caption ends
};

/** FNV-1a, 32 bits, of the UTF-8 bytes. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** Values [first, first + values.length) of the tensor whose hash this is. */
function fill(values: Float32Array, first: number, hash: number, offset: number, scale: number): void {
  for (let i = 0; i < values.length; i++) {
    let x = (Math.imul(first + i, 0x9e3779b9) + hash) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    x ^= x >>> 16;
    values[i] = offset + ((x >>> 0) * 2 ** -31 - 1) * scale; // in double, rounded once by the store
  }
}

/** One tensor by the recipe; read() computes. Throws ConfigError (`recipe`) for a name that no rule covers. */
export function generatedTensor(name: string, shape: readonly number[], recipe: WeightRecipe): StoredTensor {
  const code = recipe.rules.find(([suffix]) => name.endsWith(suffix));
  if (!code)
    throw new ConfigError({ file: recipe.salt, path: name, code: 'recipe', detail: 'no rule covers this name' });
  const [, offset, scale] = code;
  const hash = fnv1a(recipe.salt + name);
  const byteLength = 4 * elementCount(shape);
  const read = async (begin = 0, end = byteLength) => {
    const values = new Float32Array((end - begin) / 4);
    fill(values, begin / 4, hash, offset, scale);
    for (const { name: changed, index, value } of recipe.add) {
      if (changed === name && index * 4 >= begin && index * 4 < end) values[index - begin / 4]! += value;
    }
    return new Uint8Array(values.buffer);
  };
  return { name, dtype: 'F32', shape, byteLength, file: 'generated weights', read };
}

/** All tensors of a spec by a recipe. */
export function generatedStore(spec: SpecTree, recipe: WeightRecipe = GIT_BASE_RECIPE): TensorMap {
  return new Map(specEntries(spec).map(({ name, spec: { shape } }) => [name, generatedTensor(name, shape, recipe)]));
}

/**
 * Parameters for tests and benches without a file: norms near one, matrices scaled by the root of their inputs, so that activations
 * keep their size. The caller owns the tensors.
 */
export function randomParams<S extends SpecTree>(spec: S, seed: number): ParamsOf<S> {
  return mapSpec(spec, (name, { shape, layout }): Tensor => {
    const values = new Float32Array(elementCount(shape));
    const isNorm = shape.length === 1 && name.endsWith('weight');
    const inputs = shape.slice(1).reduce((product, size) => product * size, 1);
    fill(values, 0, fnv1a(`${seed}:${name}`), isNorm ? 1 : 0, shape.length > 1 ? Math.sqrt(3 / inputs) : 0.1);
    return tensor(values, transposedShape(shape, layout), 'float32');
  });
}
