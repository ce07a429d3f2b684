import type { Orientation } from './exif.js';
import { u16be, u16le, u32be, u32le } from './image-file.js';
import { inflateZlib } from './png/inflate.js';
import type { RgbImage } from './raw-image.js';
import { addFacts, allocate, checkPixels, fault, unsupported } from './raw-image.js';

/** Tags that are read (TIFF 6.0). */
const TAG = {
  ...{ width: 256, height: 257, bits: 258, compression: 259, photometric: 262, fillOrder: 266 },
  ...{ stripOffsets: 273, orientation: 274, samples: 277, rowsPerStrip: 278, stripBytes: 279, planes: 284 },
  ...{ predictor: 317, palette: 320, tileWidth: 322, tileHeight: 323, tileOffsets: 324, tileBytes: 325 },
  ...{ extraSamples: 338, sampleFormat: 339 },
} as const;
const READ_TAGS: ReadonlySet<number> = new Set(Object.values(TAG));

const PHOTOMETRIC = ['white is zero', 'gray', 'RGB', 'palette', 'mask', 'CMYK', 'YCbCr', undefined, 'Lab'] as const;
const [WHITE_IS_ZERO, GRAY, RGB, PALETTE, CMYK] = [0, 1, 2, 3, 5];

const COMPRESSIONS: Readonly<Record<number, 'none' | 'lzw' | 'deflate' | 'packbits'>> = {
  ...{ 1: 'none', 5: 'lzw', 8: 'deflate', 32946: 'deflate', 32773: 'packbits' },
};

/** Bytes of a value of BYTE, SHORT and LONG, the types of all tags that are read. */
const TYPE_BYTES: Readonly<Record<number, number>> = { 1: 1, 3: 2, 4: 4 };

/** The first directory of a TIFF, checked. */
export interface TiffFile {
  readonly width: number;
  readonly height: number;
  readonly orientation: Orientation;
  /** Of a sample. */
  readonly bits: number;
  readonly photometric: number;
  readonly samples: number;
  readonly compression: number;
  readonly predictor: number;
  /** Whether each block holds one sample of each pixel, all red ones first. */
  readonly planar: boolean;
  readonly premultiplied: boolean;
  readonly bitsReversed: boolean;
  readonly littleEndian: boolean;
  /** 16-bit values: all reds, all greens, all blues. */
  readonly palette: readonly number[];
  readonly blockWidth: number;
  readonly blockHeight: number;
  /** Whether blocks at the edge are cut to the image: strips are, tiles are not. */
  readonly cutBlocks: boolean;
  readonly offsets: readonly number[];
  readonly byteCounts: readonly number[];
}

/** Values of the tags that are read. Each list fits in the file, so all of them together cost no more than it. */
function readDirectory(bytes: Uint8Array, littleEndian: boolean): Map<number, readonly number[]> {
  const [u16, u32] = littleEndian ? [u16le, u32le] : [u16be, u32be];
  const start = u32(bytes, 4);
  const count = u16(bytes, start);
  if (start < 8 || count === 0 || start + 2 + 12 * count > bytes.length) {
    throw fault('tiff-data', 'the directory runs past the end of the file', 4);
  }
  const tags = new Map<number, readonly number[]>();
  for (let at = start + 2; at < start + 2 + 12 * count; at += 12) {
    const [tag, type, values] = [u16(bytes, at), u16(bytes, at + 2), u32(bytes, at + 4)];
    if (!READ_TAGS.has(tag) || tags.has(tag)) continue;
    const size = TYPE_BYTES[type];
    if (size === undefined) throw fault('tiff-data', `tag ${tag} has values of type ${type}`, at);
    const from = size * values > 4 ? u32(bytes, at + 8) : at + 8;
    if (values === 0 || from + size * values > bytes.length) {
      throw fault('tiff-data', `tag ${tag} has no values, or they run past the end of the file`, at);
    }
    const read = size === 1 ? (_: Uint8Array, i: number) => bytes[i]! : size === 2 ? u16 : u32;
    tags.set(
      tag,
      Array.from({ length: values }, (_, i) => read(bytes, from + i * size)),
    );
  }
  return tags;
}

/**
 * Reads and checks the first directory; the pixels are not looked at.
 * @throws ImageError, `unsupported` for kinds that are not read.
 */
