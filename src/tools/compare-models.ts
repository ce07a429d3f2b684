import type { Image2Text } from '../image2text/image2text.js';
import type { ImageInput } from '../image2text/images.js';
import { toRawImage } from '../image2text/images.js';
import type { CaptionOptions } from '../image2text/types.js';
import { openImage } from '../platform/node-images.js';
import { firstLogits } from './first-logits.js';

/** How two models differ on one image. */
export interface ImageComparison {
  readonly first: string;
  readonly second: string;
  readonly equal: boolean;
  /** Largest difference between their logits of the first word. */
  readonly logitDifference: number;
}

/** How two models differ on all images. */
export interface ModelComparison {
  readonly images: readonly ImageComparison[];
  /** Share of images with equal captions, 0 to 1; 1 where there is no image. */
  readonly equalCaptions: number;
  readonly largestLogitDifference: number;
}

export interface CompareModelsOptions {
  /** How captions are made. Default: the original's beam search, as `caption` does. */
  readonly caption?: CaptionOptions | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Hears how many images are done. */
  readonly onProgress?: ((done: number) => void) | undefined;
}

/**
 * How far one model is from another: the largest difference of their logits at the first word, and how often they write the same caption.
 * Both stay loaded. Throws what reading an image throws, or the signal's reason.
 */
export async function compareModels(
  first: Image2Text,
  second: Image2Text,
  images: readonly ImageInput[],
  options: CompareModelsOptions = {},
): Promise<ModelComparison> {
  const { signal, onProgress } = options;
  const rows: ImageComparison[] = [];
  for (const input of images) {
    const image = await toRawImage(input, openImage, { signal });
    const look = async (model: Image2Text) => {
      const logits = await firstLogits(model, [image], { signal });
      const { text } = await model.caption(image, { ...options.caption, ...(signal && { signal }) });
      return { logits, text };
    };
    const [a, b] = [await look(first), await look(second)];
    const logitDifference = a.logits.reduce((most, value, id) => Math.max(most, Math.abs(value - b.logits[id]!)), 0);
    rows.push({ first: a.text, second: b.text, equal: a.text === b.text, logitDifference });
    onProgress?.(rows.length);
  }
  return {
    images: rows,
    equalCaptions: rows.length === 0 ? 1 : rows.filter(({ equal }) => equal).length / rows.length,
    largestLogitDifference: rows.reduce((most, { logitDifference }) => Math.max(most, logitDifference), 0),
  };
}
