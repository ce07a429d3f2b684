import { ImageError } from '../errors.js';
import { runInSlices } from '../event-loop.js';
import { exifOrientation, type Orientation, orientationOf } from './exif.js';
import { join, latin1, u16be, u32be } from './image-file.js';
import type { RgbImage } from './raw-image.js';
import { allocate, checkPixels, fault } from './raw-image.js';
import { startWasm, withImageData } from './webp.js';

/** Bytes in which the item properties of an AVIF file are looked for. */
const HEADER = 1 << 16;

/** Most bytes of EXIF or XMP that are looked at. */
const MAX_METADATA = 1 << 20;

/** What the boxes of an AVIF file say about its image. */
export interface AvifFile {
  /** As stored, before its orientation is applied. */
  readonly width: number;
  readonly height: number;
  /** Of its `irot` and `imir`, or of its XMP where these and its EXIF say nothing, as Pillow has it; EXIF's own is not followed. */
  readonly orientation: Orientation;
  /** More than 1 in a sequence (brand `avis`). */
  readonly frames: number;
  /** Whether a chroma sample stands for two pixels of a row. */
  readonly halfChroma: boolean;
  /** The matrix coefficients of ITU-T H.273, as the file's `nclx` says; 2 where it says nothing. */
  readonly matrix: number;
}

interface Box {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

/** The boxes from `start` to `end`; a broken length ends the list. */
function boxes(bytes: Uint8Array, start: number, end: number): Box[] {
  const found: Box[] = [];
  for (let at = start; at + 8 <= end; ) {
    const length = u32be(bytes, at) || end - at;
    if (length < 8 || at + length > end) break;
    found.push({ type: latin1(bytes, at + 4, 4), start: at + 8, end: at + length });
    at += length;
  }
  return found;
}

const named = (list: readonly Box[], type: string): Box | undefined => list.find((box) => box.type === type);

/** The numbers, from 1, of the properties that `ipma` gives an item (ISO/IEC 23008-12, 9.3.1). */
function propertiesOf(bytes: Uint8Array, ipma: Box, item: number): Set<number> {
  const [long, wide] = [bytes[ipma.start]! > 0, (bytes[ipma.start + 3]! & 1) > 0];
  const found = new Set<number>();
  for (let at = ipma.start + 8; at < ipma.end; ) {
    const id = long ? u32be(bytes, at) : u16be(bytes, at);
    at += long ? 4 : 2;
    const count = bytes[at++] ?? 0;
    for (let i = 0; i < count; i++, at += wide ? 2 : 1) {
      if (id === item) found.add(wide ? u16be(bytes, at) & 0x7fff : (bytes[at] ?? 0) & 0x7f);
    }
  }
  return found;
}

/** EXIF's number for a rotation counterclockwise by `angle` quarters, then a mirroring, as libavif's users have it. */
function orientationFor(angle: number, mirror: number | undefined): Orientation {
  if (mirror === undefined) return ([1, 8, 3, 6] as const)[angle & 3]!;
  return mirror === 0 ? ([4, 5, 2, 7] as const)[angle & 3]! : ([2, 7, 4, 5] as const)[angle & 3]!;
}

/** A number of `size` bytes, at most 8; what is above 2^53 is past the end of any file. */
function unsigned(bytes: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let i = 0; i < size; i++) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}

/** What an item is: EXIF, XMP, AV1 or something else (ISO/IEC 14496-12, 8.11.6). */
function itemTypes(bytes: Uint8Array, iinf: Box): Map<number, string> {
  const types = new Map<number, string>();
  for (const { type, start, end } of boxes(bytes, iinf.start + (bytes[iinf.start] ? 8 : 6), iinf.end)) {
    const version = bytes[start]!;
    if (type !== 'infe' || version < 2) continue;
    const at = start + (version === 2 ? 6 : 8);
    const what = latin1(bytes, at + 2, end - at - 2);
    const isXmp = /^mime[^\0]*\0application\/rdf\+xml\0/.test(what);
    types.set(unsigned(bytes, start + 4, at - start - 4), isXmp ? 'xmp' : what.slice(0, 4));
  }
  return types;
}

