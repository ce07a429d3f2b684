import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { add, concat, matMul, mul, reshape, slice, tensor2d, tidy, transpose, zeros } from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import type { RgbImage } from '../image/raw-image.js';

/** How the patches of the model's input lie: one grid per frame, one frame for an image. */
export interface Grid {
  readonly frames: number;
  readonly rows: number;
  readonly columns: number;
}

/** Where one row of attention went. All shares together are 1. */
export interface AttentionMap {
  /** Share of every patch, float32 [frames, rows, columns]. */
  readonly patches: Float32Array;
  /** Share of the class token (of all frames' class tokens together): it stands for no place of the image. */
  readonly classToken: number;
  /** Share of the words before. */
  readonly text: number;
}

/** Where the model's attention went when it chose one token. */
export interface TokenAttention {
  readonly id: number;
  /** Natural logarithm of the token's probability after the tokens before it, under the model alone. */
  readonly logProb: number;
  /** What the image adds to it: `logProb` minus the same of the decoder without any image. Negative where the image makes the token less likely. */
  readonly evidence: number;
  /**
   * Attention to the image columns, float32 [layers, heads, I], of the position that PREDICTS the token: the one before it. Columns of a
   * frame are its class token, then its patches row by row; frames follow each other.
   */
  readonly decoder: Float32Array;
  /** Attention to the text columns in sum, float32 [layers, heads]. With `decoder` over I it makes 1. */
  readonly toText: Float32Array;
  /** The mean of all layers and heads. */
  readonly mean: AttentionMap;
  /** Attention rollout through decoder and vision tower down to the input; absent where it was not wanted. */
  readonly rollout?: AttentionMap | undefined;
}

/** The attention of every token of a text. */
export interface TokenAttentions {
  readonly grid: Grid;
  readonly layers: number;
  readonly heads: number;
  readonly tokens: readonly TokenAttention[];
}

