import type { Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { gather, reshape, tensor1d, tidy } from '@tensorflow/tfjs-core';
import { type AttentionColumns, attend, type KeyValue, splitHeads } from '../layers/attention.js';
import { embed, embeddingSpec } from '../layers/embeddings.js';
import { layerNorm, layerNormSpec } from '../layers/layer-norm.js';
import { linear, linearSpec } from '../layers/linear.js';
import type { ParamsOf } from '../layers/param-spec.js';
import { repeat } from '../layers/param-spec.js';
import type { Trace } from '../layers/tidy.js';
import { type Steps, tidyTree } from '../layers/tidy.js';
import type { GitConfig } from './git-config.js';

// BERT's post-norm encoder (Devlin et al., arXiv 1810.04805) used as GIT's decoder: no cross-attention, no token types.

const attentionSpec = (c: GitConfig) => ({
  self: {
    query: linearSpec(c.hiddenSize, c.hiddenSize),
    key: linearSpec(c.hiddenSize, c.hiddenSize),
    value: linearSpec(c.hiddenSize, c.hiddenSize),
  },
  output: { dense: linearSpec(c.hiddenSize, c.hiddenSize), LayerNorm: layerNormSpec(c.hiddenSize) },
});

export const textLayerSpec = (c: GitConfig) => ({
  attention: attentionSpec(c),
  intermediate: { dense: linearSpec(c.hiddenSize, c.intermediateSize) },
  output: { dense: linearSpec(c.intermediateSize, c.hiddenSize), LayerNorm: layerNormSpec(c.hiddenSize) },
});

export const textEmbeddingsSpec = (c: GitConfig) => ({
  word_embeddings: embeddingSpec(c.vocabSize, c.hiddenSize, 'embedding'),
  position_embeddings: embeddingSpec(c.maxPositionEmbeddings, c.hiddenSize),
  LayerNorm: layerNormSpec(c.hiddenSize),
});

export const textDecoderSpec = (c: GitConfig) => ({ layer: repeat(c.numHiddenLayers, () => textLayerSpec(c)) });

type TextLayer = ParamsOf<ReturnType<typeof textLayerSpec>>;
type TextEmbeddings = ParamsOf<ReturnType<typeof textEmbeddingsSpec>>;
export type TextDecoder = ParamsOf<ReturnType<typeof textDecoderSpec>>;

/** Word + position, normalized. ids, positions: B lists of T → float32 [B, T, D]. Trace name: `text.embeddings`. */
export function textEmbeddings(
  p: TextEmbeddings,
  ids: readonly (readonly number[])[],
  positions: readonly (readonly number[])[],
  c: GitConfig,
  trace?: Trace,
): Tensor3D {
  return tidy(() => {
    const x = layerNorm(
      p.LayerNorm,
      embed(p.word_embeddings, ids),
      c.layerNormEps,
      embed(p.position_embeddings, positions),
    );
    trace?.('text.embeddings', x);
    return x; // [B, T, D]
  });
}

/** Makes the columns a layer attends to from the new tokens' keys and values; tensors made here live as long as the result. */
export type Columns = (layer: number, fresh: KeyValue) => AttentionColumns;

/**
 * Runs x through all layers. x: float32 [B, T, D], returned with the same shape, with the columns that each layer attended to, which
 * are what a cache keeps. Trace names: `decoder.layer.N`, `decoder.attention.N`.
 *
 * @param last which of the T tokens is wanted of each row: the result is [B, 1, D] then, and the last layer, but for its keys and values, runs for
 *   those tokens alone, unless a trace listens.
 */
export function decodeTokens(
  p: TextDecoder,
  x: Tensor3D,
  c: GitConfig,
  columns: Columns,
  trace?: Trace,
  last?: readonly number[],
): { readonly hidden: Tensor3D; readonly attended: readonly AttentionColumns[] } {
  return tidyTree(() => {
    const attended: AttentionColumns[] = []; // returned, or this tidy would free what `columns` made
    let hidden = x;
    p.layer.forEach((layer, index) => {
      let seen = columns(index, keyValue(layer, hidden, c));
      attended.push(seen);
      if (last !== undefined && trace === undefined && index === p.layer.length - 1) {
        seen = { ...seen, textMask: seen.textMask && maskOf(seen.textMask, last) };
        hidden = tokensAt(hidden, last);
      }
      const listen = trace?.attentions === true ? (w: Tensor4D) => trace(`decoder.attention.${index}`, w) : undefined;
      hidden = textLayer(layer, hidden, c, seen, listen);
      trace?.(`decoder.layer.${index}`, hidden);
    });
    return { hidden: last === undefined ? hidden : tokensAt(hidden, last), attended };
  });
}

/** One token of each row: [R, T, D] → [R, 1, D]. */
function tokensAt(x: Tensor3D, at: readonly number[]): Tensor3D {
  const [rows, tokens, features] = x.shape;
  if (tokens === 1) return x.clone();
  return tidy(() => {
    const index = at.map((t, r) => r * tokens + t);
    return reshape(gather(reshape(x, [rows * tokens, features]), tensor1d(index, 'int32')), [rows, 1, features]);
  });
}

/** What those tokens see: [T, S] or [R, T, S] → [R, 1, S]. */
function maskOf(mask: Tensor, at: readonly number[]): Tensor {
  if (mask.rank === 3) return tokensAt(mask as Tensor3D, at);
  return reshape(gather(mask, tensor1d([...at], 'int32')), [at.length, 1, mask.shape[1]!]);
}

/**
 * The image's part of the cache, a layer a step: x: [N, I, D], every token seeing every other, up to the last layer's keys and values. The rest of
 * that layer, 10 of its 12 products of [D, D], runs only where a trace listens. Trace names: `image.decoder.layer.N`, `image.decoder.attention.N`.
 */
export function* imageCacheSteps(p: TextDecoder, x: Tensor3D, c: GitConfig, trace?: Trace): Steps<readonly KeyValue[]> {
  const cache: KeyValue[] = [];
  let hidden = x;
  for (const [index, layer] of p.layer.entries()) {
    if (index > 0) yield [hidden, ...cache.flatMap(({ key, value }) => [key, value])];
    const image = keyValue(layer, hidden, c);
    cache.push(image);
    if (index === p.layer.length - 1 && trace === undefined) break;
    const listen =
      trace?.attentions === true ? (w: Tensor4D) => trace(`image.decoder.attention.${index}`, w) : undefined;
    hidden = textLayer(layer, hidden, c, { image }, listen);
    trace?.(`image.decoder.layer.${index}`, hidden);
  }
  return cache;
}

/** Keys and values of a layer's input. x: float32 [B, T, D] → both [B, H, T, K]. */
function keyValue(p: TextLayer, x: Tensor3D, c: GitConfig): KeyValue {
  const { key, value } = p.attention.self;
  return tidyTree(() => ({
    key: splitHeads(linear(key, x), c.numAttentionHeads),
    value: splitHeads(linear(value, x), c.numAttentionHeads),
  }));
}

/** One post-norm BERT block. x: float32 [B, T, D], returned with the same shape. */
function textLayer(
  p: TextLayer,
  x: Tensor3D,
  c: GitConfig,
  columns: AttentionColumns,
  probabilities?: (weights: Tensor4D) => void,
): Tensor3D {
  return tidy(() => {
    const q = splitHeads(linear(p.attention.self.query, x), c.numAttentionHeads); // [B, H, T, K]
    const { output } = p.attention;
    const attended = linear(output.dense, attend(q, columns, probabilities)); // [B, T, D]
    const h = layerNorm(output.LayerNorm, attended, c.layerNormEps, x);
    const wide = linear(p.intermediate.dense, h, c.hiddenAct); // [B, T, intermediate]
    return layerNorm(p.output.LayerNorm, linear(p.output.dense, wide), c.layerNormEps, h);
  });
}