export function readTiff(bytes: Uint8Array, maxPixels: number): TiffFile {
  const littleEndian = bytes[0] === 0x49;
  const tags = readDirectory(bytes, littleEndian);
  const one = (tag: number, otherwise: number): number => tags.get(tag)?.[0] ?? otherwise;
  const [width, height] = [one(TAG.width, 0), one(TAG.height, 0)];
  checkPixels(width, height, maxPixels);
  const samples = one(TAG.samples, 1);
  const depths = tags.get(TAG.bits) ?? [1];
  const bits = depths[0]!;
  const photometric = one(TAG.photometric, 0);
  const compression = one(TAG.compression, 1);
  const planar = one(TAG.planes, 1) === 2 && samples > 1;
  const predictor = one(TAG.predictor, 1);
  const extra = tags.get(TAG.extraSamples) ?? [];
  const premultiplied = extra[0] === 1;
  const bitsReversed = one(TAG.fillOrder, 1) === 2;
  const packing = COMPRESSIONS[compression];
  if (!packing) throw unsupported('tiff-compression', `compression ${compression} is not supported`);
  const colors = photometric === RGB ? 3 : photometric === CMYK ? 4 : 1;
  const readable =
    (tags.get(TAG.sampleFormat) ?? [1]).every((format) => format === 1) &&
    depths.every((depth) => depth === bits) &&
    (photometric === WHITE_IS_ZERO
      ? [1, 2, 4, 8].includes(bits)
      : photometric === GRAY
        ? [1, 2, 4, 8, 16].includes(bits)
        : photometric === PALETTE
          ? [1, 2, 4, 8].includes(bits)
          : photometric === RGB
            ? bits === 8 || bits === 16
            : photometric === CMYK && bits === 8) &&
    samples >= colors &&
    samples <= (bits < 8 ? colors : colors + 1) &&
    !(samples > colors && (photometric === WHITE_IS_ZERO || photometric === CMYK)) &&
    !(premultiplied && !(photometric === RGB && bits === 8)) &&
    !(planar && (photometric !== RGB || bits !== 8 || premultiplied));
  if (!readable) {
    const name = PHOTOMETRIC[photometric] ?? `photometric ${photometric}`;
    throw unsupported('tiff-kind', `${bits}-bit ${name} of ${samples} samples is not supported`);
  }
  const predicted = packing === 'lzw' || packing === 'deflate';
  if (predicted && predictor !== 1 && !(predictor === 2 && bits >= 8)) {
    throw unsupported('tiff-predictor', `predictor ${predictor} of ${bits}-bit samples is not supported`);
  }
  if (bitsReversed && packing !== 'none') throw unsupported('tiff-fill-order', 'compressed bits in reverse order');
  const palette = tags.get(TAG.palette) ?? [];
  if (photometric === PALETTE && palette.length < 3 << bits) {
    throw fault('tiff-data', 'a palette image without a whole palette');
  }
  const tiled = tags.has(TAG.tileOffsets);
  const blockWidth = tiled ? one(TAG.tileWidth, 0) : width;
  const blockHeight = tiled ? one(TAG.tileHeight, 0) : Math.min(height, one(TAG.rowsPerStrip, height));
  checkPixels(blockWidth, blockHeight, maxPixels);
  const needed = Math.ceil(width / blockWidth) * Math.ceil(height / blockHeight) * (planar ? samples : 1);
  const offsets = tags.get(tiled ? TAG.tileOffsets : TAG.stripOffsets) ?? [];
  if (offsets.length < needed) throw fault('tiff-data', `${offsets.length} strips or tiles of ${needed} are there`);
  if (tiled && needed * blockWidth * blockHeight > 4 * width * height * samples + (1 << 24)) {
    throw fault('tiff-data', `tiles of ${blockWidth} by ${blockHeight} pixels are too large for the image`);
  }
  const turn = one(TAG.orientation, 1);
  return {
    ...{ width, height, bits, photometric, samples, compression, planar, premultiplied, bitsReversed, littleEndian },
    ...{ palette, blockWidth, blockHeight, offsets },
    predictor: predicted ? predictor : 1,
    orientation: (turn >= 1 && turn <= 8 ? turn : 1) as Orientation,
    cutBlocks: !tiled,
    byteCounts: tags.get(tiled ? TAG.tileBytes : TAG.stripBytes) ?? [],
  };
}

