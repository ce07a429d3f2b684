import { addFacts, allocate, fault, type RgbImage } from '../raw-image.js';
import { type PngFile, type PngFrame, type PngHeader, pngChannels } from './chunks.js';
import { inflateZlib } from './inflate.js';

/** An image of a part of the pixels: everything, or one of Adam7's seven. */
interface Pass {
  readonly x: number;
  readonly y: number;
  readonly stepX: number;
  readonly stepY: number;
  readonly width: number;
  readonly height: number;
}

const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

function passes(header: PngHeader): Pass[] {
  const { width, height, interlaced } = header;
  if (!interlaced) return [{ x: 0, y: 0, stepX: 1, stepY: 1, width, height }];
  return ADAM7.map(([x, y, stepX, stepY]) => ({
    ...{ x, y, stepX, stepY },
    width: Math.ceil((width - x) / stepX),
    height: Math.ceil((height - y) / stepY),
  })).filter((pass) => pass.width > 0 && pass.height > 0);
}

/** Two rows are kept beside the image: this bounds them. */
const MAX_ROW_BYTES = 1 << 25;

/** Deflate cannot shrink data more than this: a claim beyond it is refused before the pixels are allocated. */
const MOST_DEFLATE_GAINS = 1032;

/** Blocks of the compressed data that any image may have, and for each row: encoders that flush write two a row. */
const FREE_BLOCKS = 64;
const BLOCKS_A_ROW = 4;
/** An encoder that never flushes writes a block for some ten thousand bytes. */
const BYTES_A_BLOCK = 256;
/** Compressed bytes that are fed beyond the size of the pixels: stored blocks and flushes cost a little. */
const FREE_BYTES = 1 << 16;

/** The pixels of an image or a frame. */
interface Pixels extends RgbImage {
  /** uint8 [height, width], where it was asked for. */
  readonly alpha: Uint8Array | undefined;
}

/**
 * Decodes a checked PNG, as Pillow's `Image.open(f).convert("RGB")`. Rows are inflated, undone and converted as they come: beside the
 * RGB bytes the memory is that of two rows and a window of 288 KiB. Yields after each piece of work. Damage behind the last row is
 * added to `warnings`.
 * @throws ImageError for broken compressed data, too few pixels, or an unknown filter.
 */
export function* decodePng(file: PngFile, warnings: Set<string>): Generator<undefined, RgbImage> {
  const { data, width, height } = yield* decodePixels(file, file.header, file.idat, file.dataOffset, false, warnings);
  if (file.damage) warnings.add(`damage behind the last row: ${file.damage.detail}`);
  return { data, width, height };
}

function* decodePixels(
  file: PngFile,
  header: PngHeader,
  idat: readonly Uint8Array[],
  offset: number,
  withAlpha: boolean,
  warnings: Set<string>,
): Generator<undefined, Pixels> {
  const bitsPerPixel = pngChannels(header) * header.bitDepth;
  const rowBytes = (width: number) => Math.ceil((width * bitsPerPixel) / 8);
  if (rowBytes(header.width) > MAX_ROW_BYTES) {
    throw fault('image-too-large', `a row of ${rowBytes(header.width)} bytes; at most ${MAX_ROW_BYTES} are read`, 16);
  }
  const all = passes(header);
  const rowCount = all.reduce((sum, pass) => sum + pass.height, 0);
  const expected = all.reduce((sum, pass) => sum + pass.height * (1 + rowBytes(pass.width)), 0);
  const given = idat.reduce((sum, piece) => sum + piece.length, 0);
  if (expected > (given + 16) * MOST_DEFLATE_GAINS) {
    throw fault('png-truncated', `${given} compressed bytes cannot hold the ${expected} bytes of pixels`, offset);
  }
  const mostBytes = FREE_BYTES + 2 * expected + 16 * rowCount;
  const { width, height } = header;
  const image = {
    ...{ data: allocate(Uint8Array, width * height * 3), width, height },
    alpha: withAlpha ? allocate(Uint8Array, width * height) : undefined,
  };
  const toAlpha = withAlpha ? rowToAlpha(header, file.trns) : undefined;
  const rows = rowReader(all, rowBytes, Math.max(1, bitsPerPixel >> 3), image, rowToRgb(header, file.palette), toAlpha);
  const blocks = FREE_BLOCKS + BLOCKS_A_ROW * rowCount + Math.ceil(expected / BYTES_A_BLOCK);
  try {
    const end = yield* inflateZlib(firstBytes(idat, mostBytes), { limit: expected, blocks }, rows.write);
    if (end === 'unproved') warnings.add('damage behind the last row: the checksum of the pixels is missing');
    if (end === 'longer') warnings.add('more pixels than the header says');
    // no cut file, but a chunk of a wrong length: there is more than the pixels
    if (file.cut && end !== 'unproved') throw file.damage;
  } catch (error) {
    throw file.damage ?? addFacts(error, { offset });
  }
  if (!rows.complete()) throw file.damage ?? fault('png-truncated', 'fewer pixels than the header says', offset);
  return image;
}

