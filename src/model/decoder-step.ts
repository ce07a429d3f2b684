import type { NamedTensorMap, Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { runFused } from '../layers/fused-kernel.js';
import { type Git, namedParameters, type TextInput } from './git.js';
import type { ImageCache, TextCache } from './kv-cache.js';

/** The parameters of a step by the checkpoint's names, as the kernel takes them; listed once for each model. */
const parametersOf = new WeakMap<Git['params'], NamedTensorMap>();

function stepParameters(git: Git): NamedTensorMap {
  const known = parametersOf.get(git.params);
  if (known !== undefined) return known;
  const wanted = [...namedParameters(git)].filter(([name]) => /^(git\.(embeddings|encoder)|output)\./.test(name));
  const made = Object.fromEntries(wanted) as NamedTensorMap;
  parametersOf.set(git.params, made);
  return made;
}

/**
 * One new token for each of R rows, through all layers and the vocabulary in one call: logits [R, 1, V] and the longer text cache, with the bits of
 * `decodeText` and `vocabularyLogits`. Undefined where the backend has no such kernel (simd and webgpu have one).
 */
export function stepInOneCall(
  git: Git,
  input: TextInput & { readonly positions: readonly (readonly number[])[] },
  image: ImageCache,
  past: TextCache,
): { readonly logits: Tensor3D; readonly text: TextCache } | undefined {
  const { hiddenAct, layerNormEps, numAttentionHeads, numHiddenLayers } = git.config;
  const columns: Record<string, Tensor | undefined> = { mask: input.mask };
  for (const [part, cache] of [['image', image] as const, ['text', past] as const]) {
    for (const [layer, { key, value }] of cache.entries()) {
      columns[`${part}.${layer}.key`] = key;
      columns[`${part}.${layer}.value`] = value;
    }
  }
  const made = runFused<Tensor[]>(
    'GitDecoderStep',
    { ...stepParameters(git), ...columns },
    {
      ids: input.ids.map((row) => row[0]!),
      positions: input.positions.map((row) => row[0]!),
      ...{ layers: numHiddenLayers, heads: numAttentionHeads, epsilon: layerNormEps, activation: hiddenAct },
    },
  );
  if (made === undefined) return undefined;
  const [logits, ...cache] = made as [Tensor3D, ...Tensor4D[]];
  const text = Array.from({ length: numHiddenLayers }, (_, layer) => ({
    key: cache[2 * layer]!,
    value: cache[2 * layer + 1]!,
  }));
  return { logits, text };
}
