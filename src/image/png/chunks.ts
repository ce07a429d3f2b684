import { crc32 } from '../../crc32.js';
import { ImageError } from '../../errors.js';
import { join, latin1, u32be } from '../image-file.js';
import { checkPixels, fault } from '../raw-image.js';
import { inflateZlib } from './inflate.js';

/** What IHDR says. */
export interface PngHeader {
  readonly width: number;
  readonly height: number;
  readonly bitDepth: number;
  /** 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha. */
  readonly colorType: number;
  readonly interlaced: boolean;
}

/** One frame of an APNG file: what fcTL says, and its compressed pixels. */
export interface PngFrame {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** What happens to the frame's rectangle before the next: 0 nothing, 1 cleared, 2 as it was before. */
  readonly disposal: number;
  /** Whether the frame's alpha blends it over what is there; it replaces it else. */
  readonly blends: boolean;
  readonly data: readonly Uint8Array[];
  readonly offset: number;
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
  /** XML text. */
  readonly xmp: Uint8Array | undefined;
  readonly trns: Uint8Array | undefined;
  /** What is broken from the first IDAT on: no matter where all rows are there, else the reason why they are not. */
  readonly damage: ImageError | undefined;
  /** Whether the file ends inside the data of its last IDAT. */
  readonly cut: boolean;
  /** Frames after the default image; the default image itself is the first where `animated` says where it goes. */
  readonly frames: readonly PngFrame[];
  readonly animated: Omit<PngFrame, 'data' | 'offset'> | undefined;
}

/** Samples per pixel and the legal bit depths of each color type (PNG specification, table 11.1). */
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
  if (!kind) throw fault('png-ihdr', `color type ${colorType} does not exist`, 25);
  if (!kind.depths.includes(bitDepth!)) {
    throw fault('png-ihdr', `bit depth ${bitDepth} is not possible with color type ${colorType}`, 24);
  }
  if (compression !== 0) throw fault('png-ihdr', `compression method ${compression} does not exist`, 26);
  if (filter !== 0) throw fault('png-ihdr', `filter method ${filter} does not exist`, 27);
  if (interlace! > 1) throw fault('png-ihdr', `interlace method ${interlace} does not exist`, 28);
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

/** Metadata is inflated to no more than this; Pillow refuses what is larger. */
const MAX_TEXT = 1 << 20;
/** Chunks that any file may have, and for each pixel: files of real encoders have one for some kilobytes of data. */
const FREE_CHUNKS = 1 << 16;

/** The text of a chunk with a given keyword, still compressed where it is. */
interface Text {
  readonly data: Uint8Array;
  readonly compressed: boolean;
}

/** Splits tEXt, zTXt and iTXt (PNG specification, 11.3.3). */
function textOf(bytes: Uint8Array, { type, start, end }: Chunk): { keyword: string; text: Text } | undefined {
  const keyEnd = bytes.subarray(start, Math.min(end, start + 80)).indexOf(0);
  if (keyEnd < 0) return undefined;
  const keyword = latin1(bytes, start, keyEnd);
  let at = start + keyEnd + 1;
  if (type === 'tEXt') return { keyword, text: { data: bytes.subarray(at, end), compressed: false } };
  if (type === 'zTXt') return { keyword, text: { data: bytes.subarray(at + 1, end), compressed: true } };
  const compressed = bytes[at] !== 0;
  at += 2;
  for (let zeros = 0; zeros < 2; zeros++) {
    const zero = bytes.indexOf(0, at);
    if (zero < 0 || zero >= end) return undefined;
    at = zero + 1;
  }
  return { keyword, text: { data: bytes.subarray(at, end), compressed } };
}

/** The bytes of a text; none where it is broken or longer than metadata are. */
function readText({ data, compressed }: Text): Uint8Array | undefined {
  if (!compressed) return data;
  const pieces: Uint8Array[] = [];
  try {
    const work = inflateZlib([data], { limit: MAX_TEXT, blocks: 4096 }, (piece) => pieces.push(piece.slice()));
    let step = work.next();
    while (!step.done) step = work.next();
    return step.value === 'longer' ? undefined : join(pieces);
  } catch (error) {
    if (error instanceof ImageError) return undefined;
    throw error;
  }
}

/** ImageMagick's "Raw profile type exif": a name, a length, then lines of hexadecimal digits. */
function rawProfile(text: Text | undefined): Uint8Array | undefined {
  const bytes = text && readText(text);
  if (!bytes) return undefined;
  const digits = latin1(bytes, 0, bytes.length).split('\n').slice(3).join('').replace(/\s/g, '');
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) return undefined;
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** What the walk over the chunks collects. */
interface Walk {
  palette: Uint8Array | undefined;
  trns: Uint8Array | undefined;
  exif: Uint8Array | undefined;
  readonly texts: Map<string, Text>;
  readonly idat: Uint8Array[];
  dataOffset: number;
  damage: ImageError | undefined;
  cut: boolean;
  readonly frames: (PngFrame & { data: Uint8Array[] })[];
  /** acTL was there. */
  isAnimated: boolean;
  animated: PngFile['animated'];
  last: string;
}

