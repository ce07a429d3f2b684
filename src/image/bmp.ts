import { u16le, u32le } from './image-file.js';
import type { RgbImage } from './raw-image.js';
import { allocate, checkPixels, fault, unsupported } from './raw-image.js';

/** The header of a BMP file. */
export interface BmpFile {
  readonly width: number;
  readonly height: number;
  readonly bits: number;
  /** Rows are stored from the bottom up, unless this is set. */
  readonly topDown: boolean;
  /** Whether pixels are runs of palette indices (RLE8, RLE4). */
  readonly runs: boolean;
  /** Masks of red, green and blue where pixels have 16 or 32 bits. */
  readonly masks: readonly number[] | undefined;
  /** RGB triples. */
  readonly palette: Uint8Array;
  readonly pixels: number;
}

const COMPRESSION = { none: 0, rle8: 1, rle4: 2, masks: 3 } as const;

const RGB32 = [0xff0000, 0xff00, 0xff];
const RGB555 = [0x7c00, 0x3e0, 0x1f];

/** Masks of red, green, blue and, with 32 bits, alpha that Pillow reads. */
const READ_MASKS: Readonly<Record<number, readonly (readonly number[])[]>> = {
  16: [[0xf800, 0x7e0, 0x1f], RGB555],
  24: [RGB32],
  32: [
    [...RGB32, 0],
    [0xff000000, 0xff0000, 0xff00, 0],
    [0xff000000, 0xff00, 0xff, 0],
    [0xff000000, 0xff0000, 0xff00, 0xff],
    [0xff, 0xff00, 0xff0000, 0xff000000],
    [...RGB32, 0xff000000],
    [0xff000000, 0xff00, 0xff, 0xff0000],
    [0, 0, 0, 0],
  ],
};

/** The masks that the header gives. Headers of 56 bytes and more have one of alpha too. */
function readMasks(bytes: Uint8Array, size: number, bits: number): readonly number[] | undefined {
  const given = [0, 1, 2, 3].map((i) => (i < 3 || size >= 56 ? u32le(bytes, 54 + 4 * i) : 0));
  const masks = (bits === 32 ? given : given.slice(0, 3)).join();
  const known = READ_MASKS[bits]?.find((read) => read.join() === masks);
  if (!known || size === 64) throw unsupported('bmp-masks', `masks ${masks} of ${bits} bits are not supported`, 54);
  if (bits === 24) return undefined;
  return known.every((mask) => mask === 0) ? RGB32 : known.slice(0, 3);
}

/** Reads and checks the header; the pixels are not looked at. Kinds as Pillow: others are `unsupported`. */
export function readBmp(bytes: Uint8Array, maxPixels: number): BmpFile {
  if (bytes.length < 26) throw fault('bmp-truncated', 'the file ends inside its header', bytes.length);
  const size = u32le(bytes, 14);
  const old = size === 12;
  if (!old && ![40, 52, 56, 64, 108, 124].includes(size))
    throw unsupported('bmp-header', `a header of ${size} bytes`, 14);
  if (bytes.length < 14 + size) throw fault('bmp-truncated', 'the file ends inside its header', bytes.length);
  const width = old ? u16le(bytes, 18) : u32le(bytes, 18) | 0;
  const signed = old ? u16le(bytes, 20) : u32le(bytes, 22) | 0;
  const height = Math.abs(signed);
  const bits = u16le(bytes, old ? 24 : 28);
  const compression = old ? COMPRESSION.none : u32le(bytes, 30);
  checkPixels(width, height, maxPixels, 18);
  if (![1, 4, 8, 16, 24, 32].includes(bits))
    throw unsupported('bmp-bits', `${bits} bits a pixel are not supported`, 28);
  const runs = (compression === COMPRESSION.rle8 && bits === 8) || (compression === COMPRESSION.rle4 && bits === 4);
  const masked = compression === COMPRESSION.masks;
  if (!runs && !masked && compression !== COMPRESSION.none)
    throw unsupported('bmp-compression', `compression ${compression} of ${bits} bits is not supported`, 30);
  const masks = masked ? readMasks(bytes, size, bits) : bits === 16 ? RGB555 : bits === 32 ? RGB32 : undefined;
  const used = old ? 0 : u32le(bytes, 46);
  const colors = bits > 8 ? 0 : used || 1 << bits;
  if (colors > 65_536) throw unsupported('bmp-palette', `a palette of ${used} colors is not supported`, 46);
  const entry = old ? 3 : 4;
  const start = 14 + size;
  const palette = new Uint8Array(768);
  for (let i = 0; i < Math.min(colors, 256); i++) {
    for (let c = 0; c < 3; c++) palette[3 * i + c] = bytes[start + i * entry + 2 - c] ?? 0;
  }
  // an offset of 0, or of the palette itself, means that the pixels follow the palette
  const stated = u32le(bytes, 10);
  const behind = start + entry * colors + (masked && size === 40 ? 12 : 0);
  const pixels = stated === 0 || (stated === start && bits <= 8) ? behind : stated;
  const last = Math.ceil((width * bits) / 8); // the last row may lack its padding
  if (!runs && pixels + strideOf(width, bits) * (height - 1) + last > bytes.length) {
    throw fault('bmp-truncated', 'fewer pixels than the header says', bytes.length);
  }
  return { width, height, bits, topDown: signed < 0, runs, masks, palette, pixels };
}

