import { ImageError, OptionError } from '../errors.js';
import { runInSlices } from '../event-loop.js';
import { allocate, checkRaw, rgbImage, type Samples } from '../image/raw-image.js';
import { type ResizeFilter, resizeSteps } from '../image/resize.js';
import { type InputOptions, toRgbImage } from '../image2text/input-loader.js';
import { type ImageInput, isPageImage, type PageImage, readPixels } from '../image2text/inputs.js';

type ChannelCount = 1 | 2 | 3 | 4;

/** Where the channels of a tensor are: first or last. */
export type ChannelFormat = 'CHW' | 'HWC';

/** The samples of an image in transformers.js's shape of a tensor. */
export interface ImageTensor {
  readonly dims: readonly number[];
  readonly type: 'uint8';
  readonly data: Samples;
  readonly size: number;
}

/** Pillow's numbers of its filters. */
const FILTERS: readonly ResizeFilter[] = ['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'];

const MIME_TYPES: Readonly<Record<string, string>> = { jpg: 'image/jpeg', jpeg: 'image/jpeg', webp: 'image/webp' };

/**
 * An image in memory, as transformers.js's class of this name: 8-bit samples [height, width, channels]; channels are gray, gray and alpha, RGB or
 * RGBA. Files are read by this library's decoders, which give RGB, upright, and `resize` is Pillow's: both are the same in Node and in pages. Pipelines and
 * models take it as an image.
 */
export class RawImage {
  /** How files are opened; the entry point of Node has its own way. */
  protected static readonly opening: InputOptions = {};

  data: Samples;
  width: number;
  height: number;
  channels: ChannelCount;

  /** Keeps `data` as it is, without a copy. Throws ImageError `raw-image` where its length does not fit. */
  constructor(data: Samples, width: number, height: number, channels: ChannelCount) {
    checkRaw(data, width, height, channels);
    this.data = data;
    this.width = width;
    this.height = height;
    this.channels = channels;
  }

  /** Width and height. */
  get size(): [width: number, height: number] {
    return [this.width, this.height];
  }

  /**
   * Any image as a RawImage: a path (Node), an address, a Blob or bytes of a file, and tensors give RGB; what a page shows gives RGBA.
   *
   * @throws ImageError naming the image.
   */
  static async read(input: RawImage | ImageInput): Promise<RawImage> {
    if (input instanceof RawImage) return input;
    // biome-ignore lint/complexity/noThisInStatic: a subclass makes its own
    if (isPageImage(input)) return this.fromCanvas(input);
    // biome-ignore lint/complexity/noThisInStatic: a subclass opens files its own way
    const { data, width, height } = await toRgbImage(input, this.opening);
    return new this(clamped(data), width, height, 3);
  }

  /** The image at an address or, in Node, a path. */
  static fromURL(url: string | URL): Promise<RawImage> {
    // biome-ignore lint/complexity/noThisInStatic: a subclass opens files its own way
    return this.read(url);
  }

  /** The image of a file's contents. */
  static fromBlob(blob: Blob): Promise<RawImage> {
    // biome-ignore lint/complexity/noThisInStatic: a subclass opens files its own way
    return this.read(blob);
  }

  /** The RGBA samples of a canvas, or of something else that a page shows. Throws ImageError as `readPixels`. */
  static fromCanvas(canvas: PageImage): RawImage {
    const { data, width, height } = readPixels(canvas);
    return new this(data, width, height, 4);
  }

  /** Makes this image gray, with transformers.js's weights: 0.2989 R + 0.587 G + 0.114 B. Alpha is dropped. Returns this image. */
  grayscale(): this {
    const { data, channels } = this;
    if (channels === 1) return this;
    const gray = allocate(Uint8ClampedArray, this.width * this.height);
    for (let to = 0, from = 0; to < gray.length; to++, from += channels) {
      const [first, green, blue] = [data[from]!, data[from + 1]!, data[from + 2]!];
      gray[to] = channels === 2 ? first : Math.round(0.2989 * first + 0.587 * green + 0.114 * blue);
    }
    return this.become(gray, 1);
  }