function frameControl(bytes: Uint8Array, { start, end, offset }: Chunk, { width, height }: PngHeader) {
  const [left, top] = [u32be(bytes, start + 12), u32be(bytes, start + 16)];
  const frame = {
    ...{ left, top, width: u32be(bytes, start + 4), height: u32be(bytes, start + 8) },
    ...{ disposal: bytes[start + 24]!, blends: bytes[start + 25] === 1 },
  };
  const inside = frame.width > 0 && frame.height > 0 && left + frame.width <= width && top + frame.height <= height;
  if (end - start !== 26 || !inside) throw fault('png-frame', 'a frame that is not inside the image', offset);
  return frame;
}

function readChunk(bytes: Uint8Array, chunk: Chunk, header: PngHeader, walk: Walk): void {
  const { type, offset, start, end } = chunk;
  const critical = type.charCodeAt(0) < 97; // capital first letter
  const { idat, last } = walk;
  if (critical && !crcHolds(bytes, chunk)) {
    const wrong = fault('png-crc', `the checksum of chunk ${type} is wrong`, offset);
    if (type !== 'IDAT' && idat.length === 0) throw wrong;
    walk.damage ??= wrong; // the pixels have a checksum of their own
  }
  if (type === 'IDAT') {
    if (idat.length > 0 && last !== 'IDAT') throw fault('png-order', 'IDAT chunks are not consecutive', offset);
    if (idat.length === 0) walk.dataOffset = offset;
    if (end > start || idat.length === 0) idat.push(bytes.subarray(start, end));
  } else if (type === 'PLTE') {
    if (walk.palette || idat.length > 0) throw fault('png-order', 'PLTE after IDAT, or a second PLTE', offset);
    walk.palette = readPalette(bytes, chunk);
  } else if (type === 'tRNS') walk.trns ??= bytes.subarray(start, end);
  else if (type === 'eXIf') {
    if (crcHolds(bytes, chunk)) walk.exif ??= bytes.subarray(start, end);
  } else if (type === 'tEXt' || type === 'zTXt' || type === 'iTXt') {
    const found = textOf(bytes, chunk);
    if (found) walk.texts.set(found.keyword, found.text);
  } else if (type === 'acTL') walk.isAnimated = idat.length === 0;
  else if (type === 'fcTL' && walk.isAnimated) {
    const frame = frameControl(bytes, chunk, header);
    if (idat.length === 0) walk.animated = frame;
    else walk.frames.push({ ...frame, data: [], offset });
  } else if (type === 'fdAT' && walk.isAnimated) {
    if (end - start > 4) walk.frames.at(-1)?.data.push(bytes.subarray(start + 4, end));
  } else if (critical && type !== 'IEND') {
    throw fault('png-order', type === 'IHDR' ? 'a second IHDR' : `unknown critical chunk ${type}`, offset);
  }
}

/** What there is of a chunk IDAT that the end of the file cuts off: it may be all the rows, without a checksum. */
function dataWithoutEnd(bytes: Uint8Array, offset: number): Uint8Array | undefined {
  return latin1(bytes, offset + 4, 4) === 'IDAT'
    ? bytes.subarray(offset + 8, offset + 8 + u32be(bytes, offset))
    : undefined;
}

/**
 * Walks the chunks of a PNG file: order, lengths, names, checksums (PNG specification, section 5). Ancillary chunks are stepped over;
 * a broken one cannot stop the image. Damage from the first IDAT on is kept for whoever finds that rows are missing.
 */
export function readPngChunks(bytes: Uint8Array, maxPixels: number): PngFile {
  const header = readPngHeader(bytes, maxPixels);
  const walk: Walk = {
    ...{ palette: undefined, trns: undefined, exif: undefined, texts: new Map(), idat: [], dataOffset: 0 },
    ...{ damage: undefined, cut: false, frames: [], isAnimated: false, animated: undefined, last: 'IHDR' },
  };
  const { idat } = walk;
  const mostChunks = FREE_CHUNKS + header.width * header.height;
  for (let offset = 33, chunks = 0; offset < bytes.length && walk.last !== 'IEND'; chunks++) {
    try {
      const chunk = chunkAt(bytes, offset);
      if (chunks > mostChunks) throw fault('png-chunks', `more than ${mostChunks} chunks for this image`, offset);
      readChunk(bytes, chunk, header, walk);
      walk.last = chunk.type;
      offset = chunk.end + 4;
    } catch (error) {
      if (!(error instanceof ImageError) || error.code === 'png-chunks') throw error;
      const rest = error.code === 'png-truncated' ? dataWithoutEnd(bytes, offset) : undefined;
      if (rest && idat.length === 0) walk.dataOffset = offset;
      if (rest) idat.push(rest);
      walk.cut = rest !== undefined && rest.length < u32be(bytes, offset);
      if (idat.length === 0) throw error;
      walk.damage ??= error;
      break;
    }
  }
  if (idat.length === 0) throw fault('png-order', 'no IDAT: the file has no pixels', bytes.length);
  if (header.colorType === 3 && !walk.palette)
    throw fault('png-palette', 'a palette image without PLTE', walk.dataOffset);
  if (walk.last !== 'IEND') walk.damage ??= fault('png-truncated', 'the end chunk is missing', bytes.length);
  const xmp = walk.texts.get('XML:com.adobe.xmp');
  return {
    ...{ header, palette: walk.palette ?? new Uint8Array(0), trns: walk.trns, idat, dataOffset: walk.dataOffset },
    ...{ damage: walk.damage, cut: walk.cut, frames: walk.frames, animated: walk.animated },
    exif: walk.exif ?? walk.texts.get('exif')?.data ?? rawProfile(walk.texts.get('Raw profile type exif')),
    xmp: xmp && readText(xmp),
  };
}
