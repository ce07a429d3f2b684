import type { Tensor3D, Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { concat, tensor3d, tidy } from '@tensorflow/tfjs-core';
import { forbiddenScores } from '../layers/attention.js';
import { withoutFusedKernels } from '../layers/fused-kernel.js';
import { type Git, imageFeatures, projectFeatures, videoFeatures, vocabularyLogits } from './git.js';
import { decodeTokens, textEmbeddings } from './text-decoder.js';

/**
 * GIT in one pass as the paper draws it: image tokens and text tokens side by side under one mask, no cache, no fused kernel.
 * The oracle of the two-phase path, and the path for training, since every operation has a gradient.
 *
 * pixels: float32 [B, height, width, 3] or [B, F, height, width, 3], or undefined for text alone; ids: B lists of T.
 * Returns logits [B, I + T, V], image rows first.
 */
export function plainForward(
  git: Git,
  pixels: Tensor4D | Tensor5D | undefined,
  ids: readonly (readonly number[])[],
  attentionMask?: readonly (readonly number[])[],
): Tensor3D {
  const forward = (): Tensor3D => {
    const { params, config } = git;
    const positions = ids.map((row) => row.map((_, t) => t));
    const words = textEmbeddings(params.git.embeddings, ids, positions, config); // [B, T, D]
    const parts = [words];
    if (pixels !== undefined) {
      const features =
        pixels.rank === 5 ? videoFeatures(git, pixels as Tensor5D) : imageFeatures(git, pixels as Tensor4D);
      parts.unshift(projectFeatures(git, features));
    }
    const x = concat(parts, 1); // [B, I + T, D]
    const mask = prefixMask(ids.length, x.shape[1] - words.shape[1], words.shape[1], attentionMask);
    const { hidden } = decodeTokens(params.git.encoder, x, config, (_, text) => ({ text, textMask: mask }));
    return vocabularyLogits(git, hidden);
  };
  return tidy(() => withoutFusedKernels(forward));
}

/** GIT's mask [B, I + T, I + T]: image rows see image columns, text rows see the image and the text up to themselves. */
function prefixMask(
  batch: number,
  image: number,
  text: number,
  attentionMask?: readonly (readonly number[])[],
): Tensor3D {
  const { padding, future } = forbiddenScores();
  const size = image + text;
  const values = new Float32Array(batch * size * size);
  let at = 0;
  for (let b = 0; b < batch; b++) {
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++, at++) {
        if (column < image) continue;
        if (column > row) values[at] = future;
        else if (attentionMask?.[b]?.[column - image] === 0) values[at] = padding;
      }
    }
  }
  return tensor3d(values, [batch, size, size]);
}
