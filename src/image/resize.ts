import { OptionError } from '../errors.js';
import { finish } from '../event-loop.js';
import { allocate, fault, MAX_SIDE, type RgbImage } from './raw-image.js';

/** Names of Pillow's filters. */
export type ResizeFilter = 'nearest' | 'box' | 'bilinear' | 'hamming' | 'bicubic' | 'lanczos';

interface Filter {
  /** Half the width of the filter, in pixels of the larger of source and target. */
  readonly support: number;
  /** Weight at distance x. The order of the operations is Pillow's: it decides the last bit. */
  readonly weight: (x: number) => number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

/** Pillow has the two constants in single precision: that decides the last bit of some pixels. */
const HAMMING = [Math.fround(0.54), Math.fround(0.46)] as const;

function hamming(distance: number): number {
  const x = Math.abs(distance);
  if (x >= 1) return 0;
  return x === 0 ? 1 : sinc(x) * (HAMMING[0] + HAMMING[1] * Math.cos(x * Math.PI));
}

/** Keys' cubic with a = -0.5. */
function bicubic(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

const FILTERS: Readonly<Record<Exclude<ResizeFilter, 'nearest'>, Filter>> = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: hamming },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** For each pixel of one axis of the target: which source pixels it sums up, with which weights. */
interface Taps {
  /** First source pixel. */
  readonly starts: Int32Array;
  /** Number of source pixels. */
  readonly counts: Int32Array;
  /** Where its weights begin in `weights`. */
  readonly offsets: Int32Array;
  /** Integers times 2^22. */
  readonly weights: Int32Array;
}

/** The taps of target pixels [first, first + count) when `inSize` pixels become `outSize`, as Pillow's precompute_coeffs. */
function tapsOf(
  inSize: number,
  outSize: number,
  first: number,
  count: number,
  name: Exclude<ResizeFilter, 'nearest'>,
): Taps {
  const { support, weight } = FILTERS[name];
  const scale = inSize / outSize;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  const most = Math.ceil(reach) * 2 + 1;
  const taps = { starts: new Int32Array(count), counts: new Int32Array(count), offsets: new Int32Array(count) };
  const weights = new Int32Array(count * Math.min(most, inSize));
  const exact = new Float64Array(most);
  let filled = 0;
  for (let i = 0; i < count; i++) {
    const center = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - reach + 0.5));
    const length = Math.min(inSize, Math.trunc(center + reach + 0.5)) - start;
    let sum = 0;
    for (let t = 0; t < length; t++) {
      const w = weight((t + start - center + 0.5) * (1 / stretch));
      exact[t] = w;
      sum += w;
    }
    taps.starts[i] = start;
    taps.counts[i] = length;
    taps.offsets[i] = filled;
    for (let t = 0; t < length; t++) {
      const scaled = (sum === 0 ? exact[t]! : exact[t]! / sum) * (1 << 22);
      weights[filled++] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    }
  }
  return { ...taps, weights: weights.subarray(0, filled) };
}

