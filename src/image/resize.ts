import { OptionError } from '../errors.js';
import { allocate, fault } from './fault.js';
import type { RawImage } from './raw-image.js';
import { FILTERS, type ResizeFilter, type Taps, tapsOf } from './resize-filters.js';

export type { ResizeFilter } from './resize-filters.js';

/** A rectangle of pixels. */
export interface Window {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Longest side that can be resized: only PNG can be longer, and the filter's table grows with it. */
const MAX_SIDE = 1 << 20;
/** Pillow's fixed point: weights are integers times 2^22, sums start at a half. */
const SHIFT = 22;
const HALF = 1 << (SHIFT - 1);

/**
 * Resizes as Pillow's `Image.resize` does, bit for bit: horizontal pass, rounding to bytes, vertical pass; the filter's support
 * grows when shrinking; 22-bit integer weights.
 * @param window the part of the resized image that is wanted: only its pixels are computed, and they are the same.
 * @throws OptionError for sizes that are no positive integers, an unknown filter or a window outside; ImageError for a side above 2^20.
 */
export function resize(
  image: RawImage,
  width: number,
  height: number,
  filter: ResizeFilter,
  window: Window = { left: 0, top: 0, width, height },
): RawImage {
  checkSizes(width, height, filter, window);
  if (Math.max(image.width, image.height) > MAX_SIDE) {
    throw fault(
      'image-size',
      `a side of ${Math.max(image.width, image.height)} pixels; at most ${MAX_SIDE} can be resized`,
    );
  }
  if (filter === 'nearest') return nearest(image, width, height, window);
  const columns = width === image.width ? undefined : tapsOf(image.width, width, window.left, window.width, filter);
  const rows = height === image.height ? undefined : tapsOf(image.height, height, window.top, window.height, filter);
  const firstRow = rows ? Math.min(...rows.starts) : window.top;
  const lastRow = rows
    ? rows.starts.reduce((end, start, i) => Math.max(end, start + rows.counts[i]!), 0)
    : firstRow + window.height;
  const narrow = columns
    ? horizontal(image, columns, firstRow, lastRow)
    : crop(image, { left: window.left, top: firstRow, width: window.width, height: lastRow - firstRow });
  return rows ? vertical(narrow, rows, firstRow) : narrow;
}

function checkSizes(width: number, height: number, filter: ResizeFilter, w: Window): void {
  const fail = (path: string, detail: string): never => {
    throw new OptionError({ path, code: 'resize', detail });
  };
  if (!Number.isSafeInteger(width) || width < 1) fail('width', `${width} is not a positive integer`);
  if (!Number.isSafeInteger(height) || height < 1) fail('height', `${height} is not a positive integer`);
  if (filter !== 'nearest' && !Object.hasOwn(FILTERS, filter)) fail('filter', `unknown filter ${String(filter)}`);
  const inside = (start: number, length: number, side: number) =>
    Number.isSafeInteger(start) && Number.isSafeInteger(length) && start >= 0 && length >= 1 && start + length <= side;
  if (!inside(w.left, w.width, width) || !inside(w.top, w.height, height))
    fail('window', 'not inside the resized image');
}

/** Cuts a rectangle out of an image that contains it; the whole image is returned as it is. */
export function crop(image: RawImage, { left, top, width, height }: Window): RawImage {
  if (width === image.width && height === image.height) return image;
  const data = allocate(Uint8Array, width * height * 3);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(from, from + width * 3), y * width * 3);
  }
  return { data, width, height };
}

const clip = (sum: number): number => {
  const value = sum >> SHIFT;
  return value < 0 ? 0 : Math.min(value, 255);
};

function horizontal(
  image: RawImage,
  { starts, counts, offsets, weights }: Taps,
  firstRow: number,
  lastRow: number,
): RawImage {
  const width = starts.length;
  const height = lastRow - firstRow;
  const source = image.data;
  const data = allocate(Uint8Array, width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    const line = (firstRow + y) * image.width;
    for (let x = 0; x < width; x++, to += 3) {
      let [red, green, blue] = [HALF, HALF, HALF];
      let from = (line + starts[x]!) * 3;
      const stop = offsets[x]! + counts[x]!;
      for (let t = offsets[x]!; t < stop; t++, from += 3) {
        const weight = weights[t]!;
        red += Math.imul(source[from]!, weight);
        green += Math.imul(source[from + 1]!, weight);
        blue += Math.imul(source[from + 2]!, weight);
      }
      data[to] = clip(red);
      data[to + 1] = clip(green);
      data[to + 2] = clip(blue);
    }
  }
  return { data, width, height };
}

/** `firstRow` is the row of the image that is row 0 of `image`. */
function vertical(image: RawImage, { starts, counts, offsets, weights }: Taps, firstRow: number): RawImage {
  const height = starts.length;
  const lineBytes = image.width * 3;
  const source = image.data;
  const data = allocate(Uint8Array, lineBytes * height);
  const sums = new Int32Array(lineBytes);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let t = 0; t < counts[y]!; t++) {
      const weight = weights[offsets[y]! + t]!;
      const from = (starts[y]! + t - firstRow) * lineBytes;
      for (let i = 0; i < lineBytes; i++) sums[i]! += Math.imul(source[from + i]!, weight);
    }
    for (let i = 0, to = y * lineBytes; i < lineBytes; i++) data[to + i] = clip(sums[i]!);
  }
  return { data, width: image.width, height };
}

/** Source places of Pillow's nearest neighbour: it adds up the step instead of multiplying, rounding errors included. */
function nearestPlaces(inSize: number, outSize: number, first: number, count: number): Int32Array {
  const step = inSize / outSize;
  const places = new Int32Array(count);
  let path = step * 0.5;
  for (let i = 0; i < first + count; i++, path += step) if (i >= first) places[i - first] = Math.min(path, inSize - 1);
  return places;
}

function nearest(image: RawImage, width: number, height: number, window: Window): RawImage {
  const columns = nearestPlaces(image.width, width, window.left, window.width);
  const rows = nearestPlaces(image.height, height, window.top, window.height);
  const data = allocate(Uint8Array, window.width * window.height * 3);
  let to = 0;
  for (const row of rows) {
    for (const column of columns) {
      const from = (row * image.width + column) * 3;
      data[to++] = image.data[from]!;
      data[to++] = image.data[from + 1]!;
      data[to++] = image.data[from + 2]!;
    }
  }
  return { data, width: window.width, height: window.height };
}
