import { ImageError } from '../errors.js';
import type { Orientation } from './exif.js';
import { u16be, u16le, u32be, u32le } from './image-file.js';
import type { RawImage } from './raw-image.js';
import { allocate, checkPixels, fault, unsupported } from './raw-image.js';

/** What is used of a page of the `tiff` package. */
interface Page {
  readonly width: number;
  readonly height: number;
  readonly data: ArrayLike<number>;
  readonly type: number;
  readonly bitsPerSample: number;
  readonly samplesPerPixel: number;
  readonly compression: number;
  readonly palette: readonly (readonly [number, number, number])[] | undefined;
  readonly sampleFormat: number;
  readonly get: (tag: string) => unknown;
}

const PHOTOMETRIC = { whiteIsZero: 0, blackIsZero: 1, rgb: 2, palette: 3, cmyk: 5 } as const;
const NO_COMPRESSION = 1;
const READ_COMPRESSIONS = [NO_COMPRESSION, 5, 8, 32946];

/** Bytes of a value of each type of a directory's entries (TIFF 6.0, section 2). */
const TYPE_BYTES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];

/** Tags of one value: with a list in its place the decoder does not end. */
const SINGLE = [256, 257, 259, 262, 266, 274, 277, 278, 284, 317];

/** Refuses entries of the first directory that claim more values than the file has: the decoder would make a list of them. */
function checkDirectory(bytes: Uint8Array): void {
  const [u16, u32] = bytes[0] === 0x49 ? [u16le, u32le] : [u16be, u32be];
  const start = u32(bytes, 4);
  const count = u16(bytes, start);
  if (start + 2 + 12 * count > bytes.length) throw fault('tiff-data', 'the directory runs past the end of the file', 4);
  for (let at = start + 2; at < start + 2 + 12 * count; at += 12) {
    const [tag, values] = [u16(bytes, at), u32(bytes, at + 4)];
    if (SINGLE.includes(tag) && values !== 1) throw fault('tiff-data', `tag ${tag} has ${values} values, not 1`, at);
    const size = (TYPE_BYTES[u16(bytes, at + 2)] ?? 1) * values;
    if (size > 4 && u32(bytes, at + 8) + size > bytes.length) {
      throw fault('tiff-data', `tag ${tag} runs past the end of the file`, at);
    }
  }
}

/** A copy of a file with other values for tags of the first directory, which have one 16-bit value each. */
function withTags(bytes: Uint8Array, values: ReadonlyMap<number, number>): Uint8Array {
  const copy = new Uint8Array(bytes); // not `slice`, which makes no copy of a Node Buffer
  const view = new DataView(copy.buffer);
  const little = copy[0] === 0x49;
  const start = view.getUint32(4, little);
  for (let at = start + 2; at < start + 2 + 12 * view.getUint16(start, little); at += 12) {
    const value = values.get(view.getUint16(at, little));
    if (value !== undefined) view.setUint16(at + 8, value, little);
  }
  return copy;
}

const TAG = { photometric: 262, orientation: 274 } as const;

async function firstPage(bytes: Uint8Array, ignoreImageData: boolean): Promise<Page> {
  checkDirectory(bytes);
  const { decode } = await import('tiff');
  try {
    const [page] = decode(bytes, { ignoreImageData, pages: [0] });
    if (!page) throw fault('tiff-data', 'the file has no page', 0);
    return page as unknown as Page;
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    const detail = cause instanceof Error ? cause.message : 'the decoder failed';
    throw new ImageError({ code: 'tiff-data', detail, cause, unsupported: /unsupported|not supported/i.test(detail) });
  }
}

/** Size and orientation of the first page, from its directory. */
export async function readTiff(bytes: Uint8Array, maxPixels: number) {
  const page = await firstPage(bytes, true);
  const { width, height } = page;
  checkPixels(width, height, maxPixels);
  const turn = page.get('Orientation');
  const orientation = (typeof turn === 'number' && turn >= 1 && turn <= 8 ? turn : 1) as Orientation;
  return { width, height, orientation, page };
}

/**
 * Decodes the first page of a TIFF (uncompressed, LZW, Deflate; gray, RGB, palette or CMYK of 8 bits, gray and RGB of 16, gray of 1) to RGB as
 * Pillow does: alpha is dropped, 16-bit RGB keeps its high byte, 16-bit gray is clipped at 255.
 * @throws ImageError, `unsupported` for all other kinds.
 */
