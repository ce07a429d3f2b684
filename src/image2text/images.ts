import type { Tensor } from '@tensorflow/tfjs-core';
import { Tensor as TensorClass } from '@tensorflow/tfjs-core';
import { ImageError } from '../errors.js';
import type { DecodeOptions } from '../image/decode.js';
import { decodeImage } from '../image/decode.js';
import type { RawImage, Samples } from '../image/raw-image.js';
import { rawImage } from '../image/raw-image.js';

import type { EncodedImage } from './seen.js';
import { isSeen } from './seen.js';

/** Samples of an image in memory: a canvas's `ImageData` (RGBA), or RGB, gray with alpha, gray; rows from the top. */
export interface PixelSamples {
  readonly data: Samples;
  readonly width: number;
  readonly height: number;
}

/**
 * An image: a path (Node) or URL; the bytes of a PNG, JPEG, WebP or GIF; samples in memory; or a tensor [height, width, 1 | 3 | 4]
 * of values 0 to 255, as `tf.browser.fromPixels` makes it; or what `look` gave. The caller keeps what it gives.
 */
export type ImageInput = string | URL | Uint8Array | ArrayBuffer | Blob | PixelSamples | Tensor | EncodedImage;

/** How an image's bytes become pixels. */
export interface ImageOptions {
  /** Turn the image as its EXIF orientation says, as viewers do. Default true. */
  readonly exifOrientation?: boolean | undefined;
  /** Most pixels to decode; refused from the header. Default 100 million. */
  readonly maxPixels?: number | undefined;
  /** Where the WebP decoder's WebAssembly comes from; Node's door gives its own. Default: fetched from beside the codec. */
  readonly webpWasm?: DecodeOptions['webpWasm'] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Fetches the bytes of a path or URL, and says what to call them in messages. */
export type OpenImage = (address: string | URL, signal?: AbortSignal) => Promise<{ bytes: Uint8Array; file: string }>;

/** Most bytes of an image file. */
export const MAX_IMAGE_BYTES = 256 * 2 ** 20;

/**
 * Any image as RGB.
 *
 * @throws ImageError naming the image; the signal's reason.
 */
export async function toRawImage(image: ImageInput, open: OpenImage, options: ImageOptions = {}): Promise<RawImage> {
  options.signal?.throwIfAborted();
  if (isSeen(image)) return toRawImage(image.seen, open, options);
  if (image instanceof TensorClass) return fromTensor(image);
  if (typeof image === 'string' || image instanceof URL) {
    const { bytes, file } = await open(image, options.signal);
    return decode(bytes, file, options);
  }
  if (image instanceof Uint8Array) return decode(image, 'image', options);
  if (image instanceof ArrayBuffer) return decode(new Uint8Array(image), 'image', options);
  if (image instanceof Blob) return decode(new Uint8Array(await image.arrayBuffer()), blobName(image), options);
  if (isSamples(image)) return rawImage(image.data, image.width, image.height, channelsOf(image));
  throw new ImageError({
    code: 'not-a-image',
    detail: `${describe(image)} is no path, URL, bytes, samples or tensor`,
  });
}

const decode = (bytes: Uint8Array, file: string, options: ImageOptions): Promise<RawImage> =>
  decodeImage(bytes, decodeOptions(file, options));

/** What the pixel room needs to know to decode `file`. */
export function decodeOptions(file: string, options: ImageOptions): DecodeOptions {
  const { maxPixels, exifOrientation, webpWasm } = options;
  return {
    file,
    ...(maxPixels === undefined ? {} : { maxPixels }),
    ...(exifOrientation === undefined ? {} : { exifOrientation }),
    ...(webpWasm === undefined ? {} : { webpWasm }),
  };
}

const blobName = (blob: Blob): string => (blob instanceof File ? blob.name : 'image');

const isSamples = (value: unknown): value is PixelSamples =>
  typeof value === 'object' && value !== null && 'data' in value && 'width' in value && 'height' in value;

/** RGBA, RGB, … by the number of bytes; `rawImage` refuses what fits none. */
function channelsOf({ data, width, height }: PixelSamples): 1 | 2 | 3 | 4 {
  const channels = data.length / (width * height);
  return channels === 1 || channels === 2 || channels === 4 ? channels : 3;
}

async function fromTensor(tensor: Tensor): Promise<RawImage> {
  const [height, width, channels] = tensor.shape;
  if (tensor.rank !== 3 || (channels !== 1 && channels !== 3 && channels !== 4)) {
    const detail = `a tensor of shape [${tensor.shape}]; an image is [height, width, 1 | 3 | 4], several images are an array`;
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
  return rawImage(Uint8Array.from(values, Math.round), width!, height!, channels);
}

/** Is this an image in tfjs's other convention for floats? A black one is the same in both. */
function isUnitRange(values: ArrayLike<number>): boolean {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i]!);
  return most > 0 && most <= 1;
}

/** Fetches an image by URL, at most `MAX_IMAGE_BYTES`. */
export const fetchImage: OpenImage = async (address, signal) => {
  const file = String(address).startsWith('data:') ? 'data URL' : String(address);
  if (!/^(https?|data|blob):/i.test(String(address)) && typeof document === 'undefined') {
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
    throw new ImageError({ file, code: 'cannot-fetch', detail: whyNoFetch(cause as Error), cause });
  }
};

/** `fetch` itself says no more than that it failed; its cause has the code (ECONNREFUSED, ENOTFOUND), or at least a reason. */
function whyNoFetch({ message, cause }: Error): string {
  const { code, message: reason } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  const why = code ?? reason;
  return why === undefined || why === '' ? message : `${message} (${String(why)})`;
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

const describe = (value: unknown): string => (value === null ? 'null' : `a value of type ${typeof value}`);
