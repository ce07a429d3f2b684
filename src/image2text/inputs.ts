/** What images and videos are. Nothing of tfjs is loaded for it: a page with its model in a worker imports this. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { ImageError, OptionError } from '../errors.js';
import { type RgbImage, rgbImage, type Samples } from '../image/raw-image.js';

/** Samples of an image in memory: a canvas's `ImageData` (RGBA), or RGB, gray with alpha, gray; rows from the top. */
export interface PixelSamples {
  readonly data: Samples;
  readonly width: number;
  readonly height: number;
}

/** What a page shows: an image element, a canvas, a bitmap, the current frame of a video element or of WebCodecs. */
export type PageImage =
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | OffscreenCanvas
  | ImageBitmap
  | VideoFrame;

/**
 * What `encode` gives: an image or video that a model has encoded already. Use it wherever an image or video is taken, any number of times;
 * nothing is encoded again. It keeps the image's part of the cache (7 MB for git-base at 224 px) until `dispose()`, which waits for calls in
 * flight, or until its model is disposed.
 */
export interface EncodedImage {
  /** What was encoded. */
  readonly source: VisualInput;
  dispose(): void;
}

/**
 * An image: a path (Node) or URL; the bytes of an image file; samples in memory; something a page shows; a tensor [height, width, 1 | 3 | 4]
 * of values 0 to 255, as `tf.browser.fromPixels` makes it. The caller keeps what it gives.
 */
export type ImageInput =
  | string
  | URL
  | Uint8Array
  | ArrayBuffer
  | Blob
  | PixelSamples
  | Tensor
  | PageImage
  | EncodedImage;

/** What `video` takes: a path (Node) or URL, or the bytes, of an animated image or a video file; a folder of images (Node); a tensor [frames, height, width, 1 | 3 | 4]. */
export type VideoSource = string | URL | Uint8Array | ArrayBuffer | Blob | Tensor;

/** A video, made by `video` or `frames`: a type of its own, so that an animated GIF can be meant as an image or as a video, and a list of images as a batch or as frames. */
export type VideoInput = { readonly video: VideoSource } | { readonly frames: readonly ImageInput[] };

/** An image or a video. Every method of a model takes either. */
export type VisualInput = ImageInput | VideoInput;

/** A file, folder, animated image or tensor as a video: `model.caption(video('clip.gif'))`. */
export const video = (source: VideoSource): VideoInput => ({ video: source });

/** Images as the frames of one video, in order. Where all were encoded before, by a video model, none of them is encoded again. */
export const frames = (images: readonly ImageInput[]): VideoInput => ({ frames: images });

/** Indices of `count` items spread over `total`: the middle of each part; all where there are no more. */
export function evenly(total: number, count: number): number[] {
  if (total <= count) return Array.from({ length: total }, (_, index) => index);
  return Array.from({ length: count }, (_, part) => Math.floor(((part + 0.5) * total) / count));
}

export const isVideoInput = (input: unknown): input is VideoInput =>
  typeof input === 'object' && input !== null && ('video' in input || 'frames' in input);

export const isSamples = (value: unknown): value is PixelSamples =>
  typeof value === 'object' && value !== null && 'data' in value && 'width' in value && 'height' in value;

/** RGBA, RGB, … by the number of bytes; `rgbImage` refuses what fits none. */
export function samplesToRawImage({ data, width, height }: PixelSamples): RgbImage {
  const channels = data.length / (width * height);
  return rgbImage(data, width, height, channels === 1 || channels === 2 || channels === 4 ? channels : 3);
}

/** Told by what they have, so that no DOM is needed to ask, and a canvas of another realm or of a Node package is one too. */
export function isPageImage(value: unknown): value is PageImage {
  if (typeof value !== 'object' || value === null || 'data' in value) return false;
  const isBitmap = 'close' in value && 'width' in value && 'height' in value;
  return isBitmap || ['naturalWidth', 'videoWidth', 'displayWidth', 'getContext'].some((name) => name in value);
}

/** Width and height in its own pixels, whatever the page scales it to. */
function sizeOf(source: PageImage): [width: number, height: number] {
  if ('naturalWidth' in source) return [source.naturalWidth, source.naturalHeight];
  if ('videoWidth' in source) return [source.videoWidth, source.videoHeight];
  if ('displayWidth' in source) return [source.displayWidth, source.displayHeight];
  return [source.width, source.height];
}

