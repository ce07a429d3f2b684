import type { Tensor } from '@tensorflow/tfjs-core';
import { Tensor as TensorClass, unstack } from '@tensorflow/tfjs-core';
import { ConfigError, ImageError } from '../errors.js';
import { finish, runInSlices, unlessAborted } from '../event-loop.js';
import type { DecodeOptions } from '../image/decode.js';
import { DEFAULT_MAX_PIXELS, decodeFrames, decodeImage } from '../image/decode.js';
import type { ImageConfig } from '../image/image-config.js';
import type { ImageOptions, PreprocessOptions } from '../image/image-options.js';
import { type PixelValues, preprocessSteps } from '../image/preprocess.js';
import { type RgbImage, rgbImage } from '../image/raw-image.js';
import { eventSink } from '../load-events.js';
import type { Git } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import { showValue } from '../options.js';
import type { ModelInput } from './encoded-image.js';
import { encodedInput, isEncodedImage } from './encoded-image.js';
import type { ImageInput, VideoInput, VideoSource, VisualInput } from './inputs.js';
import { evenly, isPageImage, isSamples, isVideoInput, readPixels, samplesToRawImage } from './inputs.js';

/** Reads the bytes at a path or URL, and says what to call them in messages. */
export type OpenImage = (address: string | URL, signal?: AbortSignal) => Promise<{ bytes: Uint8Array; file: string }>;

/** Opens a path or URL as frames, at most about `count` of them, evenly spaced; undefined where it is an image file after all. */
export type OpenVideo = (
  address: string | URL,
  count: number,
  signal?: AbortSignal,
) => Promise<readonly ImageInput[] | undefined>;

/** Converts the bytes of a HEIF file, upright, to those of a PNG; refuses an image of more than `maxPixels`. */
export type ConvertHeic = (
  bytes: Uint8Array,
  file: string,
  maxPixels: number,
  signal?: AbortSignal,
) => Promise<Uint8Array>;

/** An image file, and all that says how it becomes the model's input. */
export interface ImageJob {
  readonly bytes: Uint8Array;
  readonly decoding: Omit<DecodeOptions, 'signal'>;
  readonly config: ImageConfig;
  readonly preprocessing: PreprocessOptions;
}

/**
 * Decodes and preprocesses an image file elsewhere, as `decodeImage` and `preprocess` do. Undefined where it cannot (a damaged file, a format that
 * needs more): the image is read here then, with the error or the result that there is.
 */
export type PrepareImage = (
  job: ImageJob,
) => Promise<{ readonly pixels: PixelValues; readonly warnings: readonly string[] } | undefined>;

/** Damage of an image file that was mended: one line, parts separated by semicolons. */
export interface ImageWarning {
  readonly file: string;
  readonly warning: string;
}

/** How images and videos are opened, decoded and preprocessed. */
export interface InputOptions extends Omit<ImageOptions, 'signal'> {
  /** Turns a HEIF file into an image that is decoded here; `/node` runs the user's heif-convert or ffmpeg. Default: none, HEIF is refused. */
  readonly convertHeic?: ConvertHeic | undefined;
  /** Receives what was damaged in an image file and mended as libjpeg or libpng do. Default: `console.warn`. */
  readonly onWarning?: ((warning: ImageWarning) => unknown) | undefined;
  /** Opens paths and URLs; `/node` gives its own. Default: `fetch`. */
  readonly openImage?: OpenImage | undefined;
  /** Opens folders and files as videos; `/node` gives its own. Default: none, videos are animated images or frames. */
  readonly openVideo?: OpenVideo | undefined;
  /**
   * Reads image files in threads, as the command does for many: those of the next batch while the model works on this one. Default: none, an image is read
   * when its turn comes.
   */
  readonly prepareImage?: PrepareImage | undefined;
}