/** The first `most` bytes of some pieces. */
function firstBytes(pieces: readonly Uint8Array[], most: number): Uint8Array[] {
  const kept: Uint8Array[] = [];
  for (let i = 0, left = most; i < pieces.length && left > 0; i++) {
    kept.push(pieces[i]!.subarray(0, left));
    left -= pieces[i]!.length;
  }
  return kept;
}

/**
 * All frames of an APNG, as Pillow shows them (`seek(i)`, `convert("RGB")`): the default image is the first also where it is not part
 * of the animation. `maxPixels` counts the pixels of all frames.
 */
export function* decodePngFrames(
  file: PngFile,
  maxPixels: number,
  warnings: Set<string>,
): Generator<undefined, RgbImage[]> {
  const { width, height } = file.header;
  const frames = file.frames.filter(({ data }) => data.length > 0);
  if (frames.length === 0) return [yield* decodePng(file, warnings)];
  if (width * height * (frames.length + 1) > maxPixels) {
    const detail = `${frames.length + 1} frames of ${width} by ${height} pixels; the limit (maxPixels) is ${maxPixels}`;
    throw fault('image-too-large', detail);
  }
  const first = yield* decodePng(file, warnings);
  const whole = { left: 0, top: 0, width, height, disposal: 0, blends: false };
  const images = [first];
  let canvas = { ...first, data: first.data.slice() };
  let before = file.animated ?? whole;
  let saved: Uint8Array | undefined;
  for (const frame of frames) {
    // without anything before it, a frame that is to be undone leaves nothing
    const cleared = before.disposal === 1 || (before.disposal === 2 && !saved);
    if (cleared) placeRectangle(canvas, before);
    else if (before.disposal === 2) canvas = { ...canvas, data: saved!.slice() };
    saved = canvas.data.slice();
    const header = { ...file.header, width: frame.width, height: frame.height };
    const pixels = yield* decodePixels(file, header, frame.data, frame.offset, frame.blends, warnings);
    placeRectangle(canvas, frame, pixels);
    images.push({ ...canvas, data: canvas.data.slice() });
    before = frame;
  }
  return images;
}

/** Puts a frame's pixels on the image, blended by their alpha as Pillow rounds it, or black without pixels. */
function placeRectangle(
  canvas: RgbImage,
  { left, top, width, height }: Omit<PngFrame, 'data' | 'offset'>,
  pixels?: Pixels,
): void {
  for (let y = 0; y < height; y++) {
    const at = ((top + y) * canvas.width + left) * 3;
    if (!pixels) canvas.data.fill(0, at, at + width * 3);
    else if (!pixels.alpha) canvas.data.set(pixels.data.subarray(y * width * 3, (y + 1) * width * 3), at);
    else {
      for (let i = 0; i < width * 3; i++) {
        const alpha = pixels.alpha[y * width + Math.floor(i / 3)]!;
        const sum = pixels.data[y * width * 3 + i]! * alpha + canvas.data[at + i]! * (255 - alpha) + 128;
        canvas.data[at + i] = (sum + (sum >> 8)) >> 8;
      }
    }
  }
}

