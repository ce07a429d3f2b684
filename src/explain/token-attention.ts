import {
  dispose,
  gather,
  keep,
  mean,
  reshape,
  slice,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  type Tensor5D,
  tensor1d,
  tidy,
} from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { nextTask } from '../event-loop.js';
import { logNormalizer } from '../generation/logits-processors.js';
import { padRows } from '../generation/session.js';
import { textMask } from '../layers/attention.js';
import type { Trace } from '../layers/tidy.js';
import { decodeText, encodeImageInTurns, type Git, vocabularyLogits } from '../model/git.js';
import { disposeCache, type ImageCache } from '../model/kv-cache.js';
import {
  type AttentionLayout,
  type Attentions,
  type Grid,
  headAttention,
  meanOfAll,
  rollout,
  splitRow,
  type TokenAttention,
  type TokenAttentions,
} from './attention-map.js';

export interface ExplainTokensOptions {
  /** How many of the ids were given, [CLS] included; the others are explained. Default 1. */
  readonly promptLength?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Rollout too, for which the image is encoded here, watched. Default true. */
  readonly rollout?: boolean | undefined;
  /** The image's cache, which stays the caller's: without rollout nothing is encoded then. */
  readonly image?: ImageCache | undefined;
}

/**
 * Where the model's attention went as it chose each token of a text: one teacher-forced pass, with a turn of the event loop between
 * layers, then attention read back. The attention of a token
 * is that of the position which predicts it, the one before.
 *
 * @param pixels normalized model input, float32 [1, height, width, 3], or [1, F, height, width, 3] for a video; left alone.
 * @param ids prompt and generated tokens, [CLS] first.
 * @throws OptionError for wrong shapes or ids; BackendError when the model's scores are not finite; the signal's reason.
 */
export async function explainTokens(
  git: Git,
  pixels: Tensor4D | Tensor5D,
  ids: readonly number[],
  options: ExplainTokensOptions = {},
): Promise<TokenAttentions> {
  const { promptLength = 1, signal, rollout: wanted = true } = options;
  checkTokens(git, ids, promptLength);
  const grid = gridOf(git, pixels);
  signal?.throwIfAborted();
  const attentions = await attendOnce(git, pixels, ids.slice(0, -1), promptLength - 1, options);
  let rolled: Tensor | undefined;
  try {
    if (wanted) rolled = rollout(attentions);
    const heads = git.config.numAttentionHeads;
    const layout: AttentionLayout = { grid, textTokens: ids.length - 1, heads, layers: attentions.rows.length };
    const rows = await readAll(attentions.rows, signal);
    const [logits, products] = await readAll([attentions.logits, ...(rolled === undefined ? [] : [rolled])], signal);
    const fresh = ids.slice(promptLength);
    const [without] = await logProbsWithoutImage(git, [{ ids, promptLength }], { signal });
    const tokens = fresh.map((id, n): TokenAttention => {
      const { decoder, toText } = headAttention(rows, layout, n, fresh.length);
      const logProb = logProbability(logits!.subarray(n * git.config.vocabSize, (n + 1) * git.config.vocabSize), id);
      return {
        ...{ id, logProb, evidence: logProb - without![n]! },
        decoder,
        toText,
        mean: meanOfAll(decoder, toText, layout),
        ...(products === undefined ? {} : { rollout: splitRow(rowOf(products, n, fresh.length), grid) }),
      };
    });
    return { grid, layers: layout.layers, heads, tokens };
  } finally {
    disposeAttentions(attentions);
    rolled?.dispose();
  }
}

const rowOf = (matrix: Float32Array, row: number, rows: number): Float32Array =>
  matrix.subarray((row * matrix.length) / rows, ((row + 1) * matrix.length) / rows);

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
  const { patchSize, tokenMerging } = git.config.vision;
  if (tokenMerging !== undefined) {
    const detail = 'what was attended to is known of whole images only: load the model without it';
    throw new OptionError({ path: 'tokenMerging', code: 'merged-tokens', detail });
  }
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

/**
 * Runs `ids` after the image once, teacher forced, and keeps what was attended to. The heads of the image's own attention are averaged
 * as they come, so that what is kept is smaller than what one layer needs while it runs. The caller disposes of all tensors.
 *
 * @param pixels float32 [1, height, width, 3] or [1, F, height, width, 3]; left alone.
 * @param first the first text row whose heads and logits are wanted: T' = T - first.
 */
async function attendOnce(
  git: Git,
  pixels: Tensor4D | Tensor5D,
  ids: readonly number[],
  first: number,
  { signal, rollout: wanted = true, image: given }: ExplainTokensOptions,
): Promise<Attentions> {
  const found: Record<Exclude<keyof Attentions, 'logits'>, Tensor[]> = { vision: [], image: [], text: [], rows: [] };
  const hold = (list: Tensor[], of: () => Tensor): void => void list.push(keep(tidy(of)));
  const listen = (name: string, x: Tensor): void => {
    const stage = /^(vision|image\.decoder|decoder)\.attention\.\d+$/.exec(name)?.[1];
    if (stage === 'vision') hold(found.vision, () => mean(x, 1));
    if (stage === 'image.decoder') hold(found.image, () => withoutBatch(mean(x, 1)));
    if (stage !== 'decoder') return;
    if (wanted) hold(found.text, () => withoutBatch(mean(x, 1)));
    const [, heads, tokens, columns] = x.shape as [number, number, number, number];
    hold(found.rows, () => withoutBatch(slice(x, [0, 0, first, 0], [1, heads, tokens - first, columns])));
  };
  const trace: Trace = Object.assign(listen, { attentions: true });
  try {
    const image =
      wanted || given === undefined
        ? await encodeImageInTurns(git, pixels, { signal, trace: wanted ? trace : undefined })
        : given;
    try {
      const logits = tidy(() => {
        const { hidden } = decodeText(git, { ids: [ids], mask: textMask(ids.length, 0) }, image, [], trace); // [1, T, D]
        const wanted: Tensor3D = slice(hidden, [0, first, 0], [1, ids.length - first, git.config.hiddenSize]);
        return withoutBatch(vocabularyLogits(git, wanted)) as Tensor2D; // [T', V]
      });
      return { ...(found as Omit<Attentions, 'logits'>), logits };
    } finally {
      if (image !== given) disposeCache(image);
    }
  } catch (error) {
    dispose(Object.values(found).flat());
    throw error;
  }
}

function disposeAttentions({ vision, image, text, rows, logits }: Attentions): void {
  dispose([...vision, ...image, ...text, ...rows, logits]);
}

const withoutBatch = (x: Tensor): Tensor => reshape(x, x.shape.slice(1));

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