  /** Makes this image RGB; alpha is dropped, never blended. Returns this image. */
  rgb(): this {
    const { data, width, height, channels } = this;
    return channels === 3 ? this : this.become(clamped(rgbImage(data, width, height, channels).data), 3);
  }

  /** Makes this image RGBA, opaque where it had no alpha. Returns this image. */
  rgba(): this {
    const { data, width, height, channels } = this;
    if (channels === 4) return this;
    const rgba = allocate(Uint8ClampedArray, width * height * 4);
    const [green, blue] = channels === 3 ? [1, 2] : [0, 0];
    for (let to = 0, from = 0; to < rgba.length; to += 4, from += channels) {
      rgba[to] = data[from]!;
      rgba[to + 1] = data[from + green]!;
      rgba[to + 2] = data[from + blue]!;
      rgba[to + 3] = channels === 2 ? data[from + 1]! : 255;
    }
    return this.become(rgba, 4);
  }

  /** `grayscale`, `rgb` or `rgba`, by the number of channels. */
  convert(channels: number): this {
    if (channels === this.channels) return this;
    if (channels === 1) return this.grayscale();
    if (channels === 3) return this.rgb();
    if (channels === 4) return this.rgba();
    throw new OptionError({ path: 'channels', code: 'out-of-range', detail: `expected 1, 3 or 4, found ${channels}` });
  }

  /** A copy. */
  clone(): RawImage {
    return this.make(this.data.slice(), this.width, this.height);
  }

  /** The part between two corners, both included and in pixels, as transformers.js has it; corners outside are moved to the edge. */
  async crop([x0, y0, x1, y1]: readonly [left: number, top: number, right: number, bottom: number]): Promise<RawImage> {
    const [left, top] = [Math.max(x0, 0), Math.max(y0, 0)];
    const [width, height] = [Math.min(x1, this.width - 1) - left + 1, Math.min(y1, this.height - 1) - top + 1];
    if (![left, top, width, height].every(Number.isInteger) || width < 1 || height < 1) {
      const detail = `[${[x0, y0, x1, y1]}] is no part of ${this.width} by ${this.height} pixels: give [left, top, right, bottom]`;
      throw new OptionError({ path: 'crop', code: 'out-of-range', detail });
    }
    return this.window(left, top, width, height);
  }

  /** The middle of the image; where it is smaller than that, zeros around it. Half pixels go to the left and the top, as in transformers.js. */
  async center_crop(width: number, height: number): Promise<RawImage> {
    checkSides('center_crop', [width, height], 1);
    return this.window(Math.trunc((this.width - width) / 2), Math.trunc((this.height - height) / 2), width, height);
  }

  /** The image with so many pixels of zeros around it; less than 0 counts as 0. */
  async pad(sides: readonly [left: number, right: number, top: number, bottom: number]): Promise<RawImage> {
    const [left, right, top, bottom] = sides.map((side) => Math.max(side, 0)) as [number, number, number, number];
    checkSides('pad', [left, right, top, bottom], 0);
    return this.window(-left, -top, this.width + left + right, this.height + top + bottom);
  }

  /** Makes this image RGBA with the samples of a gray image of the same size as its alpha. Returns this image. */
  putAlpha(mask: RawImage): this {
    if (mask.channels !== 1 || mask.width !== this.width || mask.height !== this.height) {
      const detail = `expected 1 channel of ${this.width} by ${this.height} pixels, found ${mask.channels} of ${mask.width} by ${mask.height}`;
      throw new OptionError({ path: 'mask', code: 'shapes-differ', detail });
    }
    const rgba = Uint8ClampedArray.from(this.rgba().data);
    for (let i = 0; i < mask.data.length; i++) rgba[i * 4 + 3] = mask.data[i]!;
    return this.become(rgba, 4);
  }

  /** The samples as [channels, height, width], or with `HWC` as [height, width, channels]; in memory of their own. */
  toTensor(format: ChannelFormat = 'CHW'): ImageTensor {
    const { data, width, height, channels } = this;
    const isFirst = checkFormat(format) === 'CHW';
    const samples = isFirst ? transposed(data, width * height, channels) : Uint8Array.from(data);
    const dims = isFirst ? [channels, height, width] : [height, width, channels];
    return { dims, type: 'uint8', data: samples, size: samples.length };
  }