export async function decodeTiff(
  bytes: Uint8Array,
  maxPixels: number,
): Promise<{ image: RawImage; orientation: Orientation }> {
  const { width, height, orientation, page: header } = await readTiff(bytes, maxPixels);
  const { type, bitsPerSample: bits = 1, samplesPerPixel: samples, compression } = header;
  if (!READ_COMPRESSIONS.includes(compression))
    throw unsupported('tiff-compression', `compression ${compression} is not supported`);
  const kind = Object.entries(PHOTOMETRIC).find(([, value]) => value === type)?.[0];
  const isGray = type === PHOTOMETRIC.whiteIsZero || type === PHOTOMETRIC.blackIsZero;
  const channels = type === PHOTOMETRIC.rgb ? 3 : type === PHOTOMETRIC.cmyk ? 4 : 1;
  const depthIsRead =
    (bits === 1 && isGray && samples === 1 && (header.bitsPerSample === 1 || compression === NO_COMPRESSION)) ||
    bits === 8 ||
    (bits === 16 && (type === PHOTOMETRIC.blackIsZero || type === PHOTOMETRIC.rgb));
  const planar = header.get('PlanarConfiguration');
  const premultiplied = header.get('ExtraSamples');
  // the decoder reads one sample of each pixel of a tile, and takes rows of tiles for rows of the image
  const tiled = header.get('TileOffsets') !== undefined && (samples > 1 || (header.get('Predictor') ?? 1) !== 1);
  if (tiled) throw unsupported('tiff-kind', 'tiles of several samples, or of differences, are not supported');
  const odd = header.sampleFormat !== 1 || samples < channels || (planar !== undefined && planar !== 1 && samples > 1);
  if (!kind || !depthIsRead || odd || samples > channels + 1) {
    throw unsupported(
      'tiff-kind',
      `${bits}-bit ${kind ?? `photometric ${type}`} of ${samples} samples is not supported`,
    );
  }
  const extra = Array.isArray(premultiplied) ? premultiplied[0] : premultiplied;
  if (samples > channels && extra === 1) throw unsupported('tiff-kind', 'premultiplied alpha is not supported');
  // the decoder reads neither other orientations, which are applied later, nor CMYK, whose samples are like those of RGB
  const edits = new Map<number, number>();
  if (orientation !== 1) edits.set(TAG.orientation, 1);
  if (type === PHOTOMETRIC.cmyk) edits.set(TAG.photometric, PHOTOMETRIC.rgb);
  const page = await firstPage(edits.size > 0 ? withTags(bytes, edits) : bytes, header.bitsPerSample === undefined);
  const source = header.bitsPerSample === undefined ? plainBits(bytes, header) : page.data;
  if (source.length < width * height * samples) throw fault('tiff-data', 'fewer pixels than the header says');
  const data = allocate(Uint8Array, width * height * 3);
  const { palette } = page;
  if (type === PHOTOMETRIC.palette && !palette) throw fault('tiff-data', 'a palette image without a palette');
  for (let i = 0, from = 0, to = 0; i < width * height; i++, from += samples, to += 3) {
    for (let c = 0; c < 3; c++) {
      const value = source[from + (channels === 1 ? 0 : c)]!;
      if (palette && type === PHOTOMETRIC.palette) data[to + c] = palette[value]![c]! >> 8;
      else if (type === PHOTOMETRIC.cmyk) data[to + c] = inked(value, source[from + 3]!);
      else if (bits === 1) data[to + c] = value * 255;
      else if (bits === 16) data[to + c] = isGray ? Math.min(255, value) : value >> 8;
      else data[to + c] = value;
    }
  }
  return { image: { data, width, height }, orientation };
}

/** The pixels of an uncompressed file of one bit each that does not say so (the default of BitsPerSample, which the decoder does not know). */
function plainBits(bytes: Uint8Array, page: Page): Uint8Array {
  const { width, height, type } = page;
  const stride = Math.ceil(width / 8);
  const offsets = [page.get('StripOffsets') ?? []].flat() as number[];
  const rows = Number(page.get('RowsPerStrip') ?? height);
  const pixels = allocate(Uint8Array, width * height);
  for (let y = 0; y < height; y++) {
    const row = (offsets[Math.floor(y / rows)] ?? bytes.length) + (y % rows) * stride;
    if (row + stride > bytes.length) throw fault('tiff-data', 'fewer pixels than the header says', row);
    for (let x = 0; x < width; x++) {
      const bit = (bytes[row + (x >> 3)]! >> (7 - (x & 7))) & 1;
      pixels[y * width + x] = type === PHOTOMETRIC.whiteIsZero ? 1 - bit : bit;
    }
  }
  return pixels;
}

/** Pillow's CMYK to RGB: light (255 - K) less the ink's share of it. */
function inked(ink: number, black: number): number {
  const light = 255 - black;
  const product = ink * light + 128;
  return Math.max(0, light - ((product + (product >> 8)) >> 8));
}
