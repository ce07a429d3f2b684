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
  tensor4d,
  tidy,
} from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { nextTask, runInSlices } from '../event-loop.js';
import { logNormalizer } from '../generation/logits-processors.js';
import { padRows } from '../generation/session.js';
import type { ImageConfig } from '../image/image-config.js';
import type { PreprocessOptions } from '../image/image-options.js';
import { type PixelValues, preprocessSteps, resizePlan } from '../image/preprocess.js';
import type { RgbImage } from '../image/raw-image.js';
import { textMask } from '../layers/attention.js';
import type { Trace } from '../layers/tidy.js';
import {
  decodeText,
  disposeCache,
  encodeImageInTurns,
  type Git,
  type ImageCache,
  vocabularyLogits,
} from '../model/git.js';
import {
  type AttentionLayout,
  type Attentions,
  averageOfMaps,
  type ExplainedWord,
  type Explanation,
  type Grid,
  headAttention,
  meanOf,
  meanOfAll,
  type Rectangle,
  rollout,
  splitRow,
  type TokenAttention,
  type TokenAttentions,
} from './attention-map.js';

/** What is to be explained: images, how the model saw them, and the text. */
export interface ExplainInput {
  /** The image as it was given; a list is the frames of a video, which get temporal embeddings and become one sequence. */
  readonly images: RgbImage | readonly RgbImage[];
  readonly imageConfig: ImageConfig;
  readonly preprocess?: PreprocessOptions | undefined;
  /** Prompt and generated tokens, [CLS] first. */
  readonly ids: readonly number[];
  /** How many of the ids were given, [CLS] included. */
  readonly promptLength: number;
  /** The prompt as text; for people only. */
  readonly prompt?: string | undefined;
  /** The generated tokens as text. */
  readonly text: string;
}

/**
 * Explains a text that the model wrote, or might have written, about an image or video: every word with where the model looked, and where
 * that covers the image as it was given.
 *
 * @throws as `explainTokens` and `preprocess`.
 */
export async function explainText(
  git: Git,
  pieces: Pieces,
  input: ExplainInput,
  options: Omit<ExplainTokensOptions, 'promptLength'> = {},
): Promise<Explanation> {
  const { imageConfig, preprocess: route, ids, promptLength, prompt = '', text } = input;
  const isVideo = Array.isArray(input.images);
  const images = (isVideo ? input.images : [input.images]) as readonly RgbImage[];
  const pixels = await runInSlices(preprocessSteps(images, imageConfig, route), options.signal);
  const maps = await explainPixels(git, pixels, isVideo, ids, { ...options, promptLength });
  const { patchSize } = git.config.vision;
  return {
    ...maps,
    ...{ text, prompt },
    words: groupWords(maps.tokens, pieces, text),
    images: images.map((image) => ({ image, seen: patchArea(image, patchSize, imageConfig, route).seen })),
  };
}

async function explainPixels(
  git: Git,
  pixels: PixelValues,
  video: boolean,
  ids: readonly number[],
  options: ExplainTokensOptions,
): Promise<TokenAttentions> {
  const values = tensor4d(pixels.data, [...pixels.shape]); // [F, height, width, 3]
  try {
    if (!video) return await explainTokens(git, values, ids, options);
    const frames: Tensor5D = reshape(values, [1, ...pixels.shape]);
    try {
      return await explainTokens(git, frames, ids, options);
    } finally {
      frames.dispose();
    }
  } finally {
    values.dispose();
  }
}

/** What has to be known of a vocabulary to read its pieces; a `Tokenizer` is one. */
export interface Pieces {
  tokenOf(id: number): string;
  readonly vocabSize: number;
  readonly specialIds: ReadonlySet<number>;
}

interface Group {
  readonly first: number;
  readonly tokens: TokenAttention[];
  readonly special: boolean;
  text: string;
}

/**
 * Joins word pieces to words: `##ing` belongs to the word before it. A word's map is the mean of its pieces' maps, so that its shares
 * still add up to 1; its probability is the product of theirs.
 *
 * @param text the decoded text, which tells where spaces stand.
 */
export function groupWords(tokens: readonly TokenAttention[], pieces: Pieces, text: string): ExplainedWord[] {
  const groups: Group[] = [];
  for (const [place, token] of tokens.entries()) {
    const piece = token.id < pieces.vocabSize ? pieces.tokenOf(token.id) : `[unused ${token.id}]`;
    const special = pieces.specialIds.has(token.id);
    const before = groups.at(-1);
    const goesOn = piece.startsWith('##') && !special;
    if (goesOn && before?.special === false) {
      before.text += piece.slice(2);
      before.tokens.push(token);
    } else groups.push({ first: place, tokens: [token], special, text: goesOn ? piece.slice(2) : piece });
  }
  const spaces = spacesBefore(groups, text);
  return groups.map((group, place) => toWord(group, spaces[place]!));
}

function toWord({ first, tokens, special, text }: Group, spaceBefore: boolean): ExplainedWord {
  const rollouts = tokens.flatMap(({ rollout }) => rollout ?? []);
  return {
    ...{ text, spaceBefore, special, first, count: tokens.length },
    probability: Math.exp(tokens.reduce((sum, { logProb }) => sum + logProb, 0)),
    evidence: tokens.reduce((sum, { evidence }) => sum + evidence, 0),
    decoder: meanOf(tokens.map(({ decoder }) => decoder)),
    toText: meanOf(tokens.map(({ toText }) => toText)),
    mean: averageOfMaps(tokens.map(({ mean }) => mean)),
    ...(rollouts.length === 0 ? {} : { rollout: averageOfMaps(rollouts) }),
  };
}

/** Follows the words through the text: cleaning up takes spaces away and changes nothing else. Where they do not match, a space is there. */
function spacesBefore(groups: readonly Group[], text: string): boolean[] {
  let at = 0;
  return groups.map((group, place) => {
    if (group.special) return true;
    const start = at + text.slice(at).search(/\S|$/);
    if (!text.startsWith(group.text, start)) return place > 0;
    const space = start > at;
    at = start + group.text.length;
    return space;
  });
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * Where the grid of patches is on the image as it was given: the way back through center crop and resize, as `preprocess` with the
 * same configuration and options goes forward. Resizing maps edges to edges, so this is exact. A crop larger than the image makes a
 * rectangle that goes beyond it; a strip narrower than a patch at the right and bottom belongs to no patch.
 *
 * @param size of the given image.
 * @param patch side of a patch in pixels of the model's input.
 * @returns the rectangle in pixels of the given image, and how many patches lie in it.
 * @throws OptionError where the input is smaller than a patch.
 */
export function patchArea(
  size: Size,
  patch: number,
  config: ImageConfig,
  options: PreprocessOptions = {},
): { readonly rows: number; readonly columns: number; readonly seen: Rectangle } {
  const resized = resizePlan(size, config, options);
  const plan = resized.crop;
  const [rows, columns] = [Math.floor(plan.height / patch), Math.floor(plan.width / patch)];
  if (rows < 1 || columns < 1) {
    const detail = `an input of ${plan.width} by ${plan.height} pixels has no patch of ${patch}`;
    throw new OptionError({ path: 'patch', code: 'out-of-range', detail });
  }
  const [x, y] = [size.width / resized.width, size.height / resized.height]; // given pixels per resized pixel
  const seen = {
    left: (plan.window.left - plan.padLeft) * x,
    top: (plan.window.top - plan.padTop) * y,
    width: columns * patch * x,
    height: rows * patch * y,
  };
  return { rows, columns, seen };
}

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
