import { latin1, u16be, u16le, u32be, u32le } from './image-file.js';
import { allocate, type RgbImage } from './raw-image.js';

/** How an image is to be rotated or mirrored before it is shown: EXIF's numbers 1 (as it is) to 8. */
export type Orientation = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

const ORIENTATION_TAG = 0x0112;
/** Bytes of the integer types of TIFF: BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG. */
const INTEGER_BYTES: Readonly<Record<number, 1 | 2 | 4>> = { 1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4 };

const asOrientation = (value: number | undefined): Orientation =>
  value !== undefined && value >= 1 && value <= 8 ? (value as Orientation) : 1;

/**
 * The orientation that an image's metadata ask for, as Pillow's `ImageOps.exif_transpose`: EXIF first, XMP where EXIF says nothing.
 * Metadata can be broken in any way without stopping the image: then it is 1.
 * @param tiff the EXIF data, a TIFF structure (an `Exif\0\0` before it is skipped). @param xmp the XMP packet.
 */
export function orientationOf(tiff: Uint8Array | undefined, xmp?: Uint8Array): Orientation {
  const fromExif = tiff && exifOrientation(tiff);
  if (fromExif !== undefined || !xmp) return asOrientation(fromExif);
  const match = /tiff:Orientation(?:="|>)([0-9])/.exec(latin1(xmp, 0, Math.min(xmp.length, 1 << 20)));
  return asOrientation(match ? Number(match[1]) : undefined);
}

/** The orientation entry of the first directory, undefined where there is none. */
export function exifOrientation(data: Uint8Array): number | undefined {
  const tiff = latin1(data, 0, 6) === 'Exif\0\0' ? data.subarray(6) : data;
  const order = latin1(tiff, 0, 2);
  if (order !== 'II' && order !== 'MM') return undefined;
  const [u16, u32] = order === 'II' ? [u16le, u32le] : [u16be, u32be];
  if (u16(tiff, 2) !== 42) return undefined;
  const directory = u32(tiff, 4);
  const count = u16(tiff, directory);
  for (let i = 0, at = directory + 2; i < count && at + 12 <= tiff.length; i++, at += 12) {
    if (u16(tiff, at) !== ORIENTATION_TAG) continue;
    const size = INTEGER_BYTES[u16(tiff, at + 2)];
    const values = u32(tiff, at + 4);
    if (!size || values === 0) return undefined;
    const value = size * values <= 4 ? at + 8 : u32(tiff, at + 8); // of several values the first counts
    return size === 1 ? tiff[value] : size === 2 ? u16(tiff, value) : u32(tiff, value);
  }
  return undefined;
}

/** Pixels between two yields. */
const SLICE = 2 ** 18;

/** Rotates and mirrors an image as its orientation asks; 1 gives the image itself. Yields now and then. */
export function* applyOrientation(image: RgbImage, orientation: Orientation): Generator<undefined, RgbImage> {
  if (orientation === 1) return image;
  const { data, width, height } = image;
  const swapped = orientation >= 5;
  const mirrorX = [2, 3, 7, 8].includes(orientation); // read source columns from the right
  const mirrorY = [3, 4, 6, 7].includes(orientation); // read source rows from the bottom
  const stepColumn = mirrorX ? -3 : 3;
  const stepRow = (mirrorY ? -3 : 3) * width;
  const start = (mirrorX ? (width - 1) * 3 : 0) + (mirrorY ? (height - 1) * width * 3 : 0);
  const [newWidth, newHeight] = swapped ? [height, width] : [width, height];
  const [stepX, stepY] = swapped ? [stepRow, stepColumn] : [stepColumn, stepRow];
  const oriented = allocate(Uint8Array, data.length);
  let nextYield = SLICE * 3;
  for (let y = 0, to = 0; y < newHeight; y++) {
    if (to >= nextYield) {
      yield;
      nextYield = to + SLICE * 3;
    }
    for (let x = 0, from = start + y * stepY; x < newWidth; x++, from += stepX, to += 3) {
      oriented[to] = data[from]!;
      oriented[to + 1] = data[from + 1]!;
      oriented[to + 2] = data[from + 2]!;
    }
  }
  return { data: oriented, width: newWidth, height: newHeight };
}
