import { gather, tensor1d, tidy } from '@tensorflow/tfjs-core';
import type { DecoderSession } from '../generation/session.js';
import { textMask } from '../layers/mask.js';
import type { Git } from '../model/git.js';
import { decodeText, vocabularyLogits } from '../model/git.js';
import type { ImageCache } from '../model/kv-cache.js';
import { disposeCache, gatherCache } from '../model/kv-cache.js';

/**
 * A session for prompts that carry padding and an attention mask, as Hugging Face runs them without a cache: pad tokens keep their
 * positions and are hidden from every later row. Everything is computed again at each step; the library itself pads no prompt.
 */
export function paddedSession(git: Git, image: ImageCache, mask: readonly (readonly number[])[]): DecoderSession {
  let rows = mask.map((columns, imageIndex) => ({ imageIndex, columns, ids: [] as readonly number[] }));
  return {
    get rows() {
      return rows.length;
    },
    maxLength: git.config.maxPositionEmbeddings,
    async step(ids) {
      rows = rows.map((row, r) => ({ ...row, ids: [...row.ids, ...ids[r]!] }));
      const columns = rows.map((row) => row.ids.map((_, t) => row.columns[t] ?? 1));
      const images = gatherCache(
        image,
        rows.map((row) => row.imageIndex),
      );
      try {
        return await lastLogits(
          git,
          rows.map((row) => row.ids),
          columns,
          images,
        );
      } finally {
        disposeCache(images);
      }
    },
    reorder(order) {
      rows = order.map((row) => rows[row]!);
    },
    dispose() {},
  };
}

/** Logits after the last token of each row; all rows are of one length. */
async function lastLogits(
  git: Git,
  ids: readonly (readonly number[])[],
  columns: readonly (readonly number[])[],
  image: ImageCache,
): Promise<Float32Array[]> {
  const tokens = ids[0]!.length;
  const logits = tidy(() => {
    const { hidden } = decodeText(git, { ids, mask: textMask(tokens, 0, columns) }, image);
    return vocabularyLogits(git, gather(hidden, tensor1d([tokens - 1], 'int32'), 1)); // [R, 1, V]
  });
  try {
    const values = (await logits.data()) as Float32Array;
    const { vocabSize } = git.config;
    return ids.map((_, r) => values.slice(r * vocabSize, (r + 1) * vocabSize));
  } finally {
    logits.dispose();
  }
}
