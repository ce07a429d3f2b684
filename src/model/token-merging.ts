import type { Rank, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import {
  add,
  argMax,
  cast,
  concat,
  div,
  equal,
  expandDims,
  gather,
  log,
  matMul,
  max,
  mul,
  neg,
  ones,
  range,
  reshape,
  slice,
  sqrt,
  squeeze,
  sum,
  tensor1d,
  tile,
  topk,
} from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { tidyTree } from '../layers/tidy.js';
import { showValue } from '../options.js';
import type { GitConfig } from './git-config.js';

// Token merging (Bolya et al., ICLR 2023, arXiv 2210.09461; github.com/facebookresearch/ToMe, tome/merge.py): between attention and MLP each layer
// of the vision tower joins the r pairs of tokens whose keys are most alike. No training; fewer tokens from layer to layer, and in the cache.

/** Tokens, and how many of the image's own each of them stands for. */
export interface MergedTokens {
  /** [B, I, D] */
  readonly x: Tensor3D;
  /** [B, I]; undefined where each stands for itself. */
  readonly sizes: Tensor2D | undefined;
}

/** `config` with `tokenMerging` tokens merged in each layer of its vision tower. @throws OptionError unless that is a whole number from 0 to half of the tokens. */
export function withTokenMerging(config: GitConfig, tokenMerging: unknown): GitConfig {
  const { vision } = config;
  const most = Math.floor((vision.imageTokens - 1) / 2);
  if (tokenMerging === undefined || tokenMerging === 0) return config;
  if (!Number.isInteger(tokenMerging) || (tokenMerging as number) < 0 || (tokenMerging as number) > most) {
    const detail = `expected a whole number from 0 to ${most}, half of the model's image tokens, found ${showValue(tokenMerging)}`;
    throw new OptionError({ path: 'tokenMerging', code: 'out-of-range', detail });
  }
  return { ...config, vision: { ...vision, tokenMerging: tokenMerging as number } };
}

/** Below every cosine: what the class token, which is never merged into another, has in place of its best one. */
const NEVER = -4;

/**
 * Bipartite soft matching: tokens at even places look for the one at an odd place whose key is most alike (cosine), and the r pairs that are most
 * alike become one token, the mean of all that it stands for. The other even tokens come first in the result, in their order, the class token in
 * front, then the odd ones.
 *
 * @param keys [B, I, K]: keys of the layer's attention, the mean of its heads.
 * @param r at most half of the tokens without the class token are merged, however large it is.
 */
export function mergeTokens({ x, sizes }: MergedTokens, keys: Tensor3D, r: number): MergedTokens {
  return tidyTree(() => {
    const [batch, tokens] = x.shape;
    const merged = Math.min(r, Math.floor((tokens - 1) / 2));
    if (merged === 0) return { x: x.clone(), sizes: sizes?.clone() };
    const [evens, odds] = [Math.ceil(tokens / 2), Math.floor(tokens / 2)];
    const [even, odd] = [range(0, tokens, 2, 'int32'), range(1, tokens, 2, 'int32')];
    const alike = div(keys, sqrt(sum(mul(keys, keys), -1, true)));
    const cosines: Tensor3D = matMul(gather(alike, even, 1), gather(alike, odd, 1), false, true); // [B, evens, odds]
    const never = tensor1d(Array.from({ length: evens }, (_, place) => (place === 0 ? NEVER : 0)));
    const order = topk(add(max(cosines, 2), never), evens).indices; // [B, evens], most alike first
    const gone = slice(order, [0, 0], [batch, merged]) as Tensor2D;
    const kept = ascending(slice(order, [0, merged], [batch, evens - merged]) as Tensor2D);
    const partners = pick(expandDims(argMax(cosines, 2), 2) as Tensor3D, gone); // [B, merged, 1]
    const joins: Tensor3D = cast(equal(partners, range(0, odds, 1, 'int32')), 'float32'); // [B, merged, odds]
    const counts = expandDims(sizes ?? ones<Rank.R2>([batch, tokens]), 2) as Tensor3D;
    const ofEvens = (all: Tensor3D, which: Tensor2D) => pick(gather(all, even, 1), which); // [B, which, *]
    const joined = (all: Tensor3D) => add(gather(all, odd, 1), matMul(joins, ofEvens(all, gone), true, false)); // [B, odds, *]
    const totals = joined(counts);
    const means = div(joined(sizes === undefined ? x : mul(x, counts)), totals);
    return {
      x: concat([ofEvens(x, kept), means], 1) as Tensor3D,
      sizes: squeeze(concat([ofEvens(counts, kept), totals], 1), [2]) as Tensor2D,
    };
  });
}

/** `which` [B, n] of the tokens of each image: [B, N, D] → [B, n, D]. tfjs's wasm backend gathers wrongly in batches, so it is one of all images. */
const pick = (all: Tensor3D, which: Tensor2D): Tensor3D => {
  const [batch, tokens, width] = all.shape;
  const starts = reshape(range(0, batch * tokens, tokens, 'int32'), [batch, 1]);
  const flat = reshape(all, [batch * tokens, width]);
  return reshape(gather(flat, reshape(add(which, starts), [-1])), [batch, which.shape[1], width]);
};

/** Indices of each row from the lowest on. */
const ascending = (indices: Tensor2D): Tensor2D => {
  const { values } = topk(neg(cast(indices, 'float32')), indices.shape[1]);
  return cast(neg(values), 'int32') as Tensor2D;
};

/** Added to the scores of attention, so that a token counts as often as those it stands for: log(size), [B, I, I]. */
export function sizeMask(sizes: Tensor2D): Tensor3D {
  return tidyTree(() => tile(expandDims(log(sizes), 1), [1, sizes.shape[1], 1]) as Tensor3D);
}