  /** The other way round. Throws OptionError for other than 3 dimensions or 8-bit samples. */
  static fromTensor(tensor: Pick<ImageTensor, 'dims' | 'data'>, format: ChannelFormat = 'CHW'): RawImage {
    const { dims, data } = tensor;
    const isBytes = data instanceof Uint8Array || data instanceof Uint8ClampedArray;
    if (dims.length !== 3 || !isBytes) {
      const detail = `expected 8-bit samples of 3 dimensions, found ${dims.length} dimensions${isBytes ? '' : ' of other values'}`;
      throw new OptionError({ path: 'tensor', code: 'wrong-type', detail });
    }
    const isFirst = checkFormat(format) === 'CHW';
    const [height, width, channels] = (isFirst ? [dims[1], dims[2], dims[0]] : dims) as [number, number, ChannelCount];
    return new this(isFirst ? clamped(transposed(data, channels, width * height)) : data, width, height, channels);
  }

  /**
   * Resized as Pillow does it, bit for bit; colors under alpha are weighted by it, as there. A side that is null or -1 keeps the
   * proportions.
   *
   * @param options `resample`: Pillow's number or name of a filter. Default 2, `bilinear`.
   * @throws OptionError for sizes that are no positive integers and unknown filters.
   */
  async resize(
    width: number | null,
    height: number | null,
    { resample = 2 }: { readonly resample?: number | string } = {},
  ): Promise<RawImage> {
    const isFree = (side: number | null | undefined): side is null | undefined =>
      side === null || side === undefined || side === -1;
    if (isFree(width) && isFree(height)) return this;
    const proportional = (side: number, to: number, of: number) => Math.max(1, Math.round((side * to) / of));
    const toWidth = isFree(width) ? proportional(this.width, height!, this.height) : width;
    const toHeight = isFree(height) ? proportional(this.height, width!, this.width) : height;
    const filter = FILTERS.find((name, number) => resample === name || String(resample) === String(number));
    if (filter === undefined) {
      const detail = `expected 0 to ${FILTERS.length - 1} or one of ${FILTERS.join(', ')}, found ${String(resample)}`;
      throw new OptionError({ path: 'resample', code: 'resize', detail });
    }
    if (toWidth === this.width && toHeight === this.height) return this;
    const samples = await runInSlices(resized(this, toWidth, toHeight, filter), undefined);
    return this.make(clamped(samples), toWidth, toHeight);
  }

  /** Each channel as an image of its own. */
  split(): RawImage[] {
    const { data, width, height, channels } = this;
    return Array.from({ length: channels }, (_, channel) =>
      this.make(clamped(channelOf(data, channel, channels)), width, height, 1),
    );
  }

