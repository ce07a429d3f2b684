import { addFacts, allocate, fault } from '../fault.js';
import type { RawImage } from '../raw-image.js';
import { type PngFile, type PngHeader, pngChannels } from './chunks.js';
import { inflateZlib } from './inflate.js';
import { type RowToRgb, rowToRgb } from './to-rgb.js';
import { unfilter } from './unfilter.js';

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

/**
 * Decodes a checked PNG, as Pillow's `Image.open(f).convert("RGB")`. Rows are inflated, undone and converted as they come: beside the
 * RGB bytes the memory is that of two rows and a window of 288 KiB.
 * @throws ImageError for broken compressed data, too few pixels, or an unknown filter.
 */
export function decodePng(file: PngFile): RawImage {
  const { header, idat, dataOffset } = file;
  const bitsPerPixel = pngChannels(header) * header.bitDepth;
  const rowBytes = (width: number) => Math.ceil((width * bitsPerPixel) / 8);
  if (rowBytes(header.width) > MAX_ROW_BYTES) {
    throw fault('image-too-large', `a row of ${rowBytes(header.width)} bytes; at most ${MAX_ROW_BYTES} are read`, 16);
  }
  const all = passes(header);
  const expected = all.reduce((sum, pass) => sum + pass.height * (1 + rowBytes(pass.width)), 0);
  const given = idat.reduce((sum, piece) => sum + piece.length, 0);
  if (expected > (given + 16) * MOST_DEFLATE_GAINS) {
    throw fault('png-truncated', `${given} compressed bytes cannot hold the ${expected} bytes of pixels`, dataOffset);
  }
  const image = {
    data: allocate(Uint8Array, header.width * header.height * 3),
    width: header.width,
    height: header.height,
  };
  const rows = rowReader(all, rowBytes, Math.max(1, bitsPerPixel >> 3), image, rowToRgb(header, file.palette));
  try {
    inflateZlib(idat, expected, rows.write);
  } catch (error) {
    throw addFacts(error, { offset: dataOffset });
  }
  if (!rows.complete()) throw fault('png-truncated', 'fewer pixels than the header says', dataOffset);
  return image;
}

/** Takes the inflated bytes in any pieces, cuts them into rows, and puts each finished row into the image. */
function rowReader(
  all: readonly Pass[],
  rowBytes: (width: number) => number,
  step: number,
  image: RawImage,
  toRgb: RowToRgb,
): { write: (bytes: Uint8Array) => void; complete: () => boolean } {
  let [index, y, filled, filter] = [0, 0, 0, -1];
  let row = new Uint8Array(rowBytes(all[0]!.width));
  let above = new Uint8Array(row.length);
  const finishRow = () => {
    const pass = all[index]!;
    unfilter(filter, row, above, step);
    placeRow(row, pass, y, image, toRgb);
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

function placeRow(row: Uint8Array, pass: Pass, y: number, image: RawImage, toRgb: RowToRgb): void {
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
