import type { Tensor5D } from '@tensorflow/tfjs-core';
import { reshape, tensor4d } from '@tensorflow/tfjs-core';
import type { ImageConfig } from '../image/image-config.js';
import type { PreprocessOptions } from '../image/image-options.js';
import { type PixelValues, preprocess } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import type { Git } from '../model/git.js';
import { explainTokens } from './explain-tokens.js';
import { seenRectangle } from './geometry.js';
import { groupWords, type Pieces } from './group-words.js';
import type { Explanation, TokenLooks } from './types.js';

/** What is to be explained: images, how the model saw them, and the text. */
export interface ExplainInput {
  /** The image as it was given; a list is the frames of a video, which get temporal embeddings and become one sequence. */
  readonly images: RawImage | readonly RawImage[];
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
 * that lies on the image as it was given.
 *
 * @throws as `explainTokens` and `preprocess`.
 */
export async function explainText(
  git: Git,
  pieces: Pieces,
  input: ExplainInput,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Explanation> {
  const { imageConfig, preprocess: route, ids, promptLength, prompt = '', text } = input;
  const isVideo = Array.isArray(input.images);
  const images = (isVideo ? input.images : [input.images]) as readonly RawImage[];
  const pixels = preprocess(images, imageConfig, route);
  const looks = await lookAt(git, pixels, isVideo, ids, { promptLength, signal: options.signal });
  const { patchSize } = git.config.vision;
  return {
    ...looks,
    ...{ text, prompt },
    words: groupWords(looks.tokens, pieces, text),
    images: images.map((image) => ({ image, seen: seenRectangle(image, patchSize, imageConfig, route).seen })),
  };
}

async function lookAt(
  git: Git,
  pixels: PixelValues,
  video: boolean,
  ids: readonly number[],
  options: { readonly promptLength: number; readonly signal: AbortSignal | undefined },
): Promise<TokenLooks> {
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