/** From what a caller calls an image or a video to what the model takes. */
export interface InputLoader {
  readonly preprocessing: PreprocessOptions;
  /** The image, or the frames of the video that the model takes, as RGB. */
  open(input: VisualInput, signal?: AbortSignal): Promise<RgbImage | RgbImage[]>;
  /** Preprocessed for the model, and checked to fit it; a list is the frames of a video. */
  prepare(images: RgbImage | readonly RgbImage[]): ModelInput;
  /** The same in slices, between which other tasks run. @throws the signal's reason. */
  prepareInSlices(images: RgbImage | readonly RgbImage[], signal?: AbortSignal): Promise<ModelInput>;
  /** Images of http addresses as their bytes, a few at a time, or why they cannot be had; everything else as it is. */
  fetchRemote(inputs: readonly VisualInput[], signal?: AbortSignal): Promise<(VisualInput | Error)[]>;
  /** Both, or what was encoded before. */
  load(input: VisualInput, signal?: AbortSignal): Promise<ModelInput>;
  /** Whether images are read elsewhere, so that it pays to begin before their turn. */
  readonly readsAhead: boolean;
}

/** Most bytes of an image file. */
export const MAX_IMAGE_BYTES = 256 * 2 ** 20;

const FETCHES_AT_ONCE = 4;

const isRemote = (input: VisualInput): boolean =>
  (typeof input === 'string' || input instanceof URL) && /^https?:/i.test(String(input));

/** A loader for the images and videos of one model. */
export function createInputLoader(git: Git, imageConfig: ImageConfig, given: InputOptions = {}): InputLoader {
  const { config } = git;
  const preprocessing: PreprocessOptions = withoutUndefined({
    preprocessing: given.preprocessing,
    keepRatio: given.keepRatio,
  });
  const options: InputOptions = { ...given, onWarning: eventSink(given.onWarning ?? warnOnConsole) };
  function* prepareSteps(images: RgbImage | readonly RgbImage[]): Generator<void, ModelInput> {
    const isVideo = Array.isArray(images);
    const frames = (isVideo ? images : [images]) as readonly RgbImage[];
    const { data, shape } = yield* preprocessSteps(frames, imageConfig, preprocessing);
    checkSize(shape, config);
    return { data, shape: isVideo ? [1, ...shape] : shape };
  }
  const loader: InputLoader = {
    preprocessing,
    readsAhead: options.prepareImage !== undefined,
    open: (input, signal) =>
      isVideoInput(input)
        ? openFrames(input, config.numImageWithEmbedding, options, signal)
        : toRgbImage(input, options, signal),
    prepare: (images) => finish(prepareSteps(images)),
    prepareInSlices: (images, signal) => runInSlices(prepareSteps(images), signal),
    async fetchRemote(inputs, signal) {
      const fetched: (VisualInput | Error)[] = [...inputs];
      const remote = inputs.flatMap((input, n) => (isRemote(input) ? [n] : []));
      const next = async (): Promise<void> => {
        for (let n = remote.shift(); n !== undefined; n = remote.shift()) {
          try {
            const { bytes, file } = await openAddress(inputs[n] as string | URL, options, signal);
            fetched[n] = new File([bytes as BlobPart], file);
          } catch (error) {
            signal?.throwIfAborted();
            fetched[n] = error as Error;
          }
        }
      };
      await Promise.all(Array.from({ length: FETCHES_AT_ONCE }, next));
      return fetched;
    },
    async load(input, signal) {
      const encoded = encodedInput(input, git);
      if (encoded !== undefined) return encoded;
      if (options.prepareImage !== undefined && isFile(input))
        return loadElsewhere(input, options.prepareImage, signal);
      return loader.prepareInSlices(await loader.open(input, signal), signal);
    },
  };
  return loader;

  async function loadElsewhere(
    input: Address,
    prepareImage: PrepareImage,
    signal: AbortSignal | undefined,
  ): Promise<ModelInput> {
    const { bytes, file } = isBytes(input)
      ? { bytes: await bytesOf(input), file: nameOf(input, 'image') }
      : await openAddress(input, options, signal);
    const { signal: _, ...decoding } = decodeOptions(file, options, signal);
    const found = await unlessAborted(prepareImage({ bytes, decoding, config: imageConfig, preprocessing }), signal);
    if (found === undefined) return loader.prepareInSlices(await decodeFile(bytes, file, options, signal), signal);
    report(file, found.warnings, options);
    checkSize(found.pixels.shape, config);
    return found.pixels;
  }
}