/**
 * Decodes the first page of a TIFF (strips or tiles; uncompressed, LZW, Deflate, PackBits; gray and palette of 1 to 8 bits, gray and RGB
 * of 16, RGB and CMYK of 8) to RGB as Pillow does: alpha is dropped, premultiplied colors are divided by it, 16-bit RGB keeps its high
 * byte, 16-bit gray is clipped at 255. Yields now and then.
 */
export function* decodeTiff(bytes: Uint8Array, file: TiffFile): Generator<undefined, RgbImage> {
  const { width, height, blockWidth, blockHeight, samples, planar, bits } = file;
  const inBlock = planar ? 1 : samples;
  const stride = Math.ceil((blockWidth * inBlock * bits) / 8);
  const [across, down] = [Math.ceil(width / blockWidth), Math.ceil(height / blockHeight)];
  const data = allocate(Uint8Array, width * height * 3);
  const row = new Uint16Array(blockWidth * inBlock);
  for (let plane = 0; plane < (planar ? 3 : 1); plane++) {
    for (let n = 0; n < across * down; n++) {
      const [left, top] = [(n % across) * blockWidth, Math.floor(n / across) * blockHeight];
      const rows = file.cutBlocks ? Math.min(blockHeight, height - top) : blockHeight;
      const block = yield* readBlock(bytes, file, plane * across * down + n, stride * rows);
      for (let y = 0; y < Math.min(rows, height - top); y++) {
        readSamples(block, y * stride, row, file, inBlock);
        const columns = Math.min(blockWidth, width - left);
        const to = ((top + y) * width + left) * 3;
        if (planar) for (let x = 0; x < columns; x++) data[to + 3 * x + plane] = row[x]!;
        else writeColors(row, columns, data, to, file);
        if (y % 64 === 63) yield;
      }
      yield;
    }
  }
  return { data, width, height };
}

/** The bytes of one strip or tile, as many as its pixels need. */
function* readBlock(bytes: Uint8Array, file: TiffFile, index: number, size: number): Generator<undefined, Uint8Array> {
  const start = file.offsets[index]!;
  const packing = COMPRESSIONS[file.compression];
  const end =
    packing === 'none' ? start + size : Math.min(bytes.length, start + (file.byteCounts[index] ?? bytes.length));
  const cut = fault('tiff-truncated', `strip or tile ${index} has fewer pixels than it needs`, start);
  if (start >= bytes.length || end > bytes.length) throw cut;
  const packed = bytes.subarray(start, end);
  if (packing === 'none') return file.bitsReversed ? packed.map(reversed) : packed;
  if (packing === 'deflate') {
    const block = allocate(Uint8Array, size);
    let filled = 0;
    const take = (piece: Uint8Array) => {
      block.set(piece.subarray(0, size - filled), filled);
      filled += Math.min(piece.length, size - filled);
    };
    try {
      // an encoder writes a block for some ten thousand bytes
      yield* inflateZlib([packed], { limit: size, blocks: 64 + size / 64 }, take) as Generator<undefined>;
    } catch (error) {
      throw addFacts(error, { offset: start });
    }
    if (filled < size) throw cut;
    return block;
  }
  const unpack = packing === 'lzw' ? unpackLzw : unpackBits;
  const block = allocate(Uint8Array, size);
  if ((yield* unpack(packed, block)) < size) throw cut;
  return block;
}

function reversed(byte: number): number {
  let result = 0;
  for (let bit = 0; bit < 8; bit++) result |= ((byte >> bit) & 1) << (7 - bit);
  return result;
}

/** Bytes, in and out, between two yields. */
const SLICE = 2 ** 19;

/** PackBits (TIFF 6.0, section 9); gives how many bytes came out. Yields now and then. */
function* unpackBits(packed: Uint8Array, block: Uint8Array): Generator<undefined, number> {
  let filled = 0;
  let nextYield = SLICE;
  for (let at = 0; at < packed.length && filled < block.length; ) {
    if (filled + at >= nextYield) {
      yield;
      nextYield = filled + at + SLICE;
    }
    const code = packed[at++]!;
    if (code < 128) {
      const literal = packed.subarray(at, Math.min(at + code + 1, at + block.length - filled));
      block.set(literal, filled);
      filled += literal.length;
      at += code + 1;
    } else if (code > 128) {
      const end = Math.min(block.length, filled + 257 - code);
      if (at < packed.length) block.fill(packed[at++]!, filled, end);
      filled = end;
    }
  }
  return filled;
}

const [LZW_CLEAR, LZW_END, LZW_CODES] = [256, 257, 4096];

