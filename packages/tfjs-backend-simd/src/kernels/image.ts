import {
  backend_util,
  type CropAndResizeAttrs,
  type RotateWithOffsetAttrs,
  type TensorInfo,
  type TransformAttrs,
} from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import type { Numbers } from '../stored.js';
import { input, type KernelTable } from './table.js';

/** Reads one number of an image [height, width, channels]; `undefined` where there is no such pixel. */
type Pixel = (y: number, x: number, channel: number) => number | undefined;

function pixelsOf(values: Numbers, image: TensorInfo, batchIndex: number): Pixel {
  const [, height = 0, width = 0, channels = 0] = image.shape;
  const first = batchIndex * height * width * channels;
  return (y, x, channel) => {
    if (y < 0 || x < 0 || y >= height || x >= width) return undefined;
    return values[first + (y * width + x) * channels + channel];
  };
}

/** Between the four pixels around (y, x); pixels that do not exist have the value `outside`. */
function between(pixel: Pixel, y: number, x: number, channel: number, outside: number): number {
  const [top, left] = [Math.floor(y), Math.floor(x)];
  const [down, right] = [y - top, x - left];
  const at = (row: number, column: number) => pixel(row, column, channel) ?? outside;
  const above = (1 - right) * at(top, left) + right * at(top, left + 1);
  const below = (1 - right) * at(top + 1, left) + right * at(top + 1, left + 1);
  return (1 - down) * above + down * below;
}

/** Makes every number of `output` [batch, height, width, channels] from its image and its place. */
function fill(output: Numbers, shape: readonly number[], make: (b: number, y: number, x: number, c: number) => number) {
  const [batch = 0, height = 0, width = 0, channels = 0] = shape;
  let i = 0;
  for (let b = 0; b < batch; b++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) output[i++] = make(b, y, x, c);
    }
  }
}

/** Boxes [n, 4], as parts of the image from corner pixel to corner pixel, each to the same size. */
function cropAndResize(
  backend: SimdBackend,
  [image, boxes, boxInd]: readonly [TensorInfo, TensorInfo, TensorInfo],
  { cropSize, method, extrapolationValue }: CropAndResizeAttrs,
): TensorInfo {
  const [batch = 0, height = 0, width = 0, channels = 0] = image.shape;
  const output = backend.output([boxes.shape[0]!, ...cropSize, channels], 'float32');
  const [values, corners, images, target] = backend.viewsOf(image, boxes, boxInd, output);
  const pixels = Array.from({ length: batch }, (_, batchIndex) => pixelsOf(values, image, batchIndex));
  const along = (from: number, to: number, size: number, i: number, count: number) =>
    count > 1 ? from * (size - 1) + (i * (to - from) * (size - 1)) / (count - 1) : 0.5 * (from + to) * (size - 1);
  fill(target, output.shape, (box, row, column, c) => {
    const [y1, x1, y2, x2] = corners.subarray(box * 4, box * 4 + 4) as unknown as [number, number, number, number];
    const pixel = pixels[images[box]!];
    if (pixel === undefined) return 0;
    const [y, x] = [along(y1, y2, height, row, cropSize[0]), along(x1, x2, width, column, cropSize[1])];
    if (y < 0 || x < 0 || y > height - 1 || x > width - 1) return extrapolationValue;
    if (method === 'nearest') return pixel(Math.round(y), Math.round(x), c)!;
    return between(pixel, y, x, c, 0); // what lies outside has no share here
  });
  return output;
}