/** `open` for so many inputs, which can be told to begin before their turn. */
export function readingAhead(
  total: number,
  open: (input: number, signal: AbortSignal) => Promise<ModelInput>,
  signal: AbortSignal,
) {
  const begun = new Map<number, Promise<ModelInput>>();
  return {
    load(input: number, signal: AbortSignal): Promise<ModelInput> {
      const opened = begun.get(input) ?? open(input, signal);
      begun.delete(input); // whoever asked for the pixels frees them
      return opened;
    },
    loadAhead(first: number, count: number): void {
      for (let n = first; n < Math.min(first + count, total); n++) {
        if (begun.has(n)) continue;
        const opened = open(n, signal);
        opened.catch(() => {}); // told when its turn comes
        begun.set(n, opened);
      }
    },
  };
}

/** Whether an input is an image file rather than pixels. */
const isFile = (input: VisualInput): input is Address =>
  !isVideoInput(input) && (typeof input === 'string' || input instanceof URL || isBytes(input));

const withoutUndefined = <T extends object>(options: T): T =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;

/**
 * Any image as RGB.
 *
 * @throws ImageError naming the image; the signal's reason.
 */
export async function toRgbImage(
  image: ImageInput,
  options: InputOptions = {},
  signal?: AbortSignal,
): Promise<RgbImage> {
  signal?.throwIfAborted();
  if (isEncodedImage(image)) {
    if (!isVideoInput(image.source)) return toRgbImage(image.source, options, signal);
    throw new ImageError({ code: 'not-an-image', detail: 'this is an encoded video' });
  }
  if (image instanceof TensorClass) return tensorToRawImage(image);
  if (typeof image === 'string' || image instanceof URL) {
    const { bytes, file } = await openAddress(image, options, signal);
    return decodeFile(bytes, file, options, signal);
  }
  if (isBytes(image)) return decodeFile(await bytesOf(image), nameOf(image, 'image'), options, signal);
  if (isSamples(image)) return samplesToRawImage(image);
  if (isPageImage(image)) return samplesToRawImage(readPixels(image));
  throw new ImageError({
    code: 'not-an-image',
    detail: `${showValue(image)} is no path, URL, bytes, samples, tensor or element of a page`,
  });
}

/** Ends with the signal, even where the caller's own opener never answers. */
const openAddress = (address: string | URL, { openImage = fetchImage }: InputOptions, signal?: AbortSignal) =>
  unlessAborted(openImage(address, signal), signal);

/** The bytes of an image file as RGB; HEIF through the caller's converter; damage that was mended is reported. */
async function decodeFile(
  bytes: Uint8Array,
  file: string,
  options: InputOptions,
  signal: AbortSignal | undefined,
): Promise<RgbImage> {
  const decoding = decodeOptions(file, options, signal);
  const decoded = await decodeImage(bytes, decoding).catch(async (error: unknown) => {
    if (!(error instanceof ImageError && error.code === 'heic') || options.convertHeic === undefined) throw error;
    const png = await unlessAborted(
      options.convertHeic(bytes, file, options.maxPixels ?? DEFAULT_MAX_PIXELS, signal),
      signal,
    );
    return decodeImage(png, { ...decoding, orientation: false });
  });
  const { warnings, ...image } = decoded;
  report(file, warnings, options);
  return image;
}

/** The frames of the bytes of an animated image; damage that was mended is reported once. */
async function decodeAnimation(
  bytes: Uint8Array,
  file: string,
  options: InputOptions,
  signal: AbortSignal | undefined,
): Promise<RgbImage[]> {
  const decoded = await decodeFrames(bytes, decodeOptions(file, options, signal));
  report(file, decoded[0]?.warnings ?? [], options);
  return decoded.map(({ warnings: _, ...image }) => image);
}

/** One warning a file, whatever was mended in it. */
function report(file: string, warnings: readonly string[], { onWarning = warnOnConsole }: InputOptions): void {
  if (warnings.length > 0) onWarning({ file, warning: warnings.join('; ') });
}

const warnOnConsole = ({ file, warning }: ImageWarning): void => console.warn(`${file}: ${warning}`);

const isBytes = (value: unknown): value is Uint8Array | ArrayBuffer | Blob =>
  value instanceof Uint8Array || value instanceof ArrayBuffer || value instanceof Blob;

async function bytesOf(source: Uint8Array | ArrayBuffer | Blob): Promise<Uint8Array> {
  const bytes = source instanceof Blob ? await source.arrayBuffer() : source;
  return bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
}

const nameOf = (source: unknown, otherwise: string): string =>
  typeof File !== 'undefined' && source instanceof File ? source.name : otherwise;

