import type { Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { add, concat, fill, slice, tidy, zeros } from '@tensorflow/tfjs-core';
import { attend, forbiddenScores, mergeHeads, splitHeads, textMask } from '../layers/attention.js';
import { layerNorm } from '../layers/layer-norm.js';
import { activate, linear } from '../layers/linear.js';
import { tidyTree } from '../layers/tidy.js';
import type { GitConfig } from '../model/git-config.js';
import type { TextDecoder } from '../model/text-decoder.js';
import { activationGradient, attentionGradient, layerNormBackward, linearBackward, type Pass } from './gradients.js';

// One layer of the decoder over image and text tokens side by side, [B, I + T, D], forward and backward.

/** Tokens `from` to `from + count` of [B, T, D]. */
export const rows = (x: Tensor3D, from: number, count: number): Tensor3D =>
  slice(x, [0, from, 0], [x.shape[0], count, x.shape[2]]);

/** Values of one decoder layer that its backward pass uses. */
export interface DecoderLayerValues {
  readonly x: Tensor3D;
  readonly q: Tensor4D;
  readonly key: Tensor4D;
  readonly value: Tensor4D;
  readonly attended: Tensor3D;
  readonly sum1: Tensor3D;
  readonly h: Tensor3D;
  readonly wide: Tensor3D;
  readonly sum2: Tensor3D;
}

/** How many image tokens there are, and what is added to the scores. */
export interface Prefix {
  readonly image: number;
  /** Of all queries, [I + T, I + T] or [B, I + T, I + T]: an image's see the image only. */
  readonly mask: Tensor;
  /** Of the text's queries. */
  readonly textMask: Tensor;
}

/** Masks of B texts of T tokens after `image` columns. `attentionMask`: 0 where a token is padding. */
export function prefixOf(
  tokens: number,
  image: number,
  attentionMask: readonly (readonly number[])[] | undefined,
): Prefix {
  return tidyTree(() => {
    const text = textMask(tokens, 0, attentionMask) ?? (zeros([tokens, tokens]) as Tensor);
    const batch = text.shape.slice(0, -2);
    const ofText = concat([zeros([...batch, tokens, image]), text], -1);
    const hidden = fill([...batch, image, tokens], forbiddenScores().future);
    const ofImage = concat([zeros([...batch, image, image]), hidden], -1);
    return { image, mask: concat([ofImage, ofText], -2), textMask: ofText };
  });
}

type TextLayer = TextDecoder['layer'][number];

/** One post-norm layer over [B, I + T, D]. The last one needs its text rows only, [B, T, D]. */
export function decoderLayer(
  p: TextLayer,
  x: Tensor3D,
  c: GitConfig,
  prefix: Prefix,
  last: boolean,
): DecoderLayerValues {
  return tidyTree(() => {
    const { query, key: toKey, value: toValue } = p.attention.self;
    const out = last ? rows(x, prefix.image, x.shape[1] - prefix.image) : x;
    const q = splitHeads(linear(query, out), c.numAttentionHeads);
    const key = splitHeads(linear(toKey, x), c.numAttentionHeads);
    const value = splitHeads(linear(toValue, x), c.numAttentionHeads);
    const attended = attend(q, { text: { key, value }, textMask: last ? prefix.textMask : prefix.mask });
    const { output } = p.attention;
    const sum1: Tensor3D = add(linear(output.dense, attended), out);
    const h = layerNorm(output.LayerNorm, sum1, c.layerNormEps);
    const wide = linear(p.intermediate.dense, h);
    const sum2: Tensor3D = add(linear(p.output.dense, activate(c.hiddenAct, wide)), h);
    return { x: x.clone(), q, key, value, attended, sum1, h, wide, sum2 };
  });
}

/** Gradient by the layer's input [B, I + T, D], of the gradient by its output. */
export function decoderLayerBackward(
  pass: Pass,
  name: string,
  p: TextLayer,
  v: DecoderLayerValues,
  c: GitConfig,
  { image, mask, textMask }: Prefix,
  last: boolean,
  dy: Tensor3D,
): Tensor3D {
  return tidy(() => {
    const all = v.x.shape[1];
    const text = all - image;
    const { output } = p.attention;
    const dSum2 = layerNormBackward(pass, `${name}.output.LayerNorm`, p.output.LayerNorm, v.sum2, c.layerNormEps, dy);
    const active = activate(c.hiddenAct, v.wide);
    const dActive = linearBackward(pass, `${name}.output.dense`, p.output.dense, active, dSum2);
    const dWide = activationGradient(c.hiddenAct, v.wide, dActive);
    const dH: Tensor3D = add(
      linearBackward(pass, `${name}.intermediate.dense`, p.intermediate.dense, v.h, dWide),
      dSum2,
    );
    const at = `${name}.attention`;
    const dSum1 = layerNormBackward(pass, `${at}.output.LayerNorm`, output.LayerNorm, v.sum1, c.layerNormEps, dH);
    const dAttended = splitHeads(
      linearBackward(pass, `${at}.output.dense`, output.dense, v.attended, dSum1),
      c.numAttentionHeads,
    );
    const d = attentionGradient(v.q, v, last ? textMask : mask, dAttended);
    const { query, key, value } = p.attention.self;
    const out = last ? rows(v.x, image, text) : v.x;
    const dOut: Tensor3D = add(linearBackward(pass, `${at}.self.query`, query, out, mergeHeads(d.query)), dSum1);
    const dIn = add(
      linearBackward(pass, `${at}.self.key`, key, v.x, mergeHeads(d.key)),
      linearBackward(pass, `${at}.self.value`, value, v.x, mergeHeads(d.value)),
    ) as Tensor3D;
    const whole = last ? concat([zeros([dOut.shape[0], image, dOut.shape[2]]) as Tensor3D, dOut], 1) : dOut;
    return add(dIn, whole);
  });
}
