import type { Tensor, Tensor2D, Tensor3D, Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { add, concat, gather, matMul, reshape, slice, sum, tensor1d, tidy, tile } from '@tensorflow/tfjs-core';
import { attend, mergeHeads, splitHeads } from '../layers/attention.js';
import { cutPatches, embed, embedPatches } from '../layers/embeddings.js';
import { layerNorm } from '../layers/layer-norm.js';
import { activate, linear } from '../layers/linear.js';
import { tidyTree } from '../layers/tidy.js';
import type { GitConfig, VisionConfig } from '../model/git-config.js';
import { frameOf, type VisionEncoder } from '../model/vision-encoder.js';
import { rows } from './backward-decoder.js';
import {
  activationGradient,
  attentionGradient,
  embeddingGradient,
  layerNormBackward,
  linearBackward,
  type Pass,
  plus,
} from './gradients.js';

// The vision tower over the frames of a micro-batch, forward and backward.

/** Where the tower stands in the names of a checkpoint. */
export const VISION = 'git.image_encoder.vision_model';

/** What the tower gets of a micro-batch. */
export interface VisionInput {
  /** Normalized pixels [B, height, width, 3] or [B, F, height, width, 3]; not needed where `features` are given. */
  readonly pixels?: Tensor4D | Tensor5D | undefined;
  /**
   * Which patches of each frame the tower computes, B·F rows of K numbers from 0 on; all where it is not given. A frame has I = 1 + K tokens then,
   * those of its patches in this order. Patches that are left out make a step cheaper (FLIP, arXiv 2212.00794).
   */
  readonly patches?: readonly (readonly number[])[] | undefined;
}

type VisionLayer = VisionEncoder['encoder']['layers'][number];

interface VisionLayerValues {
  readonly x: Tensor3D;
  readonly normed1: Tensor3D;
  readonly q: Tensor4D;
  readonly key: Tensor4D;
  readonly value: Tensor4D;
  readonly attended: Tensor3D;
  readonly h: Tensor3D;
  readonly normed2: Tensor3D;
  readonly wide: Tensor3D;
  readonly y: Tensor3D;
}

/** One pre-norm layer of the vision tower over [B, I, Dv]. */
function visionLayer(p: VisionLayer, x: Tensor3D, c: VisionConfig): VisionLayerValues {
  return tidyTree(() => {
    const normed1 = layerNorm(p.layer_norm1, x, c.layerNormEps);
    const q = splitHeads(linear(p.self_attn.q_proj, normed1), c.numAttentionHeads);
    const key = splitHeads(linear(p.self_attn.k_proj, normed1), c.numAttentionHeads);
    const value = splitHeads(linear(p.self_attn.v_proj, normed1), c.numAttentionHeads);
    const attended = attend(q, { text: { key, value } });
    const h: Tensor3D = add(x, linear(p.self_attn.out_proj, attended));
    const normed2 = layerNorm(p.layer_norm2, h, c.layerNormEps);
    const wide = linear(p.mlp.fc1, normed2);
    const y: Tensor3D = add(h, linear(p.mlp.fc2, activate(c.hiddenAct, wide)));
    return { x: x.clone(), normed1, q, key, value, attended, h, normed2, wide, y };
  });
}

function visionLayerBackward(
  pass: Pass,
  name: string,
  p: VisionLayer,
  v: VisionLayerValues,
  c: VisionConfig,
  dy: Tensor3D,
): Tensor3D {
  return tidy(() => {
    const active = activate(c.hiddenAct, v.wide);
    const dActive = linearBackward(pass, `${name}.mlp.fc2`, p.mlp.fc2, active, dy);
    const dWide = activationGradient(c.hiddenAct, v.wide, dActive);
    const dNormed2 = linearBackward(pass, `${name}.mlp.fc1`, p.mlp.fc1, v.normed2, dWide);
    const dH: Tensor3D = add(
      dy,
      layerNormBackward(pass, `${name}.layer_norm2`, p.layer_norm2, v.h, c.layerNormEps, dNormed2),
    );
    const at = `${name}.self_attn`;
    const dAttended = linearBackward(pass, `${at}.out_proj`, p.self_attn.out_proj, v.attended, dH);
    const d = attentionGradient(v.q, v, undefined, splitHeads(dAttended, c.numAttentionHeads));
    const dNormed1 = add(
      add(
        linearBackward(pass, `${at}.q_proj`, p.self_attn.q_proj, v.normed1, mergeHeads(d.query)),
        linearBackward(pass, `${at}.k_proj`, p.self_attn.k_proj, v.normed1, mergeHeads(d.key)),
      ),
      linearBackward(pass, `${at}.v_proj`, p.self_attn.v_proj, v.normed1, mergeHeads(d.value)),
    ) as Tensor3D;
    return add(dH, layerNormBackward(pass, `${name}.layer_norm1`, p.layer_norm1, v.x, c.layerNormEps, dNormed1));
  });
}

export interface VisionForward {
  /** The tokens that are computed. */
  readonly embedded: Tensor3D;
  readonly inputs: Tensor3D[];
  readonly values: (VisionLayerValues | undefined)[];
  /** What the last layer norm sees. */
  readonly last: Tensor3D;
  /** [B·F, I, Dv] */
  readonly features: Tensor3D;
}

/** Each frame as an image of its own: [B·F, height, width, 3]. */
const framesOf = (pixels: Tensor4D | Tensor5D): Tensor4D =>
  pixels.rank === 5
    ? reshape(pixels, [pixels.shape[0] * pixels.shape[1], ...pixels.shape.slice(2)] as [number, number, number, number])
    : (pixels as Tensor4D);

/** The pixels of the patches that are computed, [B·F·(I-1), P·P·3]. */
function patchesOf({ pixels, patches }: VisionInput, { patchSize, grid }: VisionConfig): Tensor2D {
  return tidy(() => {
    const all = cutPatches(framesOf(pixels!), patchSize);
    if (patches === undefined) return all;
    const rows = patches.flatMap((kept, n) => kept.map((patch) => n * grid * grid + patch));
    return gather(all, tensor1d(rows, 'int32'));
  });
}

/** Numbers of the tokens that are computed of each frame, where it is not all. */
const tokensOf = ({ patches }: VisionInput): number[][] | undefined =>
  patches?.map((kept) => [0, ...kept.map((patch) => 1 + patch)]);

/** Runs the tower; `pass.own` owns what it returns. */
export async function visionForward(
  { recompute, own, free, pause }: Pass,
  tower: VisionEncoder,
  batch: VisionInput,
  { vision: c }: GitConfig,
): Promise<VisionForward> {
  const embedded = own(
    tidy(() => {
      const frames = framesOf(batch.pixels!).shape[0];
      const { position_embedding: positions, class_embedding: first } = tower.embeddings;
      const embedded = embedPatches(tower.embeddings.patch_embedding, patchesOf(batch, c));
      const apart = reshape(embedded, [frames, -1, c.hiddenSize]) as Tensor3D;
      const classToken = tile(reshape(first, [1, 1, c.hiddenSize]), [frames, 1, 1]);
      const tokens = tokensOf(batch);
      return add(concat([classToken, apart], 1), tokens ? embed(positions, tokens) : positions.weight) as Tensor3D;
    }),
  );
  let x = own(layerNorm(tower.pre_layrnorm, embedded, c.layerNormEps));
  const inputs: Tensor3D[] = [];
  const values: (VisionLayerValues | undefined)[] = [];
  for (const layer of tower.encoder.layers) {
    await pause();
    const made = own(visionLayer(layer, x, c));
    inputs.push(x);
    x = own(made.y.clone());
    values.push(recompute ? undefined : made);
    if (recompute) free(made);
  }
  return { embedded, inputs, values, last: x, features: own(layerNorm(tower.post_layernorm, x, c.layerNormEps)) };
}

/** Temporal embeddings of a video's frames, and the frames one after the other: [B·F, I, Dv] → [B, F·I, Dv]; images stay as they are. */
export function addTemporal(features: Tensor3D, pixels: Tensor4D | Tensor5D, temporal: readonly Tensor[]): Tensor3D {
  if (pixels.rank === 4) return features.clone();
  const frames = pixels.shape[1]!;
  return tidy(() =>
    concat(
      Array.from({ length: frames }, (_, f) => add(frameOf(features, f, frames), temporal[f]!) as Tensor3D),
      1,
    ),
  );
}

/** Outputs of all layers, [B·F, I, Dv] each. */
export const layerOutputs = ({ inputs, last }: VisionForward): Tensor3D[] => [...inputs.slice(1), last];

/** Adds the tower's gradients, of the gradient by its features [B, F·I, Dv], if there is one, and by the outputs of some of its layers. */
export async function visionBackward(
  pass: Pass,
  tower: VisionEncoder,
  forward: VisionForward,
  batch: VisionInput,
  { vision: c }: GitConfig,
  dFeatures: Tensor3D | undefined,
  dOutputs: ReadonlyMap<number, Tensor3D> = new Map(),
): Promise<void> {
  const { gradients, own, free } = pass;
  const pixels = batch.pixels!;
  let dy =
    dFeatures &&
    own(
      tidy(() => {
        const [all, tokens, hidden] = forward.features.shape;
        const frames = pixels.rank === 5 ? pixels.shape[1]! : 1;
        const apart = reshape(dFeatures, [all / frames, frames, tokens, hidden]) as Tensor4D;
        if (pixels.rank === 5) {
          for (let f = 0; f < frames; f++)
            gradients.add(`git.img_temperal_embedding.${f}`, (before) => {
              const own = sum(slice(apart, [0, f, 0, 0], [all / frames, 1, tokens, hidden]), [0, 1, 2]);
              return plus(before, reshape(own, [1, 1, hidden]));
            });
        }
        const dPost = reshape(apart, [all, tokens, hidden]) as Tensor3D;
        return layerNormBackward(
          pass,
          `${VISION}.post_layernorm`,
          tower.post_layernorm,
          forward.last,
          c.layerNormEps,
          dPost,
        );
      }),
    );
  const { layers } = tower.encoder;
  for (let index = layers.length - 1; index >= 0; index--) {
    const dOutput = dOutputs.get(index);
    if (dOutput !== undefined) {
      const before = dy;
      dy = own(before === undefined ? dOutput.clone() : (add(before, dOutput) as Tensor3D));
      free(before);
    }
    if (dy === undefined) continue; // nothing depends on this layer
    const below = dy;
    await pass.pause();
    const made = forward.values[index] ?? own(visionLayer(layers[index]!, forward.inputs[index]!, c));
    dy = own(visionLayerBackward(pass, `${VISION}.encoder.layers.${index}`, layers[index]!, made, c, below));
    free(made);
    free(below);
    if (pass.recompute) free(forward.inputs[index]);
  }
  const dFirst = dy;
  if (dFirst === undefined) return;
  tidy(() => {
    const dEmbedded = layerNormBackward(
      pass,
      `${VISION}.pre_layrnorm`,
      tower.pre_layrnorm,
      forward.embedded,
      c.layerNormEps,
      dFirst,
    );
    const [frames, tokens, hidden] = dEmbedded.shape;
    const at = `${VISION}.embeddings`;
    const { position_embedding: positions, patch_embedding: patchEmbedding } = tower.embeddings;
    gradients.add(`${at}.position_embedding.weight`, (before) => {
      const kept = tokensOf(batch);
      if (kept !== undefined) return embeddingGradient(positions.weight, kept, dEmbedded, undefined, before);
      return plus(before, sum(dEmbedded, 0));
    });
    gradients.add(`${at}.class_embedding`, (before) => plus(before, reshape(sum(rows(dEmbedded, 0, 1), 0), [hidden])));
    gradients.add(`${at}.patch_embedding.weight`, (before) => {
      const dPatches = reshape(rows(dEmbedded, 1, tokens - 1), [frames * (tokens - 1), hidden]) as Tensor2D;
      const own = matMul(patchesOf(batch, c), dPatches, true, false);
      return plus(before, reshape(own, patchEmbedding.weight.shape));
    });
  });
}