/** A rectangle of pixels. */
export interface Window {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Pillow's fixed point: weights are integers times 2^22, sums start at a half. */
const SHIFT = 22;
const HALF = 1 << (SHIFT - 1);

/**
 * Resizes as Pillow's `Image.resize` does, bit for bit: horizontal pass, rounding to bytes, vertical pass; the filter's support
 * grows when shrinking; 22-bit integer weights. Tall strips go vertically first, as there.
 * @param window the part of the resized image that is wanted: only its pixels are computed, and they are the same.
 * @throws OptionError for sizes that are no positive integers, an unknown filter or a window outside; ImageError for a side above 2^20.
 */
export function resize(
  image: RgbImage,
  width: number,
  height: number,
  filter: ResizeFilter,
  window: Window = { left: 0, top: 0, width, height },
): RgbImage {
  return finish(resizeSteps(image, width, height, filter, window));
}

/** Multiplications of a pixel's three samples between two yields: some milliseconds. */
const STEP = 1 << 20;

/** `resize`, yielding after every `STEP` of its work. */
export function* resizeSteps(
  image: RgbImage,
  width: number,
  height: number,
  filter: ResizeFilter,
  window: Window = { left: 0, top: 0, width, height },
): Generator<void, RgbImage> {
  checkSizes(width, height, filter, window);
  if (Math.max(image.width, image.height) > MAX_SIDE) {
    throw fault(
      'image-size',
      `a side of ${Math.max(image.width, image.height)} pixels; at most ${MAX_SIDE} can be resized`,
    );
  }
  if (image.height > TALL * image.width && height < image.height && width !== image.width) {
    const rows = { left: 0, top: window.top, width: image.width, height: window.height };
    const strip = yield* pass(image, image.width, height, filter, rows);
    return yield* pass(strip, width, window.height, filter, { ...window, top: 0 });
  }
  return yield* pass(image, width, height, filter, window);
}

/** Pillow resizes a strip that is so many times as high as wide, and loses height, vertically first: it rounds in between. */
const TALL = 100;

function* pass(
  image: RgbImage,
  width: number,
  height: number,
  filter: ResizeFilter,
  window: Window,
): Generator<void, RgbImage> {
  if (filter === 'nearest') return nearest(image, width, height, window);
  const columns = width === image.width ? undefined : tapsOf(image.width, width, window.left, window.width, filter);
  const rows = height === image.height ? undefined : tapsOf(image.height, height, window.top, window.height, filter);
  const firstRow = rows ? rows.starts[0]! : window.top; // they ascend
  const lastRow = rows
    ? rows.starts.reduce((end, start, i) => Math.max(end, start + rows.counts[i]!), 0)
    : firstRow + window.height;
  const narrow = columns
    ? yield* horizontal(image, columns, firstRow, lastRow)
    : crop(image, { left: window.left, top: firstRow, width: window.width, height: lastRow - firstRow });
  return rows ? yield* vertical(narrow, rows, firstRow) : narrow;
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
export function crop(image: RgbImage, { left, top, width, height }: Window): RgbImage {
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

function* horizontal(image: RgbImage, taps: Taps, firstRow: number, lastRow: number): Generator<void, RgbImage> {
  const width = taps.starts.length;
  const height = lastRow - firstRow;
  const data = allocate(Uint8Array, width * height * 3);
  const rows = Math.ceil(STEP / taps.weights.length);
  for (let y = 0; y < height; y += rows) {
    if (y > 0) yield;
    const end = Math.min(y + rows, height);
    horizontalRows(image, taps, firstRow + y, firstRow + end, data.subarray(y * width * 3, end * width * 3));
  }
  return { data, width, height };
}

function horizontalRows(
  image: RgbImage,
  { starts, counts, offsets, weights }: Taps,
  firstRow: number,
  lastRow: number,
  data: Uint8Array,
): void {
  const width = starts.length;
  const source = image.data;
  for (let y = firstRow, to = 0; y < lastRow; y++) {
    const line = y * image.width;
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
}

/** `firstRow` is the row of the image that is row 0 of `image`. */
function* vertical(image: RgbImage, taps: Taps, firstRow: number): Generator<void, RgbImage> {
  const height = taps.starts.length;
  const { width } = image;
  const data = allocate(Uint8Array, width * 3 * height);
  const sums = new Int32Array(width * 3);
  for (let y = 0, done = 0; y < height; y++) {
    const count = taps.counts[y]!;
    const columns = Math.ceil(STEP / count); // a row may sum up the whole image
    for (let x = 0; x < width; x += columns) {
      const end = Math.min(x + columns, width);
      done += count * (end - x);
      if (done > STEP) {
        yield;
        done = count * (end - x);
      }
      verticalRow(image, taps, y, firstRow, x * 3, sums.subarray(0, (end - x) * 3), data);
    }
  }
  return { data, width, height };
}

/** Row `y` of the result, as many of its samples as there are sums, from `left` on. */
function verticalRow(
  image: RgbImage,
  { starts, counts, offsets, weights }: Taps,
  y: number,
  firstRow: number,
  left: number,
  sums: Int32Array,
  data: Uint8Array,
): void {
  const lineBytes = image.width * 3;
  const source = image.data;
  sums.fill(HALF);
  for (let t = 0; t < counts[y]!; t++) {
    const weight = weights[offsets[y]! + t]!;
    const from = (starts[y]! + t - firstRow) * lineBytes + left;
    for (let i = 0; i < sums.length; i++) sums[i]! += Math.imul(source[from + i]!, weight);
  }
  for (let i = 0, to = y * lineBytes + left; i < sums.length; i++) data[to + i] = clip(sums[i]!);
}

/** Source places of Pillow's nearest neighbor: it adds up the step instead of multiplying, rounding errors included. */
function nearestPlaces(inSize: number, outSize: number, first: number, count: number): Int32Array {
  const step = inSize / outSize;
  const places = new Int32Array(count);
  let path = step * 0.5;
  for (let i = 0; i < first + count; i++, path += step) if (i >= first) places[i - first] = Math.min(path, inSize - 1);
  return places;
}

function nearest(image: RgbImage, width: number, height: number, window: Window): RgbImage {
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

/** Where a center crop comes from and goes to: a window of the image, put at (padLeft, padTop) of a black image of the result's size. */
export interface CropPlan {
  readonly window: Window;
  readonly padTop: number;
  readonly padLeft: number;
  readonly width: number;
  readonly height: number;
}

/** Python's round: halves go to the even neighbor. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1;
  return rest < 0.5 ? floor : floor + 1;
}

/** How offsets of half a pixel are rounded, and what becomes of a crop that is larger than the image by an odd number. */
export type CropRounding = 'floor' | 'half-even' | 'transformers-4.40';

/** One axis of a center crop: first source pixel, pixels taken, padding before them, length of the result. */
function cropAxis(size: number, wanted: number, rounding: CropRounding) {
  const round = rounding === 'half-even' ? roundHalfEven : Math.floor;
  const first = round((size - wanted) / 2);
  if (wanted <= size) return { first, taken: wanted, pad: 0, length: wanted };
  if (rounding === 'floor') return { first: 0, taken: size, pad: Math.floor((wanted - size) / 2), length: wanted };
  // transformers 4.40 pads to the wanted length, then cuts by an offset rounded the other way: an odd difference loses one pixel
  const pad = Math.floor((wanted - size) / 2);
  const start = Math.max(0, first + pad);
  return { first: 0, taken: size, pad: pad - start, length: Math.min(wanted, first + pad + wanted) - start };
}

/**
 * The center crop of an image of `width` by `height`. Offsets are floor((size - crop) / 2) as in Hugging Face's processors, or rounded
 * half to even as in the original (torchvision). A crop larger than the image is padded with 0 as transformers 5.18 does, or as 4.40 did.
 */
export function planCenterCrop(
  width: number,
  height: number,
  cropWidth: number,
  cropHeight: number,
  rounding: CropRounding = 'floor',
): CropPlan {
  const x = cropAxis(width, cropWidth, rounding);
  const y = cropAxis(height, cropHeight, rounding);
  const window = { left: x.first, top: y.first, width: x.taken, height: y.taken };
  return { window, padTop: y.pad, padLeft: x.pad, width: x.length, height: y.length };
}

/** Puts the pixels of a plan's window into the result. */
export function place(part: RgbImage, plan: CropPlan): RgbImage {
  if (part.width === plan.width && part.height === plan.height) return part;
  const data = allocate(Uint8Array, plan.width * plan.height * 3);
  for (let y = 0; y < part.height; y++) {
    const line = part.data.subarray(y * part.width * 3, (y + 1) * part.width * 3);
    data.set(line, ((y + plan.padTop) * plan.width + plan.padLeft) * 3);
  }
  return { data, width: plan.width, height: plan.height };
}

/** Cuts the middle out of an image, as `planCenterCrop` says. */
export function centerCrop(image: RgbImage, width: number, height: number, rounding: CropRounding = 'floor'): RgbImage {
  const plan = planCenterCrop(image.width, image.height, width, height, rounding);
  return place(crop(image, plan.window), plan);
}
