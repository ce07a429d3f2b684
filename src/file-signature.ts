/**
 * What files are by how they begin, and the endings of those that are images or videos. One table: an image is decoded by it, and a message about
 * a file that is not what its name says names what it is.
 */

/** Formats that are decoded. */
export type ImageFormat = 'png' | 'jpeg' | 'webp' | 'gif' | 'bmp' | 'tiff' | 'avif';

/** Endings of the images that are decoded; a name never counts where the bytes can be seen. */
export const IMAGE_ENDING = /\.(a?png|jpe?g|jpe|jfif|pjpeg|pjp|webp|gif|bmp|dib|tiff?|avif)$/i;
/** Endings of the videos that ffmpeg reads. */
export const VIDEO_ENDING = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|m2ts|wmv|flv|ogv|3gp|m3u8|mpd)$/i;

/** The first bytes of a file. */
interface Head {
  readonly bytes: Uint8Array;
  /** The first 512 as Latin-1. */
  readonly text: string;
  /** That in lower case, without a byte order mark and white space before it. */
  readonly words: string;
  /** Of an ISO container (MP4, HEIF, AVIF); else empty. */
  readonly brand: string;
}

/** What a file is. */
export interface Signature {
  /** As a message says it: `this is …`. */
  readonly what: string;
  /** An image: of a format that is decoded, or of `another` one. */
  readonly image?: ImageFormat | 'another';
  readonly matches: (head: Head) => boolean;
}

const begins =
  (start: string | readonly number[], at = 0) =>
  ({ bytes }: Head): boolean =>
    typeof start === 'string'
      ? Array.prototype.every.call(start, (c: string, i) => bytes[at + i] === c.charCodeAt(0))
      : start.every((byte, i) => bytes[at + i] === byte);

/** In the order in which they are tried. */
const SIGNATURES: readonly Signature[] = [
  {
    what: 'a Git LFS pointer (the file itself was not downloaded: run "git lfs pull")',
    matches: ({ words }) => words.startsWith('version https://git-lfs'),
  },
  { what: 'a PNG image', image: 'png', matches: begins([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]) },
  {
    what: 'a JPEG image',
    image: 'jpeg',
    matches: (head) => begins([0xff, 0xd8])(head) && (head.bytes[2] === 0xff || head.bytes.length === 2),
  },
  { what: 'a GIF image', image: 'gif', matches: ({ text }) => /^GIF8[79]a/.test(text) },
  { what: 'a WebP image', image: 'webp', matches: ({ text }) => /^RIFF[\s\S]{4}WEBP/.test(text) },
  { what: 'a TIFF image', image: 'tiff', matches: ({ text }) => /^(II\*\0|MM\0\*)/.test(text) },
  {
    what: 'a BMP image',
    image: 'bmp',
    matches: (head) => begins('BM')(head) && head.bytes.length >= 26,
  },
  { what: 'an AVIF image', image: 'avif', matches: ({ brand }) => /^avi[fs]/.test(brand) },
  {
    what: 'a safetensors file',
    matches: ({ bytes }) => bytes[8] === 0x7b && bytes.subarray(4, 8).every((byte) => byte === 0),
  },
  { what: 'HEIF', image: 'another', matches: ({ brand }) => /^(heic|heix|hevc|heim|heis|mif1|msf1)/.test(brand) },
  {
    what: 'SVG',
    image: 'another',
    matches: ({ words }) => /^(<\?xml[^>]*>\s*)?(<!--[\s\S]*?-->\s*)?(<!doctype svg[\s\S]*?>\s*)?<svg/.test(words),
  },
  {
    what: 'ICO or CUR',
    image: 'another',
    matches: (head) => begins([0, 0, 1, 0])(head) || begins([0, 0, 2, 0])(head),
  },
  { what: 'Photoshop', image: 'another', matches: begins('8BPS') },
  { what: 'JPEG 2000', image: 'another', matches: begins('\0\0\0\x0cjP  ') },
  {
    what: 'JPEG XL',
    image: 'another',
    matches: (head) => begins([0xff, 0x0a])(head) || begins('\0\0\0\x0cJXL ')(head),
  },
  { what: 'PNM', image: 'another', matches: ({ text }) => /^P[1-7]\s/.test(text) },
  { what: 'QOI', image: 'another', matches: begins('qoif') },
  { what: 'a zip archive', matches: begins('PK\x03\x04') },
  { what: 'an empty zip archive', matches: begins('PK\x05\x06') },
  { what: 'a gzip file', matches: begins([0x1f, 0x8b]) },
  { what: 'a 7z archive', matches: begins([0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]) },
  { what: 'an xz file', matches: begins([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) },
  { what: 'a bzip2 file', matches: begins('BZh') },
  { what: 'a zstd file', matches: begins([0x28, 0xb5, 0x2f, 0xfd]) },
  { what: 'an HDF5 file', matches: begins([0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]) },
  { what: 'a GGUF file', matches: begins('GGUF') },
  { what: 'a numpy file', matches: begins([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]) },
  { what: 'a PDF document', matches: begins('%PDF') },
  { what: 'a tar archive', matches: begins('ustar', 257) },
  { what: 'a tar archive (PyTorch before 0.2)', matches: begins('storages\0') },
  {
    what: 'a Python pickle (an old PyTorch file?)',
    matches: ({ bytes }) => bytes[0] === 0x80 && bytes[1]! >= 2 && bytes[1]! <= 5,
  },
  { what: 'an ONNX file', matches: ({ bytes }) => bytes[0] === 0x08 && bytes[1]! <= 12 && bytes[2] === 0x12 },
  { what: 'an executable', matches: (head) => begins('MZ')(head) || begins('\x7fELF')(head) },
  { what: 'a video', matches: (head) => head.brand !== '' || begins([0x1a, 0x45, 0xdf, 0xa3])(head) },
  { what: 'a blank file', matches: ({ words, bytes }) => words === '' && bytes.length <= 512 },
  { what: 'a web page (HTML)', matches: ({ words }) => /^<(!doctype|html|head|body|!--)/.test(words) },
  { what: 'XML', matches: ({ words }) => words.startsWith('<?xml') },
  { what: 'JSON', matches: ({ words }) => /^[[{]/.test(words) },
  { what: 'nothing but zeros', matches: ({ bytes }) => bytes.every((byte) => byte === 0) },
];

function headOf(bytes: Uint8Array): Head {
  const text = String.fromCharCode(...bytes.subarray(0, 512));
  const words = text
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
    .toLowerCase();
  return { bytes, text, words, brand: text.slice(4, 8) === 'ftyp' ? text.slice(8, 12) : '' };
}

/** What bytes are (the first 512 tell), or undefined where they begin as nothing that is known. Any text is nothing that is known. */
export function recognize(bytes: Uint8Array): Omit<Signature, 'matches'> | undefined {
  if (bytes.length === 0) return { what: 'an empty file' };
  const head = headOf(bytes);
  return SIGNATURES.find(({ matches }) => matches(head));
}

/** Whether bytes begin as printable text. */
export function looksLikeText(bytes: Uint8Array): boolean {
  const { text } = headOf(bytes);
  return /^[\t\n\r\x20-\x7e\x80-\xff]*$/.test(text) && /^[\t\n\r\x20-\x7e]{4}/.test(text);
}