/** LZW (TIFF 6.0, section 13): codes of 9 to 12 bits, the highest bit first, widened one code early. Gives how many bytes came out. Yields now and then. */
function* unpackLzw(packed: Uint8Array, block: Uint8Array): Generator<undefined, number> {
  if (packed[0] === 0 && (packed[1]! & 1) === 1) throw unsupported('tiff-lzw', 'the old form of LZW is not supported');
  /** Where the string of a code stands in the output, and its length: it is the string before plus one byte. */
  const at = new Int32Array(LZW_CODES);
  const lengths = new Int32Array(LZW_CODES);
  let [next, width, filled, hold, bits, last] = [258, 9, 0, 0, 0, -1];
  let nextYield = SLICE;
  for (let i = 0; filled < block.length; ) {
    if (filled + i >= nextYield) {
      yield;
      nextYield = filled + i + SLICE;
    }
    while (bits < width && i < packed.length) {
      hold = ((hold << 8) | packed[i++]!) & 0xffffff;
      bits += 8;
    }
    if (bits < width) break;
    bits -= width;
    const code = (hold >> bits) & ((1 << width) - 1);
    if (code === LZW_END) break;
    if (code === LZW_CLEAR) {
      [next, width, last] = [258, 9, -1];
      continue;
    }
    const from = filled;
    if (code < 256) block[filled++] = code;
    else {
      const isNew = code === next && last >= 0;
      if (!isNew && code >= next) throw fault('tiff-lzw', `the code ${code} is not known yet`);
      // a code that is being defined is the last string and its own first byte
      const source = isNew ? last : at[code]!;
      const length = Math.min(isNew ? from - last + 1 : lengths[code]!, block.length - filled);
      for (let n = 0; n < length; n++) block[filled++] = block[source + n]!;
    }
    if (last >= 0 && next < LZW_CODES) {
      at[next] = last;
      lengths[next] = from - last + 1;
      next++;
      if (next + 1 >= 1 << width && width < 12) width++;
    }
    last = from;
  }
  return filled;
}

/** The samples of one row of a block, the predictor undone. */
function readSamples(block: Uint8Array, start: number, row: Uint16Array, file: TiffFile, inBlock: number): void {
  const { bits, littleEndian, predictor } = file;
  if (bits === 8) for (let i = 0; i < row.length; i++) row[i] = block[start + i]!;
  else if (bits === 16) {
    const u16 = littleEndian ? u16le : u16be;
    for (let i = 0; i < row.length; i++) row[i] = u16(block, start + 2 * i);
  } else {
    for (let i = 0; i < row.length; i++) {
      const bit = i * bits;
      row[i] = (block[start + (bit >> 3)]! >> (8 - bits - (bit & 7))) & ((1 << bits) - 1);
    }
  }
  if (predictor !== 2) return;
  const mask = bits === 8 ? 0xff : 0xffff;
  for (let i = inBlock; i < row.length; i++) row[i] = (row[i]! + row[i - inBlock]!) & mask;
}

function writeColors(row: Uint16Array, columns: number, data: Uint8Array, start: number, file: TiffFile): void {
  const { photometric, samples, bits, palette, premultiplied } = file;
  const entries = palette.length / 3;
  const scale = 255 / ((1 << bits) - 1);
  for (let x = 0, from = 0, to = start; x < columns; x++, from += samples, to += 3) {
    for (let c = 0; c < 3; c++) {
      const value = row[photometric === RGB || photometric === CMYK ? from + c : from]!;
      if (photometric === PALETTE) data[to + c] = palette[c * entries + value]! >> 8;
      else if (photometric === CMYK) data[to + c] = inked(value, row[from + 3]!);
      else if (photometric === RGB) {
        data[to + c] = bits === 16 ? value >> 8 : premultiplied ? divided(value, row[from + 3]!) : value;
      } else if (bits === 16) data[to + c] = Math.min(255, value);
      else data[to + c] = photometric === WHITE_IS_ZERO ? 255 - value * scale : value * scale;
    }
  }
}

/** Pillow's CMYK to RGB: light (255 - K) less the ink's share of it. */
function inked(ink: number, black: number): number {
  const light = 255 - black;
  const product = ink * light + 128;
  return Math.max(0, light - ((product + (product >> 8)) >> 8));
}

/** Pillow's RGBa to RGBA. */
const divided = (value: number, alpha: number): number =>
  alpha === 0 ? 0 : Math.min(255, Math.floor((255 * value) / alpha));