const strideOf = (width: number, bits: number): number => Math.ceil((width * bits) / 32) * 4;

/** A channel of some bits widened to 8: its value's share of the greatest. */
function widener(mask: number): (value: number) => number {
  let shift = 0;
  while (((mask >>> shift) & 1) === 0) shift++;
  const most = mask >>> shift;
  return (value) => Math.floor((((value & mask) >>> shift) * 255) / most);
}

/** Decodes a BMP of any depth to RGB; a fourth channel is dropped. Yields after each row. */
export function* decodeBmp(bytes: Uint8Array, file: BmpFile): Generator<undefined, RgbImage> {
  const { width, height, bits, topDown, runs, masks, palette, pixels } = file;
  const indices = runs ? readRuns(bytes, file) : undefined;
  const data = allocate(Uint8Array, width * height * 3);
  const stride = strideOf(width, bits);
  const widen = masks?.map(widener);
  for (let y = 0; y < height; y++) {
    const row = pixels + y * stride;
    let to = (topDown ? y : height - 1 - y) * width * 3;
    for (let x = 0; x < width; x++) {
      if (widen) {
        const value = bits === 16 ? u16le(bytes, row + 2 * x) : u32le(bytes, row + 4 * x);
        for (const channel of widen) data[to++] = channel(value);
      } else if (bits === 24) {
        for (let c = 2; c >= 0; c--) data[to++] = bytes[row + 3 * x + c]!;
      } else {
        const bit = x * bits;
        const index = indices
          ? indices[y * width + x]!
          : (bytes[row + (bit >> 3)]! >> (8 - bits - (bit & 7))) & ((1 << bits) - 1);
        for (let c = 0; c < 3; c++) data[to++] = palette[3 * index + c]!;
      }
    }
    yield;
  }
  return { data, width, height };
}

/**
 * The palette indices of a BMP in runs, a byte each, as Pillow's BmpRleDecoder reads them: a run that passes the end of its row is cut, the
 * two bytes behind a jump (0, 2) are skipped, and what a jump passes over is color 0. A file that ends early is refused.
 */
function readRuns(bytes: Uint8Array, { width, height, bits, pixels }: BmpFile): Uint8Array {
  // two bytes make at most 255 pixels, a jump of six at most 255 rows: a claim without data is refused before the allocation
  const left = Math.max(0, bytes.length - pixels);
  if (width * height > left * 128 && height > left * 64 + 1) {
    throw fault('bmp-truncated', 'fewer pixels than the header says', bytes.length);
  }
  const indices = allocate(Uint8Array, width * height);
  let [from, to, x] = [pixels, 0, 0];
  const put = (index: number) => {
    if (to < indices.length) indices[to] = index;
    to++;
  };
  while (to < indices.length && from + 1 < bytes.length) {
    const [count, value] = [bytes[from]!, bytes[from + 1]!];
    from += 2;
    if (count > 0) {
      const pair = bits === 8 ? [value, value] : [value >> 4, value & 15];
      for (let n = 0; n < Math.min(count, Math.max(0, width - x)); n++) put(pair[n & 1]!);
      x = Math.min(x + count, Math.max(x, width));
    } else if (value === 0) {
      to = Math.ceil(to / width) * width;
      x = 0;
    } else if (value === 1) {
      break;
    } else if (value === 2) {
      if (from + 4 > bytes.length) break;
      to += bytes[from + 2]! + bytes[from + 3]! * width;
      from += 4;
      x = to % width;
    } else {
      const length = bits === 8 ? value : value >> 1;
      const end = Math.min(from + length, bytes.length);
      for (; from < end; from++) {
        if (bits === 8) put(bytes[from]!);
        else {
          put(bytes[from]! >> 4);
          put(bytes[from]! & 15);
        }
      }
      if (end === bytes.length && to < indices.length) break;
      x += value;
      from += from & 1;
    }
  }
  if (to < indices.length) throw fault('bmp-truncated', 'fewer pixels than the header says', from);
  return indices;
}