/** The bytes of each item, in pieces, of those that lie in the file as they are (8.11.3). */
function* itemData(bytes: Uint8Array, items: readonly Box[]): Generator<{ type: string; pieces: Uint8Array[] }> {
  const [iinf, iloc, idat] = [named(items, 'iinf'), named(items, 'iloc'), named(items, 'idat')];
  if (!iinf || !iloc) return;
  const types = itemTypes(bytes, iinf);
  const version = bytes[iloc.start]!;
  const [sizes, more] = [bytes[iloc.start + 4]!, bytes[iloc.start + 5]!];
  const idBytes = version < 2 ? 2 : 4;
  let at = iloc.start + 6;
  const next = (size: number): number => {
    at += size;
    return unsigned(bytes, at - size, size);
  };
  for (let count = next(idBytes); count > 0 && at < iloc.end; count--) {
    const type = types.get(next(idBytes));
    const method = version > 0 ? next(2) & 15 : 0;
    next(2);
    const base = next(more >> 4) + (method === 1 ? (idat?.start ?? 0) : 0);
    const pieces: Uint8Array[] = [];
    const extents = next(2);
    const isStated = sizes > 0 || (version > 0 && (more & 15) > 0); // else they take no bytes here, and have none there
    for (let i = 0; isStated && i < extents && at < iloc.end; i++) {
      if (version > 0) next(more & 15);
      const offset = base + next(sizes >> 4);
      pieces.push(bytes.subarray(offset, offset + next(sizes & 15)));
    }
    if (type !== undefined && method < 2) yield { type, pieces };
  }
}

const lengthOf = (pieces: readonly Uint8Array[]): number => pieces.reduce((sum, piece) => sum + piece.length, 0);

/** The EXIF and XMP of a file. */
function metadataOf(bytes: Uint8Array, items: readonly Box[]): { exif?: Uint8Array; xmp?: Uint8Array } {
  const found: { exif?: Uint8Array; xmp?: Uint8Array } = {};
  for (const { type, pieces } of itemData(bytes, items)) {
    const kind = type === 'Exif' ? 'exif' : type === 'xmp' ? 'xmp' : undefined;
    if (kind !== undefined && lengthOf(pieces) <= MAX_METADATA) found[kind] = join(pieces);
  }
  return found;
}

/**
 * Pixels that AV1 data codes: the largest size that its sequence headers allow, which libaom holds frames to, for each frame, shown or not
 * (AV1 specification, 5.3 and 5.9).
 */
function codedPixels(data: Uint8Array): number {
  let [size, pixels] = [0, 0];
  for (let at = 0; at < data.length; ) {
    const header = data[at]!;
    at += header & 4 ? 2 : 1;
    let length = data.length - at;
    if (header & 2) {
      length = 0;
      for (let i = 0; i < 8; i++) {
        const byte = data[at++] ?? 0;
        length += (byte & 127) * 128 ** i;
        if (byte < 128) break;
      }
    }
    const type = (header >> 3) & 15;
    if (type === 1) size = Math.max(size, sequencePixels(data.subarray(at, at + length)));
    if (type === 3 || type === 6) pixels += size;
    at += length;
  }
  return pixels;
}

/** The most pixels of a frame: the beginning of a sequence header (5.5.1), read up to there. */
function sequencePixels(data: Uint8Array): number {
  let at = 0;
  const next = (count: number): number => {
    let value = 0;
    for (const end = at + count; at < end; at++) value = value * 2 + (((data[at >> 3] ?? 0) >> (7 - (at & 7))) & 1);
    return value;
  };
  next(4); // profile, still picture
  if (next(1) === 1) next(5);
  else {
    let delayBits = 0;
    if (next(1) === 1) {
      next(64);
      if (next(1) === 1) {
        let zeros = 0;
        while (zeros < 32 && next(1) === 0) zeros++;
        next(zeros);
      }
      if (next(1) === 1) {
        delayBits = next(5) + 1;
        next(42);
      }
    }
    const hasDelay = next(1) === 1;
    for (let points = next(5); points >= 0; points--) {
      next(12);
      if (next(5) > 7) next(1);
      if (delayBits > 0 && next(1) === 1) next(2 * delayBits + 1);
      if (hasDelay && next(1) === 1) next(4);
    }
  }
  const [widthBits, heightBits] = [next(4) + 1, next(4) + 1];
  return (next(widthBits) + 1) * (next(heightBits) + 1);
}

/** An image may have alpha, thumbnails and layers beside it: so many times the limit may be coded in all. */
const MOST_CODED = 4;