  /** This image on a canvas of its own. Throws ImageError `no-canvas` outside of pages and their workers. */
  toCanvas(): OffscreenCanvas {
    if (typeof OffscreenCanvas === 'undefined' || typeof ImageData === 'undefined') return notHere('canvases');
    const { data, width, height } = this.clone().rgba();
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d') ?? notHere('2d canvases');
    context.putImageData(new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
    return canvas;
  }

  /** The bytes of an image file of this type, as the browser encodes it. Throws ImageError `no-canvas` outside of pages and their workers. */
  async toBlob(type = 'image/png', quality = 1): Promise<Blob> {
    return this.toCanvas().convertToBlob({ type, quality });
  }

  /** Offers the image as a download of this name. Throws ImageError `no-canvas` outside of pages: a worker or Node has no downloads. */
  async save(name: string): Promise<void> {
    if (typeof document === 'undefined') return notHere('downloads');
    const extension = name.split('.').pop()!.toLowerCase();
    const href = URL.createObjectURL(await this.toBlob(MIME_TYPES[extension] ?? 'image/png'));
    const link = Object.assign(document.createElement('a'), { href, download: name });
    link.click();
    URL.revokeObjectURL(href);
  }

  private become(data: Samples, channels: ChannelCount): this {
    return Object.assign(this, { data, channels });
  }

  /** A rectangle, which may reach beyond the image: zeros there. */
  private window(left: number, top: number, width: number, height: number): RawImage {
    if (left === 0 && top === 0 && width === this.width && height === this.height) return this;
    const { data, channels } = this;
    const part = allocate(Uint8ClampedArray, width * height * channels);
    const [from, to] = [Math.max(left, 0), Math.min(left + width, this.width)];
    for (let y = Math.max(top, 0); y < Math.min(top + height, this.height); y++) {
      const line = data.subarray((y * this.width + from) * channels, (y * this.width + to) * channels);
      part.set(line, ((y - top) * width + from - left) * channels);
    }
    return this.make(part, width, height);
  }

  /** Another image of this class. */
  private make(data: Samples, width: number, height: number, channels: ChannelCount = this.channels): RawImage {
    return new (this.constructor as typeof RawImage)(data, width, height, channels);
  }
}

function notHere(what: string): never {
  const detail = `there are no ${what} here, only in pages; the samples are in data`;
  throw new ImageError({ code: 'no-canvas', detail, unsupported: true });
}

function checkSides(path: string, sides: readonly number[], least: number): void {
  if (sides.every((side) => Number.isSafeInteger(side) && side >= least)) return;
  throw new OptionError({
    path,
    code: 'out-of-range',
    detail: `expected whole numbers from ${least}, found [${sides}]`,
  });
}

function checkFormat(format: ChannelFormat): ChannelFormat {
  if (format === 'CHW' || format === 'HWC') return format;
  const detail = `expected CHW or HWC, found ${String(format)}`;
  throw new OptionError({ path: 'channel_format', code: 'unknown-choice', detail });
}

/** [rows, columns] as [columns, rows]. */
function transposed(data: Samples, rows: number, columns: number): Uint8Array {
  const out = allocate(Uint8Array, data.length);
  for (let row = 0, from = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) out[column * rows + row] = data[from++]!;
  return out;
}

/** The same memory, in the type that canvases take. */
const clamped = ({ buffer, byteOffset, length }: Uint8Array): Uint8ClampedArray =>
  new Uint8ClampedArray(buffer, byteOffset, length);

function channelOf(data: Samples, channel: number, channels: number): Uint8Array {
  const one = allocate(Uint8Array, data.length / channels);
  for (let to = 0, from = channel; to < one.length; to++, from += channels) one[to] = data[from]!;
  return one;
}

/** Samples of the resized image. Pillow multiplies colors with alpha before, rounded to bytes, and divides after, rounded down. */
function* resized(
  { data, width, height, channels }: RawImage,
  toWidth: number,
  toHeight: number,
  filter: ResizeFilter,
): Generator<void, Uint8Array> {
  const colors = rgbImage(data, width, height, channels);
  const hasAlpha = channels === 2 || channels === 4;
  const colorCount = channels < 3 ? 1 : 3;
  if (!hasAlpha) {
    const { data: rgb } = yield* resizeSteps(colors, toWidth, toHeight, filter);
    return channels === 3 ? rgb : channelOf(rgb, 0, 3);
  }
  const alpha = channelOf(data, channels - 1, channels);
  const isWeighted = filter !== 'nearest';
  if (isWeighted) {
    for (let i = 0; i < colors.data.length; i++) {
      const product = colors.data[i]! * alpha[Math.trunc(i / 3)]! + 128;
      colors.data[i] = ((product >> 8) + product) >> 8;
    }
  }
  const { data: rgb } = yield* resizeSteps(colors, toWidth, toHeight, filter);
  const { data: alphas } = yield* resizeSteps(rgbImage(alpha, width, height, 1), toWidth, toHeight, filter);
  const out = allocate(Uint8Array, toWidth * toHeight * channels);
  for (let from = 0, to = 0; from < rgb.length; from += 3) {
    const over = alphas[from]!;
    for (let c = 0; c < colorCount; c++) {
      const value = rgb[from + c]!;
      out[to++] = isWeighted && over > 0 ? Math.min(255, Math.trunc((255 * value) / over)) : value;
    }
    out[to++] = over;
  }
  return out;
}
