import type { RawImage } from '../image/raw-image.js';

/** How the patches of the model's input lie: one grid per frame, one frame for an image. */
export interface Grid {
  readonly frames: number;
  readonly rows: number;
  readonly columns: number;
}

/** Where one row of attention went. All shares together are 1. */
export interface Look {
  /** Share of every patch, float32 [frames, rows, columns]. */
  readonly patches: Float32Array;
  /** Share of the class token (of all frames' class tokens together): a place of no place, where the model parks what it knows. */
  readonly classToken: number;
  /** Share of the words before. */
  readonly text: number;
}

/** How the model looked when it chose one token. */
export interface TokenLook {
  readonly id: number;
  /** Natural logarithm of the token's probability after the tokens before it, under the model alone. */
  readonly logProb: number;
  /**
   * Attention to the image columns, float32 [layers, heads, I], of the position that PREDICTS the token: the one before it. Columns of a
   * frame are its class token, then its patches row by row; frames follow each other.
   */
  readonly decoder: Float32Array;
  /** Attention to the text columns in sum, float32 [layers, heads]. With `decoder` over I it makes 1. */
  readonly toText: Float32Array;
  /** The mean of all layers and heads. */
  readonly mean: Look;
  /** Attention rollout through decoder and vision tower down to the input. */
  readonly rollout: Look;
}

/** How the model looked at every token of a text. */
export interface TokenLooks {
  readonly grid: Grid;
  readonly layers: number;
  readonly heads: number;
  readonly tokens: readonly TokenLook[];
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
  readonly image: RawImage;
  /** Where the grid of patches lies on `image`; what is outside was cut away before the model saw it. */
  readonly seen: Rectangle;
}

/** A word of the text: the first piece and the `##` pieces that go on from it. All its looks are the means of its tokens'. */
export interface ExplainedWord extends Omit<TokenLook, 'id' | 'logProb'> {
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

/** A text, and for every word of it where in the image the model looked. */
export interface Explanation extends TokenLooks {
  readonly text: string;
  /** The question or the beginning that the text goes on from; empty without one. */
  readonly prompt: string;
  readonly words: readonly ExplainedWord[];
  /** The image, or the frames of a video: as many as `grid.frames`. */
  readonly images: readonly ExplainedImage[];
}

/** Which look: the mean of all layers and heads, attention rollout, one layer (mean of its heads), or one head of a layer. */
export type View = 'mean' | 'rollout' | { readonly layer: number; readonly head?: number };
