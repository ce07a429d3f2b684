import type { Tensor5D } from '@tensorflow/tfjs-core';
import { reshape, tensor4d } from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { runInSlices } from '../event-loop.js';
import type { ImageConfig } from '../image/image-config.js';
import type { PreprocessOptions } from '../image/image-options.js';
import { type PixelValues, preprocessSteps, resizePlan } from '../image/preprocess.js';
import type { RgbImage } from '../image/raw-image.js';
import type { Git } from '../model/git.js';
import type { ExplainedWord, Explanation, Rectangle, TokenAttention, TokenAttentions } from './attention-map.js';
import { averageOfMaps, meanOf } from './attention-map.js';
import { type ExplainTokensOptions, explainTokens } from './token-attention.js';

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
