import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { add, concat, matMul, mul, reshape, slice, tensor2d, tidy, transpose, zeros } from '@tensorflow/tfjs-core';

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