/** A turn around `center`, each pixel from the nearest one; outside are `fillValue` and, as a fourth channel, 255. */
function rotate(backend: SimdBackend, image: TensorInfo, { radians, fillValue, center }: RotateWithOffsetAttrs) {
  const output = backend.output(image.shape, image.dtype);
  const [batch = 0, height = 0, width = 0] = image.shape;
  const [middleX, middleY] = backend_util.getImageCenter(center, height, width);
  const [sin, cos] = [Math.sin(radians), Math.cos(radians)];
  const [values, target] = backend.viewsOf(image, output);
  const pixels = Array.from({ length: batch }, (_, batchIndex) => pixelsOf(values, image, batchIndex));
  const outside = (c: number) => (typeof fillValue === 'number' ? fillValue : c === 3 ? 255 : fillValue[c]!);
  fill(target, image.shape, (b, y, x, c) => {
    const [right, down] = [x - middleX, y - middleY];
    const [fromX, fromY] = [right * cos - down * sin + middleX, right * sin + down * cos + middleY];
    return pixels[b]!(Math.round(fromY), Math.round(fromX), c) ?? outside(c);
  });
  return output;
}

/** A coordinate outside 0 … n - 1, brought inside as the mode says; `constant` leaves it. */
function inside(at: number, n: number, mode: TransformAttrs['fillMode']): number {
  if (mode === 'constant' || (at >= 0 && at <= n - 1)) return at;
  if (mode === 'nearest' || n <= 1) return Math.min(Math.max(at, 0), n - 1);
  let moved: number;
  if (mode === 'wrap') {
    moved = at < 0 ? at + n * (Math.trunc(-at / (n - 1)) + 1) : at - n * Math.trunc(at / (n - 1));
  } else if (at < 0) {
    const period = at + 2 * n * Math.trunc(-at / (2 * n));
    moved = period < -n ? period + 2 * n : -period - 1;
  } else {
    const period = at - 2 * n * Math.trunc(at / (2 * n));
    moved = period >= n ? 2 * n - period - 1 : period;
  }
  return Math.min(Math.max(moved, 0), n - 1);
}

/** A projective map: each place of the result reads the image at (a x + b y + c) / k, (d x + e y + f) / k, k = g x + h y + 1. */
function transform(backend: SimdBackend, image: TensorInfo, transforms: TensorInfo, attributes: TransformAttrs) {
  const { interpolation, fillMode, fillValue, outputShape } = attributes;
  const [batch = 0, height = 0, width = 0, channels = 0] = image.shape;
  const output = backend.output([batch, ...(outputShape ?? [height, width]), channels], image.dtype);
  const [values, maps, target] = backend.viewsOf(image, transforms, output);
  const pixels = Array.from({ length: batch }, (_, batchIndex) => pixelsOf(values, image, batchIndex));
  fill(target, output.shape, (batchIndex, toY, toX, channel) => {
    const m = (i: number) => maps[(transforms.shape[0] === 1 ? 0 : batchIndex * 8) + i]!;
    const k = m(6) * toX + m(7) * toY + 1;
    if (k === 0) return fillValue;
    const x = inside((m(0) * toX + m(1) * toY + m(2)) / k, width, fillMode);
    const y = inside((m(3) * toX + m(4) * toY + m(5)) / k, height, fillMode);
    if (interpolation === 'bilinear') return between(pixels[batchIndex]!, y, x, channel, fillValue);
    return pixels[batchIndex]!(Math.round(y), Math.round(x), channel) ?? fillValue;
  });
  return output;
}

/** Kernels on images [batch, height, width, channels]. */
export const imageKernels: KernelTable = {
  CropAndResize: (backend, inputs, attributes) =>
    cropAndResize(
      backend,
      [input(inputs, 'image'), input(inputs, 'boxes'), input(inputs, 'boxInd')],
      attributes as unknown as CropAndResizeAttrs,
    ),
  RotateWithOffset: (backend, inputs, attributes) =>
    rotate(backend, input(inputs, 'image'), attributes as unknown as RotateWithOffsetAttrs),
  Transform: (backend, inputs, attributes) =>
    transform(
      ...([backend, input(inputs, 'image'), input(inputs, 'transforms')] as const),
      attributes as unknown as TransformAttrs,
    ),
};