/** Takes the inflated bytes in any pieces, cuts them into rows, and puts each finished row into the image. */
function rowReader(
  all: readonly Pass[],
  rowBytes: (width: number) => number,
  step: number,
  image: Pixels,
  toRgb: RowToRgb,
  toAlpha: RowToAlpha | undefined,
): { write: (bytes: Uint8Array) => void; complete: () => boolean } {
  let [index, y, filled, filter] = [0, 0, 0, -1];
  let row = new Uint8Array(rowBytes(all[0]!.width));
  let above = new Uint8Array(row.length);
  const finishRow = () => {
    const pass = all[index]!;
    unfilter(filter, row, above, step);
    placeRow(row, pass, y, image, toRgb);
    if (toAlpha) placeAlpha(row, pass, y, image, toAlpha);
    [row, above, filled, filter] = [above, row, 0, -1];
    if (++y < pass.height) return;
    y = 0;
    if (++index === all.length) return;
    row = new Uint8Array(rowBytes(all[index]!.width));
    above = new Uint8Array(row.length);
  };
  return {
    complete: () => index === all.length,
    write(bytes) {
      for (let from = 0; from < bytes.length && index < all.length; ) {
        if (filter < 0) filter = bytes[from++]!;
        const count = Math.min(row.length - filled, bytes.length - from);
        row.set(bytes.subarray(from, from + count), filled);
        from += count;
        filled += count;
        if (filled === row.length) finishRow();
      }
    },
  };
}

function placeRow(row: Uint8Array, pass: Pass, y: number, image: RgbImage, toRgb: RowToRgb): void {
  const start = ((pass.y + y * pass.stepY) * image.width + pass.x) * 3;
  if (pass.stepX === 1) {
    toRgb(row, pass.width, image.data, start);
    return;
  }
  const rgb = new Uint8Array(pass.width * 3);
  toRgb(row, pass.width, rgb, 0);
  for (let from = 0, to = start; from < rgb.length; from += 3, to += pass.stepX * 3) {
    image.data[to] = rgb[from]!;
    image.data[to + 1] = rgb[from + 1]!;
    image.data[to + 2] = rgb[from + 2]!;
  }
}

function placeAlpha(row: Uint8Array, pass: Pass, y: number, { alpha, width }: Pixels, toAlpha: RowToAlpha): void {
  const line = new Uint8Array(pass.width);
  toAlpha(row, pass.width, line, 0);
  const start = (pass.y + y * pass.stepY) * width + pass.x;
  for (let x = 0; x < line.length; x++) alpha![start + x * pass.stepX] = line[x]!;
}

/** Writes the RGB bytes of one row of `width` pixels to `rgb` at `at`. */
export type RowToRgb = (row: Uint8Array, width: number, rgb: Uint8Array, at: number) => void;

/**
 * How a row of this kind of PNG becomes RGB. Pillow's rules, which are not the specification's: alpha and tRNS are dropped, never
 * blended; 16-bit samples keep their high byte, except plain gray, which Pillow opens as integers and clips at 255; palette
 * indices past the palette are black.
 */
export function rowToRgb(header: PngHeader, palette: Uint8Array): RowToRgb {
  const { bitDepth, colorType } = header;
  if (colorType === 3) return fromTable(bitDepth, paddedPalette(palette));
  if (colorType === 0 && bitDepth === 16) return clippedGray;
  if (colorType === 0) return fromTable(bitDepth, grayRamp(bitDepth));
  const bytes = bitDepth / 8;
  if (colorType === 4) return (row, width, rgb, at) => spread(row, width, rgb, at, 2 * bytes, 0);
  if (colorType === 2 && bytes === 1) return (row, width, rgb, at) => rgb.set(row.subarray(0, width * 3), at);
  return (row, width, rgb, at) => spread(row, width, rgb, at, (colorType === 2 ? 3 : 4) * bytes, bytes);
}

function paddedPalette(palette: Uint8Array): Uint8Array {
  const table = new Uint8Array(768);
  table.set(palette);
  return table;
}

function grayRamp(bitDepth: number): Uint8Array {
  const levels = (1 << bitDepth) - 1;
  return Uint8Array.from({ length: 3 * (levels + 1) }, (_, i) => (Math.floor(i / 3) * 255) / levels);
}

/** Samples of 1, 2, 4 or 8 bits, most significant first, through a table of RGB triples. */
function fromTable(bitDepth: number, table: Uint8Array): RowToRgb {
  const mask = (1 << bitDepth) - 1;
  return (row, width, rgb, at) => {
    for (let x = 0, to = at; x < width; x++, to += 3) {
      const bit = x * bitDepth;
      const entry = ((row[bit >> 3]! >> (8 - bitDepth - (bit & 7))) & mask) * 3;
      rgb[to] = table[entry]!;
      rgb[to + 1] = table[entry + 1]!;
      rgb[to + 2] = table[entry + 2]!;
    }
  };
}

