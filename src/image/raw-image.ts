import { ImageError } from '../errors.js';

/** A decoded image: 8-bit RGB, rows from the top, no padding. `data.length` is width * height * 3. */
export interface RgbImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Bytes that hold samples: a canvas gives Uint8ClampedArray, Node gives Buffer, both are welcome. */
export type Samples = Uint8Array | Uint8ClampedArray;

/**
 * Wraps or converts raw samples, uint8 [height, width, channels].
 * Alpha is dropped, never blended, as Pillow's `convert("RGB")` does; gray is repeated. RGB is taken without a copy.
 * @throws ImageError when the sides are not positive integers or the length does not fit them.
 */
export function rgbImage(data: Samples, width: number, height: number, channels: 1 | 2 | 3 | 4 = 3): RgbImage {
  checkRaw(data, width, height, channels);
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data.buffer, data.byteOffset, data.length);
  if (channels === 3) return { data: bytes, width, height };
  const rgb = new Uint8Array(width * height * 3);
  const [green, blue] = channels === 4 ? [1, 2] : [0, 0];
  for (let from = 0, to = 0; to < rgb.length; from += channels, to += 3) {
    rgb[to] = bytes[from]!;
    rgb[to + 1] = bytes[from + green]!;
    rgb[to + 2] = bytes[from + blue]!;
  }
  return { data: rgb, width, height };
}

/** @throws ImageError `raw-image` where samples, sides and channels do not fit together. */
export function checkRaw(data: Samples, width: number, height: number, channels: number): void {
  if (!(data instanceof Uint8Array) && !(data instanceof Uint8ClampedArray)) {
    throw new ImageError({ code: 'raw-image', detail: 'data is not a Uint8Array' });
  }
  for (const [name, value] of [
    ['width', width],
    ['height', height],
  ] as const) {
    if (!Number.isInteger(value) || value < 1) {
      throw new ImageError({ code: 'raw-image', detail: `${name} is ${value}, not a positive integer` });
    }
  }
  if (![1, 2, 3, 4].includes(channels)) {
    throw new ImageError({ code: 'raw-image', detail: `${channels} channels; 1, 2, 3 or 4 are possible` });
  }
  if (data.length === width * height * channels) return;
  throw new ImageError({
    code: 'raw-image',
    detail: `${width} by ${height} pixels of ${channels} bytes need ${width * height * channels} bytes, not ${data.length}`,
  });
}

/** Whether a value has the form of a RgbImage with the right number of bytes. */
export function isRawImage(value: unknown): value is RgbImage {
  if (typeof value !== 'object' || value === null) return false;
  const { data, width, height } = value as Partial<RgbImage>;
  return (
    data instanceof Uint8Array &&
    Number.isInteger(width) &&
    Number.isInteger(height) &&
    width! > 0 &&
    data.length === width! * height! * 3
  );
}

/** An illegal image: the broken rule, what was found, and where in the bytes. `withFile` adds the name of the file. */
export const fault = (code: string, detail: string, offset?: number): ImageError =>
  new ImageError({ code, detail, offset });

/** A legal image that this project does not read. */
export const unsupported = (code: string, detail: string, offset?: number): ImageError =>
  new ImageError({ code, detail, offset, unsupported: true });

/** The same error with a file name and an offset that the thrower could not know, where it is ours and has none yet. */
export function addFacts(error: unknown, facts: { readonly file?: string; readonly offset?: number }): unknown {
  if (!(error instanceof ImageError)) return error;
  const { path, code, detail, unsupported, cause } = error;
  const file = error.file ?? facts.file;
  const offset = error.offset ?? facts.offset;
  return new ImageError({ file, path, offset, code, detail, unsupported, cause });
}

/** Runs `body`; an ImageError that leaves it carries the name of the image. */
export async function withFile<T>(file: string, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw addFacts(error, { file });
  }
}

/** Longest side of an image: a longer one cannot be resized, and the tables of the resize grow with it. */
export const MAX_SIDE = 1 << 20;

/** Refuses an image from its header, before anything is allocated in proportion to it. */
export function checkPixels(width: number, height: number, maxPixels: number, offset?: number): void {
  if (width < 1 || height < 1) throw fault('image-size', `the image is ${width} by ${height} pixels`, offset);
  if (Math.max(width, height) > MAX_SIDE) {
    throw fault('image-size', `a side of ${Math.max(width, height)} pixels; at most ${MAX_SIDE}`, offset);
  }
  if (width * height <= maxPixels) return;
  const megapixels = (count: number) => (count / 1e6).toFixed(count < 1e6 ? 3 : 1);
  throw fault(
    'image-too-large',
    `${width} by ${height} is ${megapixels(width * height)} megapixels; the limit (maxPixels) is ${megapixels(maxPixels)}`,
    offset,
  );
}

/** A typed array of `length` zeros; what the machine cannot give is an ImageError, not a RangeError. */
export function allocate<T>(Type: new (length: number) => T, length: number): T {
  try {
    return new Type(length);
  } catch (cause) {
    throw new ImageError({ code: 'image-memory', detail: `cannot allocate ${length} values for the image`, cause });
  }
}
