import type { Tensor } from '@tensorflow/tfjs-core';
import { Tensor as TensorClass, unstack } from '@tensorflow/tfjs-core';
import { ConfigError, ImageError } from '../errors.js';
import { decodeFrames } from '../image/decode.js';
import type { RawImage } from '../image/raw-image.js';
import type { ImageInput, ImageOptions, OpenImage } from './images.js';
import { decodeOptions, toRawImage } from './images.js';

/** The frames of one video, in order. A type of its own, so that a list of images is never taken for a video or the other way round. */
export interface Frames {
  readonly frames: readonly ImageInput[];
}

/** Images as the frames of one video. */
export const frames = (images: readonly ImageInput[]): Frames => ({ frames: images });

/**
 * A video: `frames([...])`; a path or URL, or the bytes, of an animated GIF; in Node also a folder of images, or any file that
 * the user's own ffmpeg reads; or a tensor [frames, height, width, 1 | 3 | 4] of values 0 to 255.
 */
export type Video = Frames | string | URL | Uint8Array | ArrayBuffer | Blob | Tensor;

/** Opens a path or URL as frames, at most about `count` of them, evenly spaced; undefined where it is an image file after all. */
export type OpenVideo = (
  address: string | URL,
  count: number,
  signal?: AbortSignal,
) => Promise<readonly ImageInput[] | undefined>;

/**
 * The frames of a video that a model of `count` frames looks at: all if there are no more than that, else the middle of each of
 * `count` equal parts.
 *
 * @throws ImageError naming the video; ConfigError for a model of single images; the signal's reason.
 */
export async function toFrames(
  video: Video,
  count: number,
  open: { readonly image: OpenImage; readonly video?: OpenVideo | undefined },
  options: ImageOptions = {},
): Promise<RawImage[]> {
  if (count === 0) {
    const detail =
      'this checkpoint is for single images; video models have num_image_with_embedding in config.json (git-base-vatex, …)';
    throw new ConfigError({ code: 'not-a-video-model', detail });
  }
  checkVideo(video);
  if (video instanceof TensorClass) return fromTensor(video, count, open.image, options);
  const listed =
    typeof video !== 'string' && isFrames(video) ? video.frames : await openFrames(video, count, open, options);
  if (listed.length === 0) throw new ImageError({ code: 'no-frames', detail: 'a video needs at least one frame' });
  const images: RawImage[] = [];
  for (const index of evenly(listed.length, count)) images.push(await toRawImage(listed[index]!, open.image, options));
  return images;
}

const isFrames = (video: Video): video is Frames => 'frames' in (video as object);

/** Anything but the kinds of `Video` is named before it is taken for bytes. */
function checkVideo(video: unknown): void {
  const isObject = typeof video === 'object' && video !== null;
  const isBytes = video instanceof Uint8Array || video instanceof ArrayBuffer || video instanceof Blob;
  if (typeof video === 'string' || video instanceof URL || video instanceof TensorClass || isBytes) return;
  if (isObject && Array.isArray((video as Partial<Frames>).frames)) return;
  const detail = 'a video is frames([...]), a path or URL, the bytes of an animated GIF, or a tensor of rank 4';
  throw new ImageError({ code: 'not-a-video', detail });
}

async function openFrames(
  video: Exclude<Video, Frames | Tensor>,
  count: number,
  open: { readonly image: OpenImage; readonly video?: OpenVideo | undefined },
  options: ImageOptions,
): Promise<readonly ImageInput[]> {
  if (typeof video === 'string' || video instanceof URL) {
    const opened = await open.video?.(video, count, options.signal);
    if (opened !== undefined) return opened;
    const { bytes, file } = await open.image(video, options.signal);
    return decodeFrames(bytes, decodeOptions(file, options));
  }
  const bytes = video instanceof Blob ? await video.arrayBuffer() : video;
  return decodeFrames(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes), decodeOptions('video', options));
}

async function fromTensor(video: Tensor, count: number, open: OpenImage, options: ImageOptions): Promise<RawImage[]> {
  if (video.rank !== 4) {
    throw new ImageError({
      code: 'tensor-shape',
      detail: `a tensor of shape [${video.shape}]; a video is [frames, height, width, 1 | 3 | 4]`,
    });
  }
  const all = unstack(video);
  try {
    return await Promise.all(evenly(all.length, count).map((index) => toRawImage(all[index]!, open, options)));
  } finally {
    for (const frame of all) frame.dispose();
  }
}

/** Indices of `count` items spread over `total`: the middle of each part; all where there are no more. */
export function evenly(total: number, count: number): number[] {
  if (total <= count) return Array.from({ length: total }, (_, index) => index);
  return Array.from({ length: count }, (_, part) => Math.floor(((part + 0.5) * total) / count));
}