/** Refuses a file whose AV1 data code more than its boxes say. Every byte is looked at once. */
function checkCoded(bytes: Uint8Array, items: readonly Box[], maxPixels: number): void {
  let [pixels, length] = [0, 0];
  const add = (pieces: readonly Uint8Array[]): void => {
    length += lengthOf(pieces);
    if (length > 2 * bytes.length) throw fault('avif-data', 'items that overlap');
    pixels += codedPixels(pieces.length === 1 ? pieces[0]! : join(pieces));
    if (pixels > MOST_CODED * maxPixels) {
      const detail = `its data code ${(pixels / 1e6).toFixed(1)} megapixels and more; the limit (maxPixels) is ${maxPixels / 1e6}`;
      throw fault('image-too-large', detail);
    }
  };
  for (const { type, pieces } of itemData(bytes, items)) if (type === 'av01' && pieces.length > 0) add(pieces);
  for (const tables of sampleTables(bytes)) {
    const [stsz, stco, co64] = [named(tables, 'stsz'), named(tables, 'stco'), named(tables, 'co64')];
    if (!stsz || !(stco ?? co64)) continue;
    const first = stco ? u32be(bytes, stco.start + 8) : unsigned(bytes, co64!.start + 8, 8);
    const size = u32be(bytes, stsz.start + 4) || u32be(bytes, stsz.start + 12);
    add([bytes.subarray(first, first + size)]); // what is decoded of a sequence
  }
}

/** As Pillow: what the properties say, else 1 where EXIF says anything, else what XMP says. */
function storedOrientation(bytes: Uint8Array, items: readonly Box[], properties: Orientation): Orientation {
  if (properties !== 1) return properties;
  const { exif, xmp } = metadataOf(bytes, items);
  const tiff = exif?.subarray(4 + u32be(exif, 0));
  return tiff && exifOrientation(tiff) !== undefined ? 1 : orientationOf(undefined, xmp);
}

/** The boxes about the samples of each track; `handler`: of such tracks only. */
function sampleTables(bytes: Uint8Array, handler?: string): Box[][] {
  const inside = ({ start, end }: Box, type: string) => boxes(bytes, start, end).filter((box) => box.type === type);
  const isWanted = (media: Box): boolean =>
    handler === undefined || inside(media, 'hdlr').some(({ start }) => latin1(bytes, start + 8, 4) === handler);
  return boxes(bytes, 0, bytes.length)
    .filter(({ type }) => type === 'moov')
    .flatMap((moov) => inside(moov, 'trak'))
    .flatMap((track) => inside(track, 'mdia'))
    .filter(isWanted)
    .flatMap((media) => inside(media, 'minf'))
    .flatMap((box) => inside(box, 'stbl'))
    .map(({ start, end }) => boxes(bytes, start, end));
}

/** Samples of the track of pictures of a sequence. */
function framesOf(bytes: Uint8Array): number {
  if (latin1(bytes, 8, 4) !== 'avis') return 1;
  const [stsz] = sampleTables(bytes, 'pict').flatMap((tables) => named(tables, 'stsz') ?? []);
  return stsz ? Math.max(1, u32be(bytes, stsz.start + 8)) : 1;
}

/** Reads the boxes. @throws ImageError where they give no size, a larger one than `maxPixels`, or data that code more. */
export function readAvif(bytes: Uint8Array, maxPixels: number): AvifFile {
  const text = latin1(bytes, 0, HEADER);
  let [width, height] = [0, 0];
  for (let at = text.indexOf('ispe'); at >= 0; at = text.indexOf('ispe', at + 4)) {
    const [w, h] = [u32be(bytes, at + 8), u32be(bytes, at + 12)];
    checkPixels(w, h, maxPixels, at);
    if (w * h > width * height) [width, height] = [w, h];
  }
  if (width === 0) throw fault('avif-data', 'the file does not say the size of its image', 0);
  const meta = named(boxes(bytes, 0, bytes.length), 'meta');
  const items = meta ? boxes(bytes, meta.start + 4, meta.end) : [];
  checkCoded(bytes, items, maxPixels);
  const [pitm, iprp] = [named(items, 'pitm'), named(items, 'iprp')];
  const parts = iprp ? boxes(bytes, iprp.start, iprp.end) : [];
  const [ipco, ipma] = [named(parts, 'ipco'), named(parts, 'ipma')];
  const all = ipco ? boxes(bytes, ipco.start, ipco.end) : [];
  const item = pitm ? (bytes[pitm.start]! > 0 ? u32be(bytes, pitm.start + 4) : u16be(bytes, pitm.start + 4)) : 0;
  const numbers = ipma ? propertiesOf(bytes, ipma, item) : new Set<number>();
  const own = all.filter((_, i) => numbers.has(i + 1));
  const [irot, imir] = [named(own, 'irot'), named(own, 'imir')];
  const av1C = named(own, 'av1C') ?? named(all, 'av1C'); // the tiles of a grid have it
  const nclx = own.find(({ type, start }) => type === 'colr' && latin1(bytes, start, 4) === 'nclx');
  const chroma = av1C ? bytes[av1C.start + 2]! : 0;
  return {
    ...{ width, height },
    frames: framesOf(bytes),
    orientation: storedOrientation(
      bytes,
      items,
      orientationFor(irot ? bytes[irot.start]! : 0, imir && bytes[imir.start]! & 1),
    ),
    halfChroma: (chroma & 0x18) === 0x08, // subsampled in x, not monochrome
    matrix: nclx ? u16be(bytes, nclx.start + 8) : 2,
  };
}

