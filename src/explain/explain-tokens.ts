import type { Tensor, Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { logNormalizer } from '../generation/log-softmax.js';
import type { Git } from '../model/git.js';
import { attendOnce, disposeAttentions } from './attentions.js';
import { headColumns, type Lookout, meanLook, splitRow } from './looks.js';
import { rollout } from './rollout.js';
import type { Grid, TokenLook, TokenLooks } from './types.js';

export interface ExplainTokensOptions {
  /** How many of the ids were given, [CLS] included; the others are explained. Default 1. */
  readonly promptLength?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Where the model looked as it chose each token of a text: one teacher-forced pass, then attention read back. The attention of a token
 * is that of the position which predicts it, the one before: the token's own position already looks for its successor.
 *
 * @param pixels normalised model input, float32 [1, height, width, 3], or [1, F, height, width, 3] for a video; left alone.
 * @param ids prompt and generated tokens, [CLS] first.
 * @throws OptionError for wrong shapes or ids; BackendError when the model's scores are not finite; the signal's reason.
 */
export async function explainTokens(
  git: Git,
  pixels: Tensor4D | Tensor5D,
  ids: readonly number[],
  options: ExplainTokensOptions = {},
): Promise<TokenLooks> {
  const { promptLength = 1, signal } = options;
  checkTokens(git, ids, promptLength);
  const grid = gridOf(git, pixels);
  signal?.throwIfAborted();
  const attentions = attendOnce(git, pixels, ids.slice(0, -1), promptLength - 1);
  let rolled: Tensor | undefined;
  try {
    rolled = rollout(attentions);
    const heads = git.config.numAttentionHeads;
    const lookout: Lookout = { grid, textTokens: ids.length - 1, heads, layers: attentions.rows.length };
    const rows = await readAll(attentions.rows, signal);
    const [products, logits] = await readAll([rolled, attentions.logits], signal);
    const fresh = ids.slice(promptLength);
    const tokens = fresh.map((id, n): TokenLook => {
      const width = products!.length / fresh.length;
      const { decoder, toText } = headColumns(rows, lookout, n, fresh.length);
      return {
        id,
        logProb: logProbability(logits!.subarray(n * git.config.vocabSize, (n + 1) * git.config.vocabSize), id),
        decoder,
        toText,
        mean: meanLook(decoder, toText, lookout),
        rollout: splitRow(products!.subarray(n * width, (n + 1) * width), grid),
      };
    });
    return { grid, layers: lookout.layers, heads, tokens };
  } finally {
    disposeAttentions(attentions);
    rolled?.dispose();
  }
}

/** Values of tensors, one after the other: never all of them twice in memory. */
async function readAll(tensors: readonly Tensor[], signal: AbortSignal | undefined): Promise<Float32Array[]> {
  const values: Float32Array[] = [];
  for (const x of tensors) {
    signal?.throwIfAborted();
    values.push((await x.data()) as Float32Array);
  }
  return values;
}

const logProbability = (logits: Float32Array, id: number): number => logits[id]! - logNormalizer(logits, 'logits');

function gridOf(git: Git, pixels: Tensor4D | Tensor5D): Grid {
  const { patchSize } = git.config.vision;
  const frames = pixels.rank === 5 ? pixels.shape[1] : 1;
  const [height, width, channels] = pixels.shape.slice(-3) as [number, number, number];
  const fail = (code: string, detail: string): never => {
    throw new OptionError({ path: 'pixels', code, detail });
  };
  if ((pixels.rank !== 4 && pixels.rank !== 5) || pixels.shape[0] !== 1 || channels !== 3) {
    fail('pixels-shape', `[${pixels.shape}] is neither [1, height, width, 3] nor [1, frames, height, width, 3]`);
  }
  if (pixels.rank === 5 && (frames < 1 || frames > git.config.numImageWithEmbedding)) {
    fail('frame-count', `${frames} frames, the model has embeddings for ${git.config.numImageWithEmbedding}`);
  }
  if (height < patchSize || width < patchSize) fail('pixels-shape', `[${pixels.shape}] has no patch of ${patchSize}`);
  return { frames, rows: Math.floor(height / patchSize), columns: Math.floor(width / patchSize) };
}

function checkTokens(git: Git, ids: readonly number[], promptLength: number): void {
  const fail = (path: string, code: string, detail: string): never => {
    throw new OptionError({ path, code, detail });
  };
  const { vocabSize, maxPositionEmbeddings } = git.config;
  const odd = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (odd !== undefined) fail('ids', 'id-outside-vocabulary', `id ${odd}, the vocabulary has ${vocabSize} words`);
  if (!Number.isInteger(promptLength) || promptLength < 1)
    fail('promptLength', 'out-of-range', `${promptLength}; [CLS] at least comes before what is explained`);
  if (ids.length <= promptLength)
    fail('ids', 'no-tokens', `${ids.length} ids with a prompt of ${promptLength}: nothing was generated`);
  if (ids.length - 1 > maxPositionEmbeddings)
    fail('ids', 'too-long', `${ids.length - 1} tokens to read, the model has ${maxPositionEmbeddings} positions`);
}
