import { crc32 } from '../../crc32.js';
import { latin1, u32be } from '../bytes.js';
import { checkPixels, fault } from '../fault.js';

/** What IHDR says. */
export interface PngHeader {
  readonly width: number;
  readonly height: number;
  readonly bitDepth: number;
  /** 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha. */
  readonly colorType: number;
  readonly interlaced: boolean;
}

/** The parts of a checked PNG file that make the image. */
export interface PngFile {
  readonly header: PngHeader;
  /** RGB triples; empty without PLTE. */
  readonly palette: Uint8Array;
  /** The zlib stream, in pieces. */
  readonly idat: readonly Uint8Array[];
  /** Offset of the first IDAT, for error messages. */
  readonly dataOffset: number;
  /** A TIFF structure. */
  readonly exif: Uint8Array | undefined;
  /** XML text, where it is stored uncompressed. */
  readonly xmp: Uint8Array | undefined;
}

/** Samples per pixel and the legal bit depths of each colour type (PNG specification, table 11.1). */
const COLOR_TYPES: Readonly<Record<number, { channels: number; depths: readonly number[] }>> = {
  0: { channels: 1, depths: [1, 2, 4, 8, 16] },
  2: { channels: 3, depths: [8, 16] },
  3: { channels: 1, depths: [1, 2, 4, 8] },
  4: { channels: 2, depths: [8, 16] },
  6: { channels: 4, depths: [8, 16] },
};

/** Samples of one pixel. */
export const pngChannels = (header: PngHeader): number => COLOR_TYPES[header.colorType]!.channels;

interface Chunk {
  readonly type: string;
  /** Where the chunk begins, at its length field. */
  readonly offset: number;
  readonly start: number;
  readonly end: number;
}

/** The chunk at `offset`: length inside the file, name of letters. */
function chunkAt(bytes: Uint8Array, offset: number): Chunk {
  if (bytes.length - offset < 12) throw fault('png-truncated', 'the file ends inside a chunk', offset);
  const length = u32be(bytes, offset);
  const type = latin1(bytes, offset + 4, 4);
  if (!/^[A-Za-z]{4}$/.test(type)) {
    throw fault('png-chunk-name', `${JSON.stringify(type)} is not a chunk name of four letters`, offset);
  }
  if (length > 0x7fffffff || length > bytes.length - offset - 12) {
    throw fault('png-truncated', `chunk ${type} claims ${length} bytes, past the end of the file`, offset);
  }
  return { type, offset, start: offset + 8, end: offset + 8 + length };
}

const crcHolds = (bytes: Uint8Array, c: Chunk) => crc32(bytes.subarray(c.start - 4, c.end)) === u32be(bytes, c.end);

function checkCrc(bytes: Uint8Array, chunk: Chunk): void {
  if (!crcHolds(bytes, chunk)) throw fault('png-crc', `the checksum of chunk ${chunk.type} is wrong`, chunk.offset);
}

/** Reads and checks signature and IHDR. */
export function readPngHeader(bytes: Uint8Array, maxPixels: number): PngHeader {
  if (bytes.length < 8) throw fault('png-truncated', 'the file ends inside the signature', bytes.length);
  const chunk = chunkAt(bytes, 8);
  if (chunk.type !== 'IHDR') throw fault('png-order', `the first chunk is ${chunk.type}, not IHDR`, 8);
  if (chunk.end - chunk.start !== 13) throw fault('png-ihdr', `IHDR has ${chunk.end - chunk.start} bytes, not 13`, 8);
  checkCrc(bytes, chunk);
  const [width, height] = [u32be(bytes, 16), u32be(bytes, 20)];
  const [bitDepth, colorType, compression, filter, interlace] = bytes.subarray(24, 29) as unknown as number[];
  const kind = COLOR_TYPES[colorType!];
  if (!kind) throw fault('png-ihdr', `colour type ${colorType} does not exist`, 25);
  if (!kind.depths.includes(bitDepth!)) {
    throw fault('png-ihdr', `bit depth ${bitDepth} is not possible with colour type ${colorType}`, 24);
  }
  if (compression !== 0) throw fault('png-ihdr', `compression method ${compression} does not exist`, 26);
  if (filter !== 0) throw fault('png-ihdr', `filter method ${filter} does not exist`, 27);
  if (interlace! > 1) throw fault('png-ihdr', `interlace method ${interlace} does not exist`, 28);
  if (width > 0x7fffffff || height > 0x7fffffff) throw fault('image-size', 'a side is above 2^31-1 pixels', 16);
  checkPixels(width, height, maxPixels, 16);
  return { width, height, bitDepth: bitDepth!, colorType: colorType!, interlaced: interlace === 1 };
}

function readPalette(bytes: Uint8Array, chunk: Chunk): Uint8Array {
  const length = chunk.end - chunk.start;
  if (length === 0 || length % 3 !== 0 || length > 768) {
    throw fault('png-palette', `PLTE has ${length} bytes: not 1 to 256 entries of 3`, chunk.offset);
  }
  return bytes.subarray(chunk.start, chunk.end);
}

/** The text of an iTXt chunk that holds an uncompressed XMP packet. */
function xmpText(bytes: Uint8Array, { start, end }: Chunk): Uint8Array | undefined {
  const name = 'XML:com.adobe.xmp\0\0';
  return latin1(bytes, start, name.length) === name ? bytes.subarray(start + name.length, end) : undefined;
}

/**
 * Walks the chunks of a PNG file: order, lengths, names, checksums (PNG specification, section 5). Ancillary chunks are stepped over
 * and never inflated; a broken one cannot stop the image. A missing IEND is accepted when the file ends after a whole chunk.
 */
export function readPngChunks(bytes: Uint8Array, maxPixels: number): PngFile {
  const header = readPngHeader(bytes, maxPixels);
  let palette: Uint8Array | undefined;
  let exif: Uint8Array | undefined;
  let xmp: Uint8Array | undefined;
  const idat: Uint8Array[] = [];
  let dataOffset = 0;
  let last = 'IHDR';
  for (let offset = 33; offset < bytes.length && last !== 'IEND'; ) {
    const chunk = chunkAt(bytes, offset);
    const { type } = chunk;
    const critical = type.charCodeAt(0) < 97; // capital first letter
    if (critical) checkCrc(bytes, chunk);
    if (type === 'IDAT') {
      if (idat.length > 0 && last !== 'IDAT') throw fault('png-order', 'IDAT chunks are not consecutive', offset);
      if (idat.length === 0) dataOffset = offset;
      idat.push(bytes.subarray(chunk.start, chunk.end));
    } else if (type === 'PLTE') {
      if (palette || idat.length > 0) throw fault('png-order', 'PLTE after IDAT, or a second PLTE', offset);
      palette = readPalette(bytes, chunk);
    } else if (type === 'eXIf') {
      if (crcHolds(bytes, chunk)) exif ??= bytes.subarray(chunk.start, chunk.end);
    } else if (type === 'iTXt') {
      xmp ??= xmpText(bytes, chunk);
    } else if (critical && type !== 'IEND') {
      throw fault('png-order', type === 'IHDR' ? 'a second IHDR' : `unknown critical chunk ${type}`, offset);
    }
    last = type;
    offset = chunk.end + 4;
  }
  if (idat.length === 0) throw fault('png-order', 'no IDAT: the file has no pixels', bytes.length);
  if (header.colorType === 3 && !palette) throw fault('png-palette', 'a palette image without PLTE', dataOffset);
  return { header, palette: palette ?? new Uint8Array(0), idat, dataOffset, exif, xmp };
}