interface Codec {
  readonly decode: (
    bytes: Uint8Array,
    bitDepth: number,
  ) => { data: ArrayLike<number>; width: number; height: number } | null;
}

/** The parts of red and blue in luma (H.273, table 4). */
const LUMA: Readonly<Record<number, readonly [number, number]>> = {
  ...{ 1: [0.2126, 0.0722], 2: [0.299, 0.114], 4: [0.3, 0.11], 5: [0.299, 0.114], 6: [0.299, 0.114] },
  ...{ 7: [0.212, 0.087], 9: [0.2627, 0.0593] },
};

/**
 * Decodes an AVIF to RGB (the first frame of a sequence) with libavif, in a WebAssembly instance that is used once. The samples are those
 * of every AV1 decoder; their colors are within 2 levels of Pillow's (3 for 10 and 12 bits), which rounds as libyuv.
 * @throws ImageError for a broken file.
 */
export async function decodeAvif(
  bytes: Uint8Array,
  file: AvifFile,
  { maxPixels, signal }: { maxPixels: number; signal: AbortSignal | undefined },
): Promise<RgbImage> {
  checkPixels(file.width, file.height, maxPixels, 0);
  const codec = await startWasm<Codec>(
    'avif',
    async () => (await import('@jsquash/avif/codec/dec/avif_dec.js')).default as never,
  );
  signal?.throwIfAborted();
  const luma = file.halfChroma && file.width % 2 === 1 ? LUMA[file.matrix] : undefined;
  const depth = luma ? 16 : 8;
  let rgba: ReturnType<Codec['decode']>;
  try {
    rgba = withImageData(() => codec.decode(bytes, depth));
  } catch (cause) {
    throw new ImageError({ code: 'avif-data', detail: 'the decoder failed', cause });
  }
  if (!rgba || rgba.width < 1 || rgba.height < 1) throw fault('avif-data', 'broken image data');
  const { width, height } = rgba;
  const data = await runInSlices(toBytes(rgba.data, width * height, depth), signal);
  if (luma && width > 2 && width % 2 === 1) lastColumn(rgba.data, data, width, luma);
  return { data, width, height };
}

/** Pixels between two yields: some milliseconds. */
const STEP = 1 << 20;

/** RGBA samples of 8 or 16 bits as RGB bytes. */
function* toBytes(rgba: ArrayLike<number>, pixels: number, depth: number): Generator<void, Uint8Array> {
  const data = allocate(Uint8Array, pixels * 3);
  for (let from = 0; from < pixels; from += STEP) {
    if (from > 0) yield;
    pixelsToBytes(rgba, data, from, Math.min(from + STEP, pixels), depth === 16 ? 255 / 65535 : 1);
  }
  return data;
}

function pixelsToBytes(rgba: ArrayLike<number>, data: Uint8Array, first: number, end: number, scale: number): void {
  for (let from = first * 4, to = first * 3; from < end * 4; from += 4) {
    for (let c = 0; c < 3; c++) data[to++] = rgba[from + c]! * scale + 0.5;
  }
}

/**
 * libavif blends the last chroma sample of a row of odd width with the one before it, 3 to 1; libyuv, which Pillow uses, takes it alone.
 * This takes the blend apart again, from the last two pixels of 16 bits. Where a color was cut to what can be shown it stays.
 */
function lastColumn(rgba: ArrayLike<number>, data: Uint8Array, width: number, [red, blue]: readonly [number, number]) {
  for (let at = width - 1; at * 3 < data.length; at += width) {
    const here = [rgba[at * 4]!, rgba[at * 4 + 1]!, rgba[at * 4 + 2]!] as const;
    const before = [rgba[at * 4 - 4]!, rgba[at * 4 - 3]!, rgba[at * 4 - 2]!] as const;
    if ([...here, ...before].some((value) => value === 0 || value === 65535)) continue;
    const lumaOf = ([r, g, b]: readonly [number, number, number]) => red * r + (1 - red - blue) * g + blue * b;
    const [y, yBefore] = [lumaOf(here), lumaOf(before)];
    for (let c = 0; c < 3; c++) {
      const value = y + 1.5 * (here[c]! - y) - 0.5 * (before[c]! - yBefore);
      data[at * 3 + c] = Math.max(0, Math.min(255, (value * 255) / 65535 + 0.5));
    }
  }
}