const decodeOptions = (file: string, options: InputOptions, signal: AbortSignal | undefined): DecodeOptions => {
  const { maxPixels, orientation } = options;
  return { file, maxPixels, orientation, signal };
};

/**
 * The frames of a video that a model of `count` frames takes: all if there are no more than that, else the middle of each of
 * `count` equal parts.
 *
 * @throws ImageError naming the video; ConfigError for a model of single images; the signal's reason.
 */
export async function openFrames(
  input: VideoInput,
  count: number,
  options: InputOptions = {},
  signal?: AbortSignal,
): Promise<RgbImage[]> {
  if (count === 0) {
    const detail =
      'this checkpoint is for single images; video models have num_image_with_embedding in config.json (git-base-vatex, …)';
    throw new ConfigError({ code: 'not-a-video-model', detail });
  }
  checkVideo(input);
  if ('video' in input && input.video instanceof TensorClass) return framesOfTensor(input.video, count);
  const listed = 'frames' in input ? input.frames : await listFrames(input.video as Address, count, options, signal);
  if (listed.length === 0) throw new ImageError({ code: 'no-frames', detail: 'a video needs at least one frame' });
  const images: RgbImage[] = [];
  for (const index of evenly(listed.length, count)) images.push(await toRgbImage(listed[index]!, options, signal));
  return images;
}

type Address = Exclude<VideoSource, Tensor>;

/** For callers without types. */
function checkVideo(input: VideoInput): void {
  if ('frames' in input && Array.isArray(input.frames)) return;
  const source: unknown = 'video' in input ? input.video : undefined;
  if (typeof source === 'string' || source instanceof URL || isBytes(source) || source instanceof TensorClass) return;
  const detail =
    'video(…) takes a path or URL, the bytes of an animated image, or a tensor of rank 4; images are frames([…])';
  throw new ImageError({ code: 'not-a-video', detail });
}

async function listFrames(
  source: Address,
  count: number,
  options: InputOptions,
  signal: AbortSignal | undefined,
): Promise<readonly ImageInput[]> {
  if (typeof source === 'string' || source instanceof URL) {
    const opened = options.openVideo && (await unlessAborted(options.openVideo(source, count, signal), signal));
    if (opened !== undefined) return opened;
    const { bytes, file } = await openAddress(source, options, signal);
    return decodeAnimation(bytes, file, options, signal);
  }
  return decodeAnimation(await bytesOf(source), nameOf(source, 'video'), options, signal);
}

async function framesOfTensor(video: Tensor, count: number): Promise<RgbImage[]> {
  if (video.rank !== 4) {
    throw new ImageError({
      code: 'tensor-shape',
      detail: `a tensor of shape [${video.shape}]; a video is [frames, height, width, 1 | 3 | 4]`,
    });
  }
  const all = unstack(video);
  try {
    return await Promise.all(evenly(all.length, count).map((index) => tensorToRawImage(all[index]!)));
  } finally {
    for (const frame of all) frame.dispose();
  }
}

/** Most image tokens of one image: attention grows with their square (1,024 px with patches of 16). */
const MAX_IMAGE_TOKENS = 4097;

/** Refuses input that would not fit the patches or the memory. */
function checkSize([, height, width]: readonly [number, number, number, number], { vision }: GitConfig): void {
  const tokens = 1 + Math.floor(height / vision.patchSize) * Math.floor(width / vision.patchSize);
  if (tokens > 1 && tokens <= MAX_IMAGE_TOKENS) return;
  const detail = `${width} by ${height} pixels make ${tokens - 1} patches of ${vision.patchSize}; 1 to ${MAX_IMAGE_TOKENS - 1} are possible`;
  throw new ImageError({ code: 'input-size', detail });
}