const clippedGray: RowToRgb = (row, width, rgb, at) => {
  for (let x = 0, to = at; x < width; x++, to += 3) {
    rgb.fill(row[2 * x] === 0 ? row[2 * x + 1]! : 255, to, to + 3);
  }
};

/** Takes bytes 0, `next` and 2 * `next` of every pixel of `step` bytes. */
function spread(row: Uint8Array, width: number, rgb: Uint8Array, at: number, step: number, next: number): void {
  for (let x = 0, from = 0, to = at; x < width; x++, from += step, to += 3) {
    rgb[to] = row[from]!;
    rgb[to + 1] = row[from + next]!;
    rgb[to + 2] = row[from + 2 * next]!;
  }
}

/** Writes the alpha of one row of `width` pixels to `alpha` at `at`. */
export type RowToAlpha = (row: Uint8Array, width: number, alpha: Uint8Array, at: number) => void;

/** The alpha of a row: its own, of the palette, or 0 where the pixel is the transparent color. */
export function rowToAlpha({ bitDepth, colorType }: PngHeader, trns: Uint8Array | undefined): RowToAlpha {
  const step = bitDepth >> 3;
  if (colorType === 4 || colorType === 6) {
    const size = (colorType === 4 ? 2 : 4) * step;
    return (row, width, alpha, at) => {
      for (let x = 0; x < width; x++) alpha[at + x] = row[(x + 1) * size - step]!;
    };
  }
  if (colorType === 3) {
    const mask = (1 << bitDepth) - 1;
    return (row, width, alpha, at) => {
      for (let x = 0; x < width; x++) {
        const bit = x * bitDepth;
        alpha[at + x] = trns?.[(row[bit >> 3]! >> (8 - bitDepth - (bit & 7))) & mask] ?? 255;
      }
    };
  }
  const channels = colorType === 2 ? 3 : 1;
  if (!trns || trns.length < 2 * channels || bitDepth !== 8)
    return (_row, width, alpha, at) => alpha.fill(255, at, at + width);
  return (row, width, alpha, at) => {
    for (let x = 0; x < width; x++) {
      let same = true;
      for (let c = 0; c < channels; c++) same &&= row[x * channels + c] === trns[2 * c + 1];
      alpha[at + x] = same ? 0 : 255;
    }
  };
}

/**
 * Undoes the filter of one row in place (PNG specification, section 9).
 * @param row the filtered bytes, without the filter byte. @param above the row above, already undone; zeros for the first of a pass.
 * @param step bytes of a whole pixel, at least 1.
 */
export function unfilter(filter: number, row: Uint8Array, above: Uint8Array, step: number): void {
  if (filter === 1) sub(row, step);
  else if (filter === 2) up(row, above);
  else if (filter === 3) average(row, above, step);
  else if (filter === 4) paeth(row, above, step);
  else if (filter !== 0) throw fault('png-filter', `filter type ${filter} does not exist`);
}

function sub(row: Uint8Array, step: number): void {
  for (let i = step; i < row.length; i++) row[i] = row[i]! + row[i - step]!;
}

function up(row: Uint8Array, above: Uint8Array): void {
  for (let i = 0; i < row.length; i++) row[i] = row[i]! + above[i]!;
}

function average(row: Uint8Array, above: Uint8Array, step: number): void {
  const first = Math.min(step, row.length);
  for (let i = 0; i < first; i++) row[i] = row[i]! + (above[i]! >> 1);
  for (let i = step; i < row.length; i++) row[i] = row[i]! + ((row[i - step]! + above[i]!) >> 1);
}

function paeth(row: Uint8Array, above: Uint8Array, step: number): void {
  const first = Math.min(step, row.length);
  for (let i = 0; i < first; i++) row[i] = row[i]! + above[i]!; // left and corner are 0, so the predictor is the byte above
  for (let i = step; i < row.length; i++) {
    const left = row[i - step]!;
    const up = above[i]!;
    const corner = above[i - step]!;
    const byLeft = Math.abs(up - corner);
    const byUp = Math.abs(left - corner);
    const byCorner = Math.abs(left + up - corner - corner);
    row[i] = row[i]! + (byLeft <= byUp && byLeft <= byCorner ? left : byUp <= byCorner ? up : corner);
  }
}
