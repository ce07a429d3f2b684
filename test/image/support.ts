import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type DecodeOptions, decodeFrames, decodeImage } from '../../src/image/decode.js';
import type { RawImage } from '../../src/image/raw-image.js';
import { REFERENCE, readBin, readJson } from '../support/fixtures.js';

export const PROCESSOR = `${REFERENCE}image-processor/`;

export const sha256 = (data: Uint8Array | Float32Array): string =>
  createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');

const wasmPath = fileURLToPath(import.meta.resolve('@jsquash/webp/codec/dec/webp_dec.wasm'));

/** Node's way to the WebP decoder. */
export const webpWasm = () => readFile(wasmPath);

const avifPath = fileURLToPath(import.meta.resolve('@jsquash/avif/codec/dec/avif_dec.wasm'));
export const avifWasm = () => readFile(avifPath);

export const decode = (bytes: Uint8Array, options: DecodeOptions = {}): Promise<RawImage> =>
  decodeImage(bytes, { webpWasm, avifWasm, orientation: false, ...options });
export const frames = (bytes: Uint8Array, options: DecodeOptions = {}): Promise<RawImage[]> =>
  decodeFrames(bytes, { webpWasm, orientation: false, ...options });

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

export const decodeReference = (file: string): Promise<RawImage> => decode(readBin(`${PROCESSOR}${file}`));

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

/** A small deterministic generator (mulberry32), for mutations. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