/** A rectangle in pixels of an image; fractions and places outside the image are possible. */
export interface Rectangle {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** An image as it was given, and the part of it that the patches cover. */
export interface ExplainedImage {
  readonly image: RgbImage;
  /** Where the grid of patches is on `image`; what is outside was cut away before the model saw it. */
  readonly seen: Rectangle;
}

/** A word of the text: the first piece and the `##` pieces that go on from it. All its maps are the means of its tokens'. */
export interface ExplainedWord extends Omit<TokenAttention, 'id' | 'logProb'> {
  readonly text: string;
  /** Whether a space stands before it in the text. */
  readonly spaceBefore: boolean;
  /** An end token or another one that is no part of the text. */
  readonly special: boolean;
  /** Its tokens, as places in `Explanation.tokens`. */
  readonly first: number;
  readonly count: number;
  /** Product of its tokens' probabilities: that of the whole word after the words before. */
  readonly probability: number;
}

/** A text, and for every word of it where in the image the model's attention went. */
export interface Explanation extends TokenAttentions {
  readonly text: string;
  /** The question or the beginning that the text goes on from; empty without one. */
  readonly prompt: string;
  readonly words: readonly ExplainedWord[];
  /** The image, or the frames of a video: as many as `grid.frames`. */
  readonly images: readonly ExplainedImage[];
}

/** Which attention map: the mean of all layers and heads, attention rollout, one layer (mean of its heads), or one head of a layer. */
export type View = 'mean' | 'rollout' | { readonly layer: number; readonly head?: number };

/** What the arrays that are read back are made of. */
export interface AttentionLayout {
  readonly grid: Grid;
  /** T: text columns after the image columns. */
  readonly textTokens: number;
  readonly layers: number;
  readonly heads: number;
}

/** I: every frame has a class token before its patches. */
export const imageTokens = ({ frames, rows, columns }: Grid): number => frames * (1 + rows * columns);

/** Splits shares of I image columns, and of text columns behind them, into patches, class tokens and text. */
export function splitRow(row: Float32Array, grid: Grid): AttentionMap {
  const text = row.subarray(imageTokens(grid)).reduce((sum, share) => sum + share, 0);
  return { ...splitImage(row, grid), text };
}

function splitImage(columns: ArrayLike<number>, { frames, rows, columns: across }: Grid): Omit<AttentionMap, 'text'> {
  const perFrame = rows * across;
  const patches = new Float32Array(frames * perFrame);
  let classToken = 0;
  for (let frame = 0, from = 0; frame < frames; frame++) {
    classToken += columns[from++]!;
    for (let patch = 0; patch < perFrame; patch++) patches[frame * perFrame + patch] = columns[from++]!;
  }
  return { patches, classToken };
}

/** Row `n` of T' rows of every layer's [H, T', I + T] as [layers, heads, I] and the sums of the text columns [layers, heads]. */
export function headAttention(
  layerRows: readonly Float32Array[],
  { grid, textTokens, layers, heads }: AttentionLayout,
  n: number,
  count: number,
): Pick<TokenAttention, 'decoder' | 'toText'> {
  const image = imageTokens(grid);
  const width = image + textTokens;
  const decoder = new Float32Array(layers * heads * image);
  const toText = new Float32Array(layers * heads);
  layerRows.forEach((rows, layer) => {
    for (let head = 0; head < heads; head++) {
      const at = (head * count + n) * width;
      const to = layer * heads + head;
      decoder.set(rows.subarray(at, at + image), to * image);
      toText[to] = rows.subarray(at + image, at + width).reduce((sum, share) => sum + share, 0);
    }
  });
  return { decoder, toText };
}

/** The mean over all layers and heads. */
export const meanOfAll = (
  decoder: Float32Array,
  toText: Float32Array,
  { grid, layers, heads }: Pick<AttentionLayout, 'grid' | 'layers' | 'heads'>,
): AttentionMap => meanOfHeads({ decoder, toText }, grid, 0, layers * heads);

function meanOfHeads(
  map: Pick<TokenAttention, 'decoder' | 'toText'>,
  grid: Grid,
  first: number,
  count: number,
): AttentionMap {
  const image = imageTokens(grid);
  const columns = new Float64Array(image);
  let text = 0;
  for (let head = first; head < first + count; head++) {
    for (let i = 0; i < image; i++) columns[i]! += map.decoder[head * image + i]! / count;
    text += map.toText[head]! / count;
  }
  return { ...splitImage(columns, grid), text };
}

/** A token or word as one view shows it. */
export function attentionOf(
  word: Pick<ExplainedWord, 'decoder' | 'toText' | 'mean' | 'rollout'>,
  view: View,
  { grid, heads }: Pick<AttentionLayout, 'grid' | 'heads'>,
): AttentionMap {
  if (view === 'mean') return word.mean;
  if (view === 'rollout') {
    if (word.rollout !== undefined) return word.rollout;
    throw new OptionError({ path: 'view', code: 'no-rollout', detail: 'it was explained without rollout' });
  }
  const { layer, head } = view;
  if (head === undefined) return meanOfHeads(word, grid, layer * heads, heads);
  return meanOfHeads(word, grid, layer * heads + head, 1);
}

/** The mean of arrays of one length. */
export function meanOf(arrays: readonly Float32Array[]): Float32Array {
  if (arrays.length === 1) return arrays[0]!;
  const sums = new Float64Array(arrays[0]!.length);
  for (const array of arrays) for (let i = 0; i < sums.length; i++) sums[i]! += array[i]! / arrays.length;
  return Float32Array.from(sums);
}

/** The mean of maps: its shares add up to 1 again. */
export function averageOfMaps(maps: readonly AttentionMap[]): AttentionMap {
  const average = (value: (map: AttentionMap) => number) =>
    maps.reduce((sum, map) => sum + value(map) / maps.length, 0);
  return {
    patches: meanOf(maps.map(({ patches }) => patches)),
    classToken: average(({ classToken }) => classToken),
    text: average(({ text }) => text),
  };
}

/**
 * How evenly a map is spread over the patches: the entropy of their shares, divided by that of equal shares. 0: all on one patch; 1: all
 * the same, and so for a map that gives the patches nothing.
 */
export function attentionSpread({ patches }: Pick<AttentionMap, 'patches'>): number {
  const sum = patches.reduce((total, share) => total + share, 0);
  if (sum === 0 || patches.length === 1) return 1;
  let entropy = 0;
  for (const share of patches) if (share > 0) entropy -= (share / sum) * Math.log(share / sum);
  return Math.min(1, entropy / Math.log(patches.length));
}

/** From this `attentionSpread` on, a map shows no place in particular. */
export const EVEN_SPREAD = 0.95;

/** What one pass over an image and a text attended to; means are over heads. I counts the image tokens of all frames. */
export interface Attentions {
  /** Per layer of the vision tower: [F, I/F, I/F]. */
  readonly vision: readonly Tensor3D[];
  /** Per decoder layer, image rows on image columns: [I, I]. */
  readonly image: readonly Tensor2D[];
  /** Per decoder layer, text rows on image and text columns: [T, I + T]. */
  readonly text: readonly Tensor2D[];
  /** Per decoder layer, every head, the last T' text rows alone: [H, T', I + T]. */
  readonly rows: readonly Tensor3D[];
  /** Scores of the token after each of the last T' text rows: [T', V]. */
  readonly logits: Tensor2D;
}

/**
 * Attention rollout (Abnar & Zuidema, arXiv 2005.00928): each layer mixes its rows by W = (A + 1) / 2, A being the mean of its heads and 1
 * the residual connection; the product of all W says how much of each input token is in a row of the last layer. Rows of A add up to 1,
 * so those of every product do, and nothing is renormalized.
 *
 * GIT's product has two parts. In the decoder a row of text mixes image and text columns, and the image columns it takes from were
 * themselves mixed by the image rows of the layers below (the image's own self-attention in the decoder, which never sees text). What
 * arrives at the decoder's image inputs goes on through the vision tower's layers, each frame for itself: the projection between the two
 * and the layer norms act on one token at a time and mix nothing. So rows start at the top and are multiplied downwards: T' rows times
 * a matrix per layer instead of products of whole matrices.
 *
 * @returns float32 [T', I + T]: shares of the vision tower's input tokens, then of the text's tokens; each row adds up to 1.
 */
export function rollout({ vision, image, text, rows }: Attentions): Tensor2D {
  return tidy(() => {
    const [tokens, columns] = text[0]!.shape;
    const wanted = rows[0]!.shape[1];
    let onText = lastUnits(wanted, tokens); // [T', T]
    let onImage: Tensor2D = zeros([wanted, columns - tokens]); // [T', I]
    for (let layer = text.length - 1; layer >= 0; layer--) {
      const spread = matMul(onText, text[layer]!); // [T', I + T]
      const mixed = matMul(onImage, image[layer]!);
      onImage = half(onImage, add(mixed, slice(spread, [0, 0], [wanted, columns - tokens])));
      onText = half(onText, slice(spread, [0, columns - tokens], [wanted, tokens]));
    }
    return concat([throughVision(onImage, vision), onText], 1);
  });
}

/** [T', I] through the tower's layers from the last to the first, each frame by its own attention. */
function throughVision(onImage: Tensor2D, vision: readonly Tensor3D[]): Tensor2D {
  const [wanted, all] = onImage.shape;
  const [frames, tokens] = vision[0]!.shape;
  let rows: Tensor3D = transpose(reshape(onImage, [wanted, frames, tokens]), [1, 0, 2]); // [F, T', I/F]
  for (let layer = vision.length - 1; layer >= 0; layer--) rows = half(rows, matMul(rows, vision[layer]!));
  return reshape(transpose(rows, [1, 0, 2]), [wanted, all]);
}

const half = <R extends Tensor>(residual: R, attended: Tensor): R => mul(add(residual, attended), 0.5);

/** The last `wanted` unit vectors of `tokens` places. From the host: wasm's oneHot writes integers, whatever the dtype asked for. */
function lastUnits(wanted: number, tokens: number): Tensor2D {
  const values = new Float32Array(wanted * tokens);
  for (let row = 0; row < wanted; row++) values[row * tokens + tokens - wanted + row] = 1;
  return tensor2d(values, [wanted, tokens]);
}
