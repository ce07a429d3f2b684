import type { Tensor2D, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { add, concat, mean, reshape, slice, tidy, tile } from '@tensorflow/tfjs-core';
import { attend, splitHeads } from '../layers/attention.js';
import { embeddingSpec, interpolatePositions, patchEmbedding, patchEmbeddingSpec } from '../layers/embeddings.js';
import { layerNorm, layerNormSpec } from '../layers/layer-norm.js';
import type { Activation } from '../layers/linear.js';
import { linear, linearSpec } from '../layers/linear.js';
import type { ParamsOf } from '../layers/param-spec.js';
import { repeat, tensorSpec } from '../layers/param-spec.js';
import { type Steps, type Trace, tidyTree } from '../layers/tidy.js';
import type { VisionConfig } from './git-config.js';
import { type MergedTokens, mergeTokens, sizeMask } from './token-merging.js';

// CLIP's image tower (Radford et al., arXiv 2103.00020) as GIT uses it: every token is kept, the class token included, unless `tokenMerging` says otherwise.

const selfAttentionSpec = (hidden: number) => ({
  k_proj: linearSpec(hidden, hidden),
  v_proj: linearSpec(hidden, hidden),
  q_proj: linearSpec(hidden, hidden),
  out_proj: linearSpec(hidden, hidden),
});

const mlpSpec = (c: VisionConfig) => ({
  fc1: linearSpec(c.hiddenSize, c.intermediateSize),
  fc2: linearSpec(c.intermediateSize, c.hiddenSize),
});

export const visionLayerSpec = (c: VisionConfig) => ({
  layer_norm1: layerNormSpec(c.hiddenSize),
  self_attn: selfAttentionSpec(c.hiddenSize),
  layer_norm2: layerNormSpec(c.hiddenSize),
  mlp: mlpSpec(c),
});

const visionEmbeddingsSpec = (c: VisionConfig) => ({
  class_embedding: tensorSpec([c.hiddenSize]),
  patch_embedding: patchEmbeddingSpec(c.hiddenSize, c.patchSize),
  position_embedding: embeddingSpec(c.imageTokens, c.hiddenSize),
});

export const visionEncoderSpec = (c: VisionConfig) => ({
  embeddings: visionEmbeddingsSpec(c),
  pre_layrnorm: layerNormSpec(c.hiddenSize), // spelled so in every checkpoint
  encoder: { layers: repeat(c.numHiddenLayers, () => visionLayerSpec(c)) },
  post_layernorm: layerNormSpec(c.hiddenSize),
});

type SelfAttention = ParamsOf<ReturnType<typeof selfAttentionSpec>>;
type Mlp = ParamsOf<ReturnType<typeof mlpSpec>>;
type VisionLayer = ParamsOf<ReturnType<typeof visionLayerSpec>>;
type VisionEmbeddings = ParamsOf<ReturnType<typeof visionEmbeddingsSpec>>;
export type VisionEncoder = ParamsOf<ReturnType<typeof visionEncoderSpec>>;

/**
 * Class token, then patches row by row, plus their positions. pixels: float32 [B, height, width, 3] → [B, I, D].
 * For another size than the trained one the position table is interpolated, as the original does.
 */
function visionEmbeddings(p: VisionEmbeddings, pixels: Tensor4D, c: VisionConfig): Tensor3D {
  return tidy(() => {
    const [batch, height, width] = pixels.shape;
    const [rows, columns] = [Math.floor(height / c.patchSize), Math.floor(width / c.patchSize)];
    const patches = patchEmbedding(p.patch_embedding, pixels); // [B, I-1, D]
    const classToken = tile(reshape(p.class_embedding, [1, 1, c.hiddenSize]), [batch, 1, 1]);
    const positions = interpolatePositions(p.position_embedding.weight as Tensor2D, rows, columns); // [I, D]
    return add(concat([classToken, patches], 1), positions); // [B, I, D]
  });
}

/** `sizes`: how many tokens each stands for, where some do for several. Also returns the keys, [B, H, I, K]. */
function selfAttention(
  p: SelfAttention,
  x: Tensor3D,
  heads: number,
  sizes?: Tensor2D,
  listen?: (weights: Tensor4D) => void,
): { readonly attended: Tensor3D; readonly key: Tensor4D } {
  const q = splitHeads(linear(p.q_proj, x), heads); // [B, H, I, K]
  const key = splitHeads(linear(p.k_proj, x), heads);
  const value = splitHeads(linear(p.v_proj, x), heads);
  const columns = sizes === undefined ? { image: { key, value } } : { text: { key, value }, textMask: sizeMask(sizes) };
  return { attended: linear(p.out_proj, attend(q, columns, listen)), key }; // [B, I, D]
}

function mlp(p: Mlp, x: Tensor3D, act: Activation): Tensor3D {
  return tidy(() => linear(p.fc2, linear(p.fc1, x, act)));
}

/** One pre-norm block of the CLIP vision transformer, which merges tokens between attention and MLP where the config says so. */
export function visionLayer(
  p: VisionLayer,
  { x, sizes }: MergedTokens,
  c: VisionConfig,
  name = 'vision.attention',
  trace?: Trace,
): MergedTokens {
  return tidyTree(() => {
    const normed: Tensor3D = layerNorm(p.layer_norm1, x, c.layerNormEps);
    const listen = trace?.attentions === true ? (weights: Tensor4D) => trace(name, weights) : undefined;
    const { attended, key } = selfAttention(p.self_attn, normed, c.numAttentionHeads, sizes, listen);
    let tokens: MergedTokens = { x: add(x, attended), sizes };
    if (c.tokenMerging !== undefined) tokens = mergeTokens(tokens, mean(key, 1), c.tokenMerging);
    const h = tokens.x;
    return { ...tokens, x: add(h, mlp(p.mlp, layerNorm(p.layer_norm2, h, c.layerNormEps), c.hiddenAct)) };
  });
}

/**
 * Pixels to image features, a layer a step. pixels: float32 [B, height, width, 3], normalized as the checkpoint asks → [B, I, D] with
 * I = 1 + ⌊height/P⌋·⌊width/P⌋, fewer with token merging. Trace names: `vision.embeddings`, `vision.pre_layernorm`, `vision.layer.N`,
 * `vision.attention.N`, `vision.post_layernorm`.
 */
export function* visionSteps(p: VisionEncoder, pixels: Tensor4D, c: VisionConfig, trace?: Trace): Steps<Tensor3D> {
  let x = visionEmbeddings(p.embeddings, pixels, c);
  trace?.('vision.embeddings', x);
  x = layerNorm(p.pre_layrnorm, x, c.layerNormEps);
  trace?.('vision.pre_layernorm', x);
  let sizes: Tensor2D | undefined;
  for (const [index, layer] of p.encoder.layers.entries()) {
    yield sizes === undefined ? [x] : [x, sizes];
    ({ x, sizes } = visionLayer(layer, { x, sizes }, c, `vision.attention.${index}`, trace));
    trace?.(`vision.layer.${index}`, x);
  }
  x = layerNorm(p.post_layernorm, x, c.layerNormEps);
  trace?.('vision.post_layernorm', x);
  return x;
}

/** The part of a [B·F, I, D] batch that is frame `frame` of each of B videos: [B, I, D]. */
export function frameOf(features: Tensor3D, frame: number, frames: number): Tensor3D {
  return tidy(() => {
    const [rows, tokens, hidden] = features.shape;
    const apart = reshape(features, [rows / frames, frames, tokens, hidden]);
    return reshape(slice(apart, [0, frame, 0, 0], [rows / frames, 1, tokens, hidden]), [rows / frames, tokens, hidden]);
  });
}
