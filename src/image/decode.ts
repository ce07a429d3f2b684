import { runInSlices } from '../event-loop.js';
import type { ImageFormat } from '../file-signature.js';
import { checkOptions, type OptionsFor } from '../options.js';
import { decodeAvif, readAvif } from './avif.js';
import { decodeBmp, readBmp } from './bmp.js';
import { applyOrientation, type Orientation, orientationOf } from './exif.js';
import { paintGif, readGif } from './gif.js';
import { formatOf } from './image-file.js';
import { DEFAULT_MAX_PIXELS, IMAGE_OPTIONS } from './image-options.js';
import { decodeJpeg, readJpegHeader } from './jpeg/decode-jpeg.js';
import { readPngChunks, readPngHeader } from './png/chunks.js';
import { decodePng, decodePngFrames } from './png/decode-png.js';
import { type RgbImage, unsupported, withFile } from './raw-image.js';
import { decodeTiff, readTiff } from './tiff.js';
import { decodeWebp, readWebp } from './webp.js';

/** `maxPixels`, `orientation` and `signal` as IMAGE_OPTIONS declares them, and a name. */
export interface DecodeOptions extends OptionsFor<typeof IMAGE_OPTIONS, 'decode'> {
  /** What to call the image in errors. Default `image`. */
  readonly file?: string | undefined;
}

/** A decoded image, and what of its file was damaged and mended as libjpeg or libpng do: one sentence each. */
export interface DecodedImage extends RgbImage {
  readonly warnings: readonly string[];
}

/** The options with their defaults. */
function checkDecodeOptions({ file = 'image', ...options }: DecodeOptions) {
  return { ...checkOptions(options, IMAGE_OPTIONS, 'decode'), file };
}

type Checked = ReturnType<typeof checkDecodeOptions>;

/**
 * Decodes a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF (first frame) to RGB, as Pillow's `Image.open(f).convert("RGB")`: alpha is dropped, never blended. The
 * bytes decide the format. Beside the file, memory stays below 8 bytes per pixel (progressive JPEG in four colors: 9; WebP, whose codec keeps copies:
 * 16) and some megabytes.
 * @throws ImageError for anything that is no whole image, and (field `unsupported`) for legal images of kinds that are not read.
 */
export async function decodeImage(bytes: Uint8Array, options: DecodeOptions = {}): Promise<DecodedImage> {
  const checked = checkDecodeOptions(options);
  return withFile(checked.file, async () => {
    const { image, orientation, warnings } = await decodeStored(bytes, formatOf(bytes), checked);
    const upright = checked.orientation
      ? await runInSlices(applyOrientation(image, orientation), checked.signal)
      : image;
    return { ...upright, warnings: [...warnings] };
  });
}

/** The image as stored, its orientation, and what was mended on the way. */
interface Stored {
  readonly image: RgbImage;
  readonly orientation: Orientation;
  readonly warnings: ReadonlySet<string>;
}

/** Decodes by format. */
async function decodeStored(bytes: Uint8Array, format: ImageFormat, options: Checked): Promise<Stored> {
  const { maxPixels, signal } = options;
  if (format === 'png') {
    const png = readPngChunks(bytes, maxPixels);
    const warnings = new Set<string>();
    const image = await runInSlices(decodePng(png, warnings), signal);
    return { image, orientation: orientationOf(png.exif, png.xmp), warnings };
  }
  if (format === 'jpeg') {
    const header = readJpegHeader(bytes, maxPixels);
    const { exif, xmp, warnings } = header.state;
    const image = await runInSlices(decodeJpeg(bytes, header), signal);
    return { image, orientation: orientationOf(exif, xmp), warnings };
  }
  const warnings: ReadonlySet<string> = new Set();
  if (format === 'webp') {
    const webp = readWebp(bytes, maxPixels);
    const [image] = await decodeWebp(bytes, webp, { wanted: 1, maxPixels, signal });
    return { image: image!, orientation: orientationOf(webp.exif, webp.xmp), warnings };
  }
  if (format === 'bmp') {
    return { image: await runInSlices(decodeBmp(bytes, readBmp(bytes, maxPixels)), signal), orientation: 1, warnings };
  }
  if (format === 'tiff') {
    const tiff = readTiff(bytes, maxPixels);
    return { image: await runInSlices(decodeTiff(bytes, tiff), signal), orientation: tiff.orientation, warnings };
  }
  if (format === 'avif') {
    const avif = readAvif(bytes, maxPixels);
    return { image: await decodeAvif(bytes, avif, { maxPixels, signal }), orientation: avif.orientation, warnings };
  }
  const { images, warnings: found } = await gifImages(bytes, maxPixels, 1, signal);
  return { image: images[0]!, orientation: 1, warnings: found };
}

async function gifImages(
  bytes: Uint8Array,
  maxPixels: number,
  wanted: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly images: readonly RgbImage[]; readonly warnings: ReadonlySet<string> }> {
  const images: RgbImage[] = [];
  const gif = readGif(bytes, maxPixels, wanted);
  await runInSlices(
    paintGif(gif, maxPixels, (image) => images.push(image)),
    signal,
  );
  return { images, warnings: new Set(gif.cut ? ['the file ends behind the last pixel of its last frame'] : []) };
}

/**
 * All frames of an animated GIF, WebP or PNG, each as Pillow shows it (`seek(i)`, `convert("RGB")`); any other image is its single frame.
 * The warnings are those of the file, the same for each frame.
 * @throws ImageError as `decodeImage`; `maxPixels` counts the pixels of all frames. `avif-frames` (`unsupported`) for an AVIF of several: their
 * decoder gives the first only, which is the image.
 */
