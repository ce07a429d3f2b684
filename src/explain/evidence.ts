import type { Tensor2D } from '@tensorflow/tfjs-core';
import { gather, reshape, tensor1d, tidy } from '@tensorflow/tfjs-core';
import { nextTask } from '../event-loop.js';
import { logNormalizer } from '../generation/logits-processors.js';
import { padRows } from '../generation/session.js';
import { textMask } from '../layers/attention.js';
import { decodeText, type Git, vocabularyLogits } from '../model/git.js';
import { disposeCache } from '../model/kv-cache.js';

/** A text with the tokens that it began with. */
export interface TextRow {
  /** Prompt and text, [CLS] first. */
  readonly ids: readonly number[];
  /** How many of the ids were given. */
  readonly promptLength: number;
}

/**
 * Log-probability of each token of each text after the tokens before it, with no image: the decoder reads the text alone, its attention has text
 * columns and no others. One teacher-forced pass for `batchSize` texts. Rows do not depend on each other: the mask is causal and shorter
 * rows are padded at their ends.
 *
 * @throws BackendError where the scores are not finite; the signal's reason.
 */
export async function logProbsWithoutImage(
  git: Git,
  rows: readonly TextRow[],
  options: { readonly batchSize?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<number[][]> {
  const { batchSize = 8, signal } = options;
  const found: number[][] = [];
  for (let at = 0; at < rows.length; at += batchSize) {
    signal?.throwIfAborted();
    found.push(...(await scoreBatch(git, rows.slice(at, at + batchSize))));
    await nextTask();
  }
  signal?.throwIfAborted();
  return found;
}

async function scoreBatch(git: Git, rows: readonly TextRow[]): Promise<number[][]> {
  const read = padRows(
    rows.map(({ ids }) => ids.slice(0, -1)),
    git.config.padTokenId,
  );
  const width = read[0]!.length;
  /** Places in the padded batch of the positions that predict the tokens of the texts. */
  const places = rows.flatMap(({ ids, promptLength }, row) =>
    ids.slice(promptLength).map((_, n) => row * width + promptLength - 1 + n),
  );
  if (places.length === 0) return rows.map(() => []);
  const logits = tidy(() => {
    const { hidden, text } = decodeText(git, { ids: read, mask: textMask(width, 0) }, undefined); // [R, T, D]
    disposeCache(text);
    const flat: Tensor2D = reshape(hidden, [rows.length * width, git.config.hiddenSize]);
    const wanted = reshape(gather(flat, tensor1d(places, 'int32')), [1, places.length, git.config.hiddenSize]);
    return vocabularyLogits(git, wanted as never); // [1, P, V]
  });
  try {
    const values = (await logits.data()) as Float32Array;
    let next = 0;
    return rows.map(({ ids, promptLength }) =>
      ids.slice(promptLength).map((id) => {
        const scores = values.subarray(next * git.config.vocabSize, ++next * git.config.vocabSize);
        return scores[id]! - logNormalizer(scores, 'logits without the image');
      }),
    );
  } finally {
    logits.dispose();
  }
}
