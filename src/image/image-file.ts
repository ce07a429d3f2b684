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

/** Formats that are decoded. */
export type ImageFormat = 'png' | 'jpeg' | 'webp' | 'gif' | 'bmp' | 'tiff' | 'avif';

/** Endings of the files that are decoded; a name never counts where the bytes can be seen. */
export const IMAGE_ENDING = /\.(a?png|jpe?g|jpe|jfif|pjpeg|pjp|webp|gif|bmp|dib|tiff?|avif)$/i;
/** Names of video files, as far as names tell. */
export const VIDEO_ENDING = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|m2ts|wmv|flv|ogv|3gp|m3u8|mpd)$/i;

const startsWith = (bytes: Uint8Array, ...values: readonly number[]) => values.every((value, i) => bytes[i] === value);

/** Names of what is often given instead of an image, or is an image of a format that is not decoded. */
function describe(bytes: Uint8Array): { name: string; image: boolean } | undefined {
  const text = latin1(bytes, 0, 512);
  const brand = text.slice(4, 8) === 'ftyp' ? text.slice(8, 12) : '';
  const words = text
    .replace(/^\u00ef\u00bb\u00bf/, '')
    .trimStart()
    .toLowerCase();
  const images: readonly [boolean, string][] = [
    [/^(heic|heix|hevc|heim|heis|mif1|msf1)/.test(brand), 'HEIF'],
    [/^(<\?xml[^>]*>\s*)?(<!--[\s\S]*?-->\s*)?(<!doctype svg[\s\S]*?>\s*)?<svg/.test(words), 'SVG'],
    [startsWith(bytes, 0, 0, 1, 0) || startsWith(bytes, 0, 0, 2, 0), 'ICO or CUR'],
    [text.startsWith('8BPS'), 'Photoshop'],
    [startsWith(bytes, 0, 0, 0, 12) && text.slice(4, 8) === 'jP  ', 'JPEG 2000'],
    [startsWith(bytes, 0xff, 0x0a) || (startsWith(bytes, 0, 0, 0, 12) && text.slice(4, 8) === 'JXL '), 'JPEG XL'],
    [/^P[1-7]\s/.test(text), 'PNM'],
    [text.startsWith('qoif'), 'QOI'],
  ];
  const others: readonly [boolean, string][] = [
    [words.startsWith('version https://git-lfs'), 'a Git LFS pointer: fetch the file itself with git lfs pull'],
    [/^(<!doctype html|<html|<head|<body)/.test(words), 'a web page (HTML)'],
    [words.startsWith('<?xml'), 'XML'],
    [text.startsWith('PK\x03\x04') || text.startsWith('PK\x05\x06'), 'a zip archive'],
    [startsWith(bytes, 0x1f, 0x8b), 'gzip data'],
    [text.startsWith('%PDF'), 'a PDF document'],
    [text.startsWith('MZ') || text.startsWith('\x7fELF'), 'an executable'],
    [brand !== '' || startsWith(bytes, 0x1a, 0x45, 0xdf, 0xa3), 'a video'],
    [/^[[{]/.test(words), 'JSON'],
    [bytes.length > 0 && bytes.every((value) => value === 0), 'nothing but zeros'],
    [bytes.length > 0 && /^[\t\n\r\x20-\x7e\x80-\xff]*$/.test(text) && /^[\t\n\r\x20-\x7e]{4}/.test(text), 'text'],
  ];
  const image = images.find(([matches]) => matches);
  if (image) return { name: image[1], image: true };
  const other = others.find(([matches]) => matches);
  return other && { name: other[1], image: false };
}

/**
 * The format of an image by its first bytes; its name never counts.
 * @throws ImageError saying what the bytes look like; `unsupported` when that is surely a legal image of another format.
 */
export function formatOf(bytes: Uint8Array): ImageFormat {
  if (!(bytes instanceof Uint8Array)) throw fault('not-an-image', 'the bytes of an image must be a Uint8Array');
  if (bytes.length === 0) throw fault('not-an-image', 'the file is empty', 0);
  if (startsWith(bytes, 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return 'png';
  if (startsWith(bytes, 0xff, 0xd8, 0xff) || (bytes.length === 2 && startsWith(bytes, 0xff, 0xd8))) return 'jpeg';
  if (/^GIF8[79]a$/.test(latin1(bytes, 0, 6))) return 'gif';
  if (latin1(bytes, 0, 4) === 'RIFF' && latin1(bytes, 8, 4) === 'WEBP') return 'webp';
  if (/^(II\*\0|MM\0\*)/.test(latin1(bytes, 0, 4))) return 'tiff';
  if (latin1(bytes, 0, 2) === 'BM' && bytes.length >= 26) return 'bmp';
  if (/^ftypavi[fs]/.test(latin1(bytes, 4, 8))) return 'avif';
  if (u32be(bytes, 0) === 0x89504e47 || latin1(bytes, 1, 3) === 'PNG') {
    throw fault('png-signature', 'a PNG whose signature is cut off, or was damaged as text in transfer', 0);
  }
  const found = describe(bytes);
  if (found?.image) {
    const heif = 'HEIF is not supported: convert it first, with heif-convert or ffmpeg';
    if (found.name === 'HEIF') throw unsupported('heic', heif, 0);
    // a signature alone does not make a legal image
    throw fault('image-format', `${found.name} is not supported; PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF are`, 0);
  }
  const firstBytes = Array.from(bytes.subarray(0, 8), (value) => value.toString(16).padStart(2, '0')).join(' ');
  const looks = found ? `the bytes are ${found.name}` : `unknown bytes, beginning with ${firstBytes}`;
  throw fault('not-an-image', `${looks}; PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF are read`, 0);
}