export async function decodeFrames(bytes: Uint8Array, options: DecodeOptions = {}): Promise<DecodedImage[]> {
  const { maxPixels, ...checked } = checkDecodeOptions(options);
  return withFile(checked.file, async () => {
    const format = formatOf(bytes);
    const withWarnings = (images: readonly RgbImage[], warnings: Iterable<string> = []): DecodedImage[] =>
      images.map((image) => ({ ...image, warnings: [...warnings] }));
    if (format === 'gif') {
      const { images, warnings } = await gifImages(bytes, maxPixels, Number.POSITIVE_INFINITY, checked.signal);
      return withWarnings(images, warnings);
    }
    if (format === 'webp') {
      const webp = readWebp(bytes, maxPixels);
      const wanted = Number.POSITIVE_INFINITY;
      if (webp.animated) {
        return withWarnings(await decodeWebp(bytes, webp, { wanted, maxPixels, signal: checked.signal }));
      }
    }
    if (format === 'png') {
      const png = readPngChunks(bytes, maxPixels);
      if (png.frames.length > 0) {
        const warnings = new Set<string>();
        return withWarnings(await runInSlices(decodePngFrames(png, maxPixels, warnings), checked.signal), warnings);
      }
    }
    const frames = format === 'avif' ? readAvif(bytes, maxPixels).frames : 1;
    if (frames > 1) throw unsupported('avif-frames', `${frames} frames of AVIF: ${ANIMATED_AVIF}`, 0);
    return [await decodeImage(bytes, options)];
  });
}

const ANIMATED_AVIF = 'only the first can be decoded, as an image; in Node ffmpeg reads the file by its path';

export { DEFAULT_MAX_PIXELS };

/** What an image's header says. */
export interface ImageInfo {
  readonly format: ImageFormat;
  /** As stored, before its orientation is applied. */
  readonly width: number;
  readonly height: number;
  /** The kind of image in words: `8-bit palette, interlaced`, `progressive, YCbCr 4:2:0`. */
  readonly kind: string;
  readonly frames: number;
  /** EXIF's number; 1 is as stored. */
  readonly orientation: Orientation;
}

/**
 * Reads the headers of an image without decoding it.
 * @throws ImageError as `decodeImage`, for what can be seen in the headers.
 */
export async function identifyImage(bytes: Uint8Array, options: DecodeOptions = {}): Promise<ImageInfo> {
  const { maxPixels, file } = checkDecodeOptions(options);
  return withFile(file, () => INFO[formatOf(bytes)](bytes, maxPixels));
}

const INFO: Readonly<Record<ImageFormat, (bytes: Uint8Array, maxPixels: number) => ImageInfo | Promise<ImageInfo>>> = {
  png(bytes, maxPixels) {
    const { width, height, bitDepth, colorType, interlaced } = readPngHeader(bytes, maxPixels);
    const names = ['gray', '', 'RGB', 'palette', 'gray and alpha', '', 'RGB and alpha'];
    const kind = `${bitDepth}-bit ${names[colorType]}${interlaced ? ', interlaced' : ''}`;
    const { exif, xmp, frames } = readPngChunks(bytes, maxPixels);
    return { format: 'png', width, height, kind, frames: 1 + frames.length, orientation: orientationOf(exif, xmp) };
  },
  jpeg(bytes, maxPixels) {
    const { state, frame, colors } = readJpegHeader(bytes, maxPixels);
    const names = { gray: 'gray', rgb: 'RGB', ycc: 'YCbCr', cmyk: 'CMYK', ycck: 'YCCK' };
    const sampling = frame.components.map(({ h, v }) => `${h}x${v}`).join(' ');
    const kind = `${frame.arithmetic ? `${frame.process}, arithmetic coding` : frame.process}, ${names[colors]} ${sampling}`;
    const { width, height } = frame;
    return { format: 'jpeg', width, height, kind, frames: 1, orientation: orientationOf(state.exif, state.xmp) };
  },
  webp(bytes, maxPixels) {
    const { width, height, animated, frames, lossless, exif, xmp } = readWebp(bytes, maxPixels);
    const kind = animated ? 'animated' : lossless ? 'lossless' : 'lossy';
    return {
      format: 'webp',
      width,
      height,
      kind,
      frames: Math.max(1, frames.length),
      orientation: orientationOf(exif, xmp),
    };
  },
  bmp(bytes, maxPixels) {
    const { width, height, bits } = readBmp(bytes, maxPixels);
    return { format: 'bmp', width, height, kind: `${bits}-bit`, frames: 1, orientation: 1 };
  },
  tiff(bytes, maxPixels) {
    const { width, height, orientation, bits } = readTiff(bytes, maxPixels);
    return { format: 'tiff', width, height, kind: `${bits}-bit`, frames: 1, orientation };
  },
  avif(bytes, maxPixels) {
    const { width, height, frames, orientation } = readAvif(bytes, maxPixels);
    return { format: 'avif', width, height, kind: frames > 1 ? 'animated' : 'still', frames, orientation };
  },
  gif(bytes, maxPixels) {
    const { width, height, frames } = readGif(bytes, maxPixels, Number.POSITIVE_INFINITY);
    const kind = frames.length > 1 ? 'animated' : 'still';
    return { format: 'gif', width, height, kind, frames: frames.length, orientation: 1 };
  },
};
