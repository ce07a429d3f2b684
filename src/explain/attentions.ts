import type { Tensor, Tensor2D, Tensor3D, Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { dispose, keep, mean, reshape, slice, tidy } from '@tensorflow/tfjs-core';
import { textMask } from '../layers/mask.js';
import type { Trace } from '../layers/tidy.js';
import type { Git } from '../model/git.js';
import { decodeText, encodeImage, vocabularyLogits } from '../model/git.js';
import { disposeCache } from '../model/kv-cache.js';

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
 * Runs `ids` after the image once, teacher forced, and keeps what was attended to. The heads of the image's own attention are averaged
 * as they come, so that what is kept is smaller than what one layer needs while it runs. The caller disposes of all tensors.
 *
 * @param pixels float32 [1, height, width, 3] or [1, F, height, width, 3]; left alone.
 * @param first the first text row whose heads and logits are wanted: T' = T - first.
 */
export function attendOnce(git: Git, pixels: Tensor4D | Tensor5D, ids: readonly number[], first: number): Attentions {
  const kept: Tensor[] = [];
  const found: Record<Exclude<keyof Attentions, 'logits'>, Tensor[]> = { vision: [], image: [], text: [], rows: [] };
  const hold = (list: Tensor[], x: Tensor): void => {
    list.push(keep(x));
    kept.push(x);
  };
  const listen = (name: string, x: Tensor): void => {
    const stage = /^(vision|image\.decoder|decoder)\.attention\.\d+$/.exec(name)?.[1];
    if (stage === 'vision') hold(found.vision, mean(x, 1));
    if (stage === 'image.decoder') hold(found.image, withoutBatch(mean(x, 1)));
    if (stage !== 'decoder') return;
    hold(found.text, withoutBatch(mean(x, 1)));
    const [, heads, tokens, columns] = x.shape as [number, number, number, number];
    hold(found.rows, withoutBatch(slice(x, [0, 0, first, 0], [1, heads, tokens - first, columns])));
  };
  try {
    const logits = tidy(() => teacherForced(git, pixels, ids, first, Object.assign(listen, { attentions: true })));
    return { ...(found as Omit<Attentions, 'logits'>), logits };
  } catch (error) {
    dispose(kept);
    throw error;
  }
}

export function disposeAttentions({ vision, image, text, rows, logits }: Attentions): void {
  dispose([...vision, ...image, ...text, ...rows, logits]);
}

const withoutBatch = (x: Tensor): Tensor => reshape(x, x.shape.slice(1));

function teacherForced(
  git: Git,
  pixels: Tensor4D | Tensor5D,
  ids: readonly number[],
  first: number,
  trace: Trace,
): Tensor2D {
  const image = encodeImage(git, pixels, trace);
  const { hidden } = decodeText(git, { ids: [ids], mask: textMask(ids.length, 0) }, image, [], trace); // [1, T, D]
  disposeCache(image);
  const wanted: Tensor3D = slice(hidden, [0, first, 0], [1, ids.length - first, git.config.hiddenSize]);
  return withoutBatch(vocabularyLogits(git, wanted)) as Tensor2D; // [T', V]
}