/** An address for messages: without its query and fragment, which may hold a token. */
export function shownAddress(address: string | URL): string {
  const text = String(address);
  if (text.startsWith('data:')) return 'data URL';
  return /^https?:/i.test(text) ? text.replace(/[?#].*$/s, '').replace(/\/\/[^/@]*@/, '//') : text;
}

/** Fetches an image by URL, at most `MAX_IMAGE_BYTES`. */
export const fetchImage: OpenImage = async (address, signal) => {
  const file = shownAddress(address);
  const isPath = !/^(?!file:)[a-z][a-z+.-]+:/i.test(String(address)); // pages and their workers know what a path is relative to
  if (isPath && (globalThis as { location?: unknown }).location === undefined) {
    throw new ImageError({ file, code: 'cannot-open', detail: 'paths are opened by generative-image2text/node only' });
  }
  try {
    const response = await fetch(address, signal === undefined ? {} : { signal });
    if (!response.ok) {
      await response.body?.cancel();
      throw new ImageError({
        file,
        code: 'http-status',
        detail: `the server answered ${response.status} ${response.statusText}`,
      });
    }
    return { bytes: await readBody(response, file), file };
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof ImageError) throw cause;
    throw new ImageError({ file, code: 'cannot-fetch', detail: whyNoFetch(cause as Error, address), cause });
  }
};

/** `fetch` itself says no more than that it failed; its cause has the code (ECONNREFUSED, ENOTFOUND), or at least a reason. */
function whyNoFetch({ message, cause }: Error, address: string | URL): string {
  const { code, message: reason } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  const why = code ?? reason;
  const said = why === undefined || why === '' ? message : `${message} (${String(why)})`;
  return said.replaceAll(String(address), shownAddress(address));
}

async function readBody(response: Response, file: string): Promise<Uint8Array> {
  const chunks: BlobPart[] = [];
  const reader = response.body?.getReader();
  for (let size = 0; reader !== undefined; ) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > MAX_IMAGE_BYTES) {
      await reader.cancel();
      throw new ImageError({ file, code: 'file-too-large', detail: `more than ${MAX_IMAGE_BYTES} bytes` });
    }
    chunks.push(value);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** Whether a value is a tensor of rank 4, which stands for as many images as its first dimension says. */
export const isImageBatch = (input: unknown): input is Tensor => input instanceof TensorClass && input.rank === 4;

/** The images of a tensor [images, height, width, 1 | 3 | 4]; the caller disposes of them. */
function imagesOf(batch: Tensor): Tensor[] {
  if (batch.isDisposed) throw new ImageError({ code: 'tensor-disposed', detail: 'this tensor was disposed' });
  return unstack(batch);
}

/** A tensor [height, width, 1 | 3 | 4] as RGB. */
async function tensorToRawImage(tensor: Tensor): Promise<RgbImage> {
  const [height, width, channels] = tensor.shape;
  if (tensor.rank !== 3 || (channels !== 1 && channels !== 3 && channels !== 4)) {
    const detail = `a tensor of shape [${tensor.shape}]; an image is [height, width, 1 | 3 | 4], a batch [images, height, width, 1 | 3 | 4] is for caption and generate, a video is video(tensor)`;
    throw new ImageError({ code: 'tensor-shape', detail });
  }
  if (tensor.isDisposed) throw new ImageError({ code: 'tensor-disposed', detail: 'this tensor was disposed' });
  const values = (await tensor.data()) as ArrayLike<number>;
  const odd = Array.prototype.findIndex.call(values, (value: number) => !(value >= 0 && value <= 255));
  if (odd >= 0) {
    throw new ImageError({ code: 'tensor-values', detail: `value ${odd} is ${values[odd]}; samples are 0 to 255` });
  }
  if (tensor.dtype === 'float32' && isUnitRange(values)) {
    const detail = 'all values are within 0 to 1; samples are 0 to 255: multiply by 255';
    throw new ImageError({ code: 'tensor-values', detail });
  }
  return rgbImage(Uint8Array.from(values, Math.round), width!, height!, channels);
}

/** Is this an image in tfjs's other convention for floats? A black one is the same in both. */
function isUnitRange(values: ArrayLike<number>): boolean {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i]!);
  return most > 0 && most <= 1;
}

/** One input or several as a list; a tensor [images, height, width, 1 | 3 | 4] is as many images. */
export async function withList<T>(
  inputs: VisualInput | readonly VisualInput[],
  body: (inputs: readonly VisualInput[]) => Promise<T>,
): Promise<T> {
  if (Array.isArray(inputs)) return body(inputs as readonly VisualInput[]);
  if (!isImageBatch(inputs)) return body([inputs as VisualInput]);
  const images = imagesOf(inputs);
  try {
    return await body(images);
  } finally {
    for (const image of images) image.dispose();
  }
}
