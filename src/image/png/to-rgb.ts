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