/**
 * The samples of something that a page shows, RGBA in its own size: the canvas copies and never scales.
 *
 * The browser has decoded it, with color management and its own JPEG decoder: for the very pixels of the reference give the file's
 * bytes (a `Blob` or `File`) instead.
 *
 * @throws ImageError where nothing is loaded yet, or the image is of another origin.
 */
export function readPixels(source: PageImage): PixelSamples {
  const [width, height] = sizeOf(source);
  if (!(width >= 1 && height >= 1))
    throw new ImageError({ code: 'not-loaded', detail: 'it has no pixels yet: wait for its load event' });
  const own = 'getContext' in source ? context2d(source) : undefined;
  const context = own ?? context2d(blankCanvas(width, height));
  if (context === undefined) throw new ImageError({ code: 'no-canvas', detail: 'this browser gives no 2d canvas' });
  try {
    if (own === undefined) context.drawImage(source, 0, 0);
    return context.getImageData(0, 0, width, height);
  } catch (cause) {
    const detail = 'the page may not read images of another origin; serve it with CORS';
    throw new ImageError({ code: 'other-origin', detail, cause });
  }
}

type Context2d = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** A canvas that has another kind of context has no 2d one. */
const context2d = (canvas: HTMLCanvasElement | OffscreenCanvas): Context2d | undefined =>
  (canvas.getContext('2d', { willReadFrequently: true }) as Context2d | null) ?? undefined;

function blankCanvas(width: number, height: number): HTMLCanvasElement | OffscreenCanvas {
  if (typeof OffscreenCanvas !== 'undefined') return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement('canvas'), { width, height });
}

// What TypeScript promises, checked for callers without it: a wrong argument is named before anything is computed.

const kindOf = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'a list'
      : value === undefined
        ? 'nothing'
        : `a value of type ${typeof value}`;

const wrong = (path: string, expected: string, found: unknown): OptionError =>
  new OptionError({ path, code: 'wrong-type', detail: `expected ${expected}, found ${kindOf(found)}` });

/**
 * Options that are an object, with no name beside `known` (all names are welcome where it is undefined).
 *
 * @throws OptionError naming the option.
 */
export function checkOptions<O extends object>(options: O | undefined, known?: readonly (keyof O & string)[]): O {
  const given = options ?? ({} as O);
  if (options === null || typeof given !== 'object' || Array.isArray(given))
    throw wrong('options', 'an object', options);
  const odd =
    known === undefined ? undefined : Object.keys(given).find((name) => !known.includes(name as keyof O & string));
  if (odd !== undefined) {
    throw new OptionError({
      path: odd,
      code: 'unknown-option',
      detail: `there is no option of this name; known are ${known?.join(', ')}`,
    });
  }
  const { prompt } = given as { prompt?: unknown };
  if (prompt !== undefined && typeof prompt !== 'string') throw wrong('prompt', 'a text', prompt);
  const { trace } = given as { trace?: unknown };
  if (trace !== undefined && typeof trace !== 'function') throw wrong('trace', 'a function', trace);
  return given;
}

/** A list of texts. */
export function checkTexts(path: string, texts: unknown): readonly string[] {
  if (!Array.isArray(texts)) throw wrong(path, 'a list of texts', texts);
  texts.forEach((text: unknown, n) => {
    if (typeof text !== 'string') throw wrong(`${path}[${n}]`, 'a text', text);
  });
  return texts as readonly string[];
}

/** A text, or a list of them, as a list. */
export const checkTextOrTexts = (path: string, texts: unknown): readonly string[] =>
  typeof texts === 'string' ? [texts] : checkTexts(path, texts);

/** One image or video, where a list would be taken for several. */
export function checkOne(path: string, item: unknown): void {
  if (Array.isArray(item)) throw wrong(path, `one ${path}`, item);
}

/** What an encoded image was made of. */
export const sourceOf = (input: VisualInput): VisualInput =>
  typeof input === 'object' && 'source' in input && !isVideoInput(input) ? sourceOf(input.source) : input;
