import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { crc32 } from '../../src/crc32.js';
import { ImageError } from '../../src/errors.js';
import { type DecodeOptions, decodeFrames, decodeImage } from '../../src/image/decode.js';
import { formatOf } from '../../src/image/image-file.js';
import { decodeJpeg, readJpegHeader } from '../../src/image/jpeg/decode-jpeg.js';
import { readPngChunks } from '../../src/image/png/chunks.js';
import { decodePng } from '../../src/image/png/decode-png.js';
import type { RgbImage } from '../../src/image/raw-image.js';
import { REFERENCE, readBin, readJson } from '../support/fixtures.js';

export const PROCESSOR = `${REFERENCE}image-processor/`;

export const sha256 = (data: Uint8Array | Float32Array): string =>
  createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');

export const decode = (bytes: Uint8Array, options: DecodeOptions = {}): Promise<RgbImage> =>
  decodeImage(bytes, { orientation: false, ...options });
export const frames = (bytes: Uint8Array, options: DecodeOptions = {}): Promise<RgbImage[]> =>
  decodeFrames(bytes, { orientation: false, ...options });

/** One image of reference/image-processor/pictures.json (the fields used here). */
export interface ReferenceImage {
  readonly file: string;
  readonly width: number;
  readonly height: number;
  readonly pillow_mode: string;
  readonly decoded: { readonly file: string; readonly sha256: string };
  readonly size224: ReferenceSize;
  readonly size30: ReferenceSize;
}

export interface ReferenceSize {
  readonly resized_width: number;
  readonly resized_height: number;
  readonly resized_sha256: string;
  readonly crop_top: number;
  readonly crop_left: number;
  readonly crop_sha256: string;
  readonly pixel_values_sha256: string;
}

export const referenceImages = (): ReferenceImage[] =>
  readJson<{ pictures: ReferenceImage[] }>(`${PROCESSOR}pictures.json`).pictures;

export const decodeReference = (file: string): Promise<RgbImage> => decode(readBin(`${PROCESSOR}${file}`));

/** One file of golden.json: what Pillow makes of it. */
export interface Golden {
  readonly base64: string;
  /** SHA-256 of the RGB bytes of each frame, as stored. */
  readonly frames?: readonly string[];
  readonly sizes?: readonly (readonly [number, number])[];
  /** SHA-256 after exif_transpose. */
  readonly turned?: string;
  readonly turned_size?: readonly [number, number];
}

export const goldens = (): [name: string, golden: Golden, bytes: Uint8Array][] =>
  Object.entries(readJson<Record<string, Golden>>(fileURLToPath(new URL('golden.json', import.meta.url)))).map(
    ([name, golden]) => [name, golden, new Uint8Array(Buffer.from(golden.base64, 'base64'))],
  );

/** A PNG chunk with its checksum. */
export function pngChunk(type: string, data: Uint8Array): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(4), Buffer.from(type, 'latin1'), data, Buffer.alloc(4)]);
  bytes.writeUInt32BE(data.length);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, bytes.length - 4)), bytes.length - 4);
  return bytes;
}

export const PNG_SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

/** A PNG file of given compressed data. */
export function png(
  width: number,
  height: number,
  bitDepth: number,
  colorType: number,
  idat: readonly Uint8Array[],
): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([bitDepth, colorType], 8);
  const pieces = idat.map((data) => pngChunk('IDAT', data));
  return Buffer.concat([PNG_SIGNATURE, pngChunk('IHDR', header), ...pieces, pngChunk('IEND', Buffer.alloc(0))]);
}

/**
 * The work of decoding a PNG or JPEG: steps (a deflate block or at most 256 KiB of pixels; a row of blocks), and JPEG blocks visited. All
 * other formats have none that is counted.
 */
export function countWork(bytes: Uint8Array, maxPixels = 1e8): { steps: number; blocks: number; error: unknown } {
  let [steps, blocks] = [0, 0];
  try {
    const format = formatOf(bytes);
    if (format === 'png') {
      for (const work = decodePng(readPngChunks(bytes, maxPixels), new Set()); !work.next().done; ) steps++;
    } else if (format === 'jpeg') {
      const work = decodeJpeg(bytes, readJpegHeader(bytes, maxPixels));
      for (let step = work.next(); !step.done; step = work.next()) {
        steps++;
        blocks += step.value;
      }
    }
    return { steps, blocks, error: undefined };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return { steps, blocks, error };
  }
}
