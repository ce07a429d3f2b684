import { fault } from '../fault.js';
import type { PngHeader } from './chunks.js';

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
