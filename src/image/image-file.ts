import { type ImageFormat, looksLikeText, recognize } from '../file-signature.js';
import { fault, unsupported } from './raw-image.js';

/** Reads of multi-byte integers and names. Callers check the range first: past the end a byte counts as 0. */

export const u16be = (b: Uint8Array, i: number): number => ((b[i] ?? 0) << 8) | (b[i + 1] ?? 0);
export const u32be = (b: Uint8Array, i: number): number => u16be(b, i) * 0x10000 + u16be(b, i + 2);
export const u16le = (b: Uint8Array, i: number): number => ((b[i + 1] ?? 0) << 8) | (b[i] ?? 0);
export const u24le = (b: Uint8Array, i: number): number => ((b[i + 2] ?? 0) << 16) | u16le(b, i);
export const u32le = (b: Uint8Array, i: number): number => u16le(b, i + 2) * 0x10000 + u16le(b, i);

/** `length` bytes as Latin-1 text; shorter at the end of the bytes. */
export function latin1(b: Uint8Array, start: number, length: number): string {
  let text = '';
  for (let i = start; i < Math.min(start + length, b.length); i++) text += String.fromCharCode(b[i]!);
  return text;
}

/** All pieces in one array, followed by `padding` zeros. */
export function join(pieces: readonly Uint8Array[], padding = 0): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, padding));
  let filled = 0;
  for (const piece of pieces) {
    whole.set(piece, filled);
    filled += piece.length;
  }
  return whole;
}

/**
 * The format of an image by its first bytes; its name never counts.
 * @throws ImageError saying what the bytes look like; `unsupported` when that is surely a legal image of another format.
 */
export function formatOf(bytes: Uint8Array): ImageFormat {
  if (!(bytes instanceof Uint8Array)) throw fault('not-an-image', 'the bytes of an image must be a Uint8Array');
  if (bytes.length === 0) throw fault('not-an-image', 'the file is empty', 0);
  const found = recognize(bytes);
  if (found?.image !== undefined && found.image !== 'another') return found.image;
  if (u32be(bytes, 0) === 0x89504e47 || latin1(bytes, 1, 3) === 'PNG') {
    throw fault('png-signature', 'a PNG whose signature is cut off, or was damaged as text in transfer', 0);
  }
  if (found?.image === 'another') {
    const heif = 'HEIF is not supported: convert it first, with heif-convert or ffmpeg';
    if (found.what === 'HEIF') throw unsupported('heic', heif, 0);
    // a signature alone does not make a legal image
    throw fault('image-format', `${found.what} is not supported; PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF are`, 0);
  }
  const firstBytes = Array.from(bytes.subarray(0, 8), (value) => value.toString(16).padStart(2, '0')).join(' ');
  const what = found?.what ?? (looksLikeText(bytes) ? 'text' : undefined);
  const looks = what ? `the bytes are ${what}` : `unknown bytes, beginning with ${firstBytes}`;
  throw fault('not-an-image', `${looks}; PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF are read`, 0);
}
