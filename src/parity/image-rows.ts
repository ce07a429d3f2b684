import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod/mini';
import { ConfigError } from '../errors.js';
import { decodeImage } from '../image/decode.js';
import type { PixelValues } from '../image/preprocess.js';
import { toChannelsFirst } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import { compareNumbers } from './compare.js';
import type { ParityRow } from './parity-row.js';
import { exactRow } from './parity-row.js';

/** `[channel, y, x, value]` */
export const samples = z.array(z.tuple([z.int(), z.int(), z.int(), z.number()]));

/** An image file as stored: its orientation is left as it is, as Pillow does. */
export async function readImage(folder: string, file: string): Promise<RawImage> {
  return decodeImage(new Uint8Array(await readFile(join(folder, file))), { file, orientation: false });
}

/** Bytes of a gzipped file that must be `size` of them. */
export async function readGzip(folder: string, file: string, size: number): Promise<Uint8Array> {
  const packed = await readFile(join(folder, file));
  let bytes: Uint8Array | undefined;
  try {
    bytes = gunzipSync(packed, { maxOutputLength: size + 1 });
  } catch {
    bytes = undefined;
  }
  if (bytes?.length === size) return bytes;
  throw new ConfigError({ file, code: 'case-layout', detail: `not ${size} bytes in gzip` });
}

/** Pixels of one image against bytes; the error is in levels of 0 to 255. */
export function compareBytes(
  caseName: string,
  tensor: string,
  ours: RawImage,
  expected: { readonly width: number; readonly height: number; readonly bytes: Uint8Array },
  tolerance = 0,
): ParityRow {
  return compareNumbers(
    caseName,
    tensor,
    { shape: [ours.height, ours.width, 3], values: ours.data },
    { expected: { shape: [expected.height, expected.width, 3], values: expected.bytes }, isTruth: false, tolerance },
  );
}

/** Facts that must be the same: sizes, offsets, hashes. The error is how many are not. */
export function compareFacts(
  caseName: string,
  tensor: string,
  ours: Readonly<Record<string, number | string>>,
  expected: Readonly<Record<string, number | string | undefined>>,
): ParityRow {
  const wrong = Object.keys(ours).filter((fact) => expected[fact] !== undefined && expected[fact] !== ours[fact]);
  const [first] = wrong;
  return exactRow(
    caseName,
    tensor,
    wrong.length,
    first === undefined ? undefined : `${first}: ours ${ours[first]}, expected ${expected[first]}`,
  );
}

/** Model input against the hash of the reference's float32 [3, H, W] and, to say more when it differs, samples of it. */
export function comparePixelValues(
  caseName: string,
  tensor: string,
  pixels: PixelValues,
  expected: { readonly sha256: string; readonly samples?: z.infer<typeof samples> | undefined },
): ParityRow {
  const [, height, width] = pixels.shape;
  const values = toChannelsFirst(pixels);
  const found = sha256(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  if (found === expected.sha256) return exactRow(caseName, tensor, 0);
  const odd = expected.samples?.find(([c, y, x, value]) => values[(c * height + y) * width + x] !== value);
  const detail =
    odd === undefined
      ? 'the hash differs'
      : `at [${odd.slice(0, 3)}]: ours ${values[(odd[0] * height + odd[1]) * width + odd[2]]}, expected ${odd[3]}`;
  return exactRow(caseName, tensor, 1, detail);
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** [3, H, W] → [H, W, 3]. */
export function channelsLast(values: ArrayLike<number>, [channels, height, width]: readonly number[]): Float32Array {
  const area = height! * width!;
  return Float32Array.from(
    { length: values.length },
    (_, i) => values[(i % channels!) * area + Math.floor(i / channels!)]!,
  );
}
