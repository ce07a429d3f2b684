import type { ImageConfig } from '../image/image-config.js';
import type { PreprocessOptions } from '../image/preprocess.js';
import { preprocess } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import type { Git } from '../model/git.js';
import type { ModelInput } from './encode.js';
import { checkSize } from './encode.js';
import type { ImageInput, ImageOptions, OpenImage } from './images.js';
import { fetchImage, toRawImage } from './images.js';
import { isSeen, seenInput } from './seen.js';
import type { OpenVideo, Video } from './videos.js';
import { toFrames } from './videos.js';

/** How a model sees. */
export interface SightOptions extends Omit<ImageOptions, 'signal'>, PreprocessOptions {
  /** Opens paths and URLs; Node's door gives its own. Default: `fetch`. */
  readonly openImage?: OpenImage | undefined;
  /** Opens folders and files as videos; Node's door gives its own. Default: none, videos are animated GIFs or frames. */
  readonly openVideo?: OpenVideo | undefined;
}

/** From what a caller calls an image or a video to what the model takes. */
export interface Eyes {
  readonly preprocess: PreprocessOptions;
  /** The image itself, as RGB. */
  openImage(image: ImageInput, signal: AbortSignal): Promise<RawImage[]>;
  /** The frames that the model looks at, as RGB. */
  openVideo(video: Video, signal: AbortSignal): Promise<RawImage[]>;
  /** Preprocessed for the model, and checked to fit it. */
  toInput(images: readonly RawImage[], video: boolean): ModelInput;
  look(image: ImageInput, signal: AbortSignal): Promise<ModelInput>;
  watch(video: Video, signal: AbortSignal): Promise<ModelInput>;
}

export function openEyes(git: Git, imageConfig: ImageConfig, sight: SightOptions): Eyes {
  const { config } = git;
  const { openImage: image = fetchImage, openVideo: video, route, keepRatio, ...decoding } = sight;
  const options: PreprocessOptions = {
    ...(route === undefined ? {} : { route }),
    ...(keepRatio === undefined ? {} : { keepRatio }),
  };
  const toInput = (images: readonly RawImage[], isVideo: boolean): ModelInput => {
    const pixels = preprocess(images, imageConfig, options);
    checkSize(pixels, config);
    return { pixels, video: isVideo };
  };
  const eyes: Eyes = {
    preprocess: options,
    toInput,
    openImage: async (item, signal) => [await toRawImage(item, image, { ...decoding, signal })],
    openVideo: (item, signal) =>
      toFrames(item, config.numImageWithEmbedding, { image, video }, { ...decoding, signal }),
    look: async (item, signal) =>
      isSeen(item) ? seenInput(item, git) : toInput(await eyes.openImage(item, signal), false),
    watch: async (item, signal) => toInput(await eyes.openVideo(item, signal), true),
  };
  return eyes;
}
