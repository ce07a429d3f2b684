import {
  backend_util,
  type CropAndResizeAttrs,
  kernel_impls,
  type NonMaxSuppressionV4Attrs,
  type NonMaxSuppressionV5Attrs,
  type ResizeBilinearAttrs,
  type RotateWithOffsetAttrs,
  type TensorInfo,
  type TransformAttrs,
} from '@tensorflow/tfjs-core';
import type { KernelContext } from '../kernel-context.js';
import { type Attributes, type Inputs, input, type Kernel, type KernelTable } from '../kernel-context.js';
import type { Numbers } from '../tensor-memory.js';

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
  backend: KernelContext,
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
function rotate(backend: KernelContext, image: TensorInfo, { radians, fillValue, center }: RotateWithOffsetAttrs) {
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
function transform(backend: KernelContext, image: TensorInfo, transforms: TensorInfo, attributes: TransformAttrs) {
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

/** A pixel of the result along one axis: two neighbors in the image, and the share of the second. */
interface Tap {
  readonly low: number;
  readonly high: number;
  readonly share: number;
}

type TapsOf = (from: number, to: number, attributes: ResizeBilinearAttrs) => Tap[];

const scaleOf = (from: number, to: number, alignCorners: boolean) =>
  alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to;

const clamp = (x: number, most: number) => Math.min(Math.max(x, 0), most);

const linear: TapsOf = (from, to, { alignCorners, halfPixelCenters }) =>
  Array.from({ length: to }, (_, i) => {
    const scale = scaleOf(from, to, alignCorners);
    const at = clamp(halfPixelCenters ? scale * (i + 0.5) - 0.5 : scale * i, from - 1);
    return { low: Math.floor(at), high: Math.ceil(at), share: at - Math.floor(at) };
  });

const nearest: TapsOf = (from, to, { alignCorners, halfPixelCenters }) =>
  Array.from({ length: to }, (_, i) => {
    const at = scaleOf(from, to, alignCorners) * (halfPixelCenters ? i + 0.5 : i);
    const low = clamp(alignCorners ? Math.round(at) : Math.floor(at), from - 1);
    return { low, high: low, share: 0 };
  });

/** The four pixels of the image around a place (offsets of their first channels), and the shares of the lower and right ones. */
interface Corners {
  topLeft: number;
  topRight: number;
  bottomLeft: number;
  bottomRight: number;
  down: number;
  right: number;
}

/** Visits the pixels of the result with their corners: one object, changed from pixel to pixel. */
function forEachPixel(
  image: TensorInfo,
  [height, width]: readonly [number, number],
  attributes: ResizeBilinearAttrs,
  tapsOf: TapsOf,
  visit: (to: number, corners: Readonly<Corners>) => void,
): void {
  const [batch = 0, inHeight = 0, inWidth = 0, channels = 0] = image.shape;
  const [rows, columns] = [tapsOf(inHeight, height, attributes), tapsOf(inWidth, width, attributes)];
  const corners: Corners = { topLeft: 0, topRight: 0, bottomLeft: 0, bottomRight: 0, down: 0, right: 0 };
  let to = 0;
  for (let b = 0; b < batch; b++) {
    for (const y of rows) {
      const top = (b * inHeight + y.low) * inWidth;
      const bottom = (b * inHeight + y.high) * inWidth;
      corners.down = y.share;
      for (const x of columns) {
        corners.topLeft = (top + x.low) * channels;
        corners.topRight = (top + x.high) * channels;
        corners.bottomLeft = (bottom + x.low) * channels;
        corners.bottomRight = (bottom + x.high) * channels;
        corners.right = x.share;
        visit(to, corners);
        to += channels;
      }
    }
  }
}

/** From a to b; a itself where b has no share, whatever b is. */
const interpolate = (a: number, b: number, share: number) => (share === 0 ? a : a + (b - a) * share);

/** [batch, height, width, channels] to another height and width: float32, or the images' own type where pixels are only moved. */
const resize =
  (tapsOf: TapsOf): Kernel =>
  (backend, inputs, attributes: Attributes) => {
    const images = input(inputs, 'images');
    const options = attributes as unknown as ResizeBilinearAttrs;
    const [batch = 0, , , channels = 0] = images.shape;
    const dtype = tapsOf === nearest ? images.dtype : 'float32';
    const output = backend.output([batch, ...options.size, channels], dtype);
    const [values, target] = backend.viewsOf(images, output);
    forEachPixel(images, options.size, options, tapsOf, (to, at) => {
      for (let c = 0; c < channels; c++) {
        const top = interpolate(values[at.topLeft + c]!, values[at.topRight + c]!, at.right);
        const bottom = interpolate(values[at.bottomLeft + c]!, values[at.bottomRight + c]!, at.right);
        target[to + c] = interpolate(top, bottom, at.down);
      }
    });
    return output;
  };

/** The way back: each slope goes to the pixels that made its own, by their shares. */
const gradient =
  (tapsOf: TapsOf): Kernel =>
  (backend, inputs, attributes: Attributes) => {
    const [images, dy] = [input(inputs, 'images'), input(inputs, 'dy')];
    const [, height = 0, width = 0, channels = 0] = dy.shape;
    const output = backend.output(images.shape, 'float32');
    const [slopes, target] = backend.viewsOf(dy, output);
    const sums = new Float64Array(target.length);
    forEachPixel(images, [height, width], attributes as unknown as ResizeBilinearAttrs, tapsOf, (from, at) => {
      for (let c = 0; c < channels; c++) {
        const [above, below] = [slopes[from + c]! * (1 - at.down), slopes[from + c]! * at.down];
        sums[at.topLeft + c]! += above * (1 - at.right);
        sums[at.topRight + c]! += above * at.right;
        sums[at.bottomLeft + c]! += below * (1 - at.right);
        sums[at.bottomRight + c]! += below * at.right;
      }
    });
    target.set(sums);
    return output;
  };

type Boxes = Float32Array;

/** Boxes [n, 4] and scores [n]. */
const read = (backend: KernelContext, inputs: Inputs) =>
  backend.viewsOf(input(inputs, 'boxes'), input(inputs, 'scores')) as [Boxes, Boxes];

function vector(
  backend: KernelContext,
  values: ArrayLike<number>,
  dtype: 'int32' | 'float32',
  shape = [values.length],
) {
  const output = backend.output(shape, dtype);
  backend.valuesOf(output).set(values);
  return output;
}

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
  ResizeBilinear: resize(linear),
  ResizeBilinearGrad: gradient(linear),
  ResizeNearestNeighbor: resize(nearest),
  ResizeNearestNeighborGrad: gradient(nearest),
  NonMaxSuppressionV3(backend, inputs, attributes) {
    const [boxes, scores] = read(backend, inputs);
    const { maxOutputSize, iouThreshold, scoreThreshold } = attributes as unknown as NonMaxSuppressionV4Attrs;
    const { selectedIndices } = kernel_impls.nonMaxSuppressionV3Impl(
      ...([boxes, scores, maxOutputSize, iouThreshold, scoreThreshold] as const),
    );
    return vector(backend, selectedIndices, 'int32');
  },

  NonMaxSuppressionV4(backend, inputs, attributes) {
    const [boxes, scores] = read(backend, inputs);
    const { maxOutputSize, iouThreshold, scoreThreshold, padToMaxOutputSize } =
      attributes as unknown as NonMaxSuppressionV4Attrs;
    const { selectedIndices, validOutputs } = kernel_impls.nonMaxSuppressionV4Impl(
      ...([boxes, scores, maxOutputSize, iouThreshold, scoreThreshold, padToMaxOutputSize] as const),
    );
    return [vector(backend, selectedIndices, 'int32'), vector(backend, [validOutputs!], 'int32', [])];
  },

  NonMaxSuppressionV5(backend, inputs, attributes) {
    const [boxes, scores] = read(backend, inputs);
    const { maxOutputSize, iouThreshold, scoreThreshold, softNmsSigma } =
      attributes as unknown as NonMaxSuppressionV5Attrs;
    const { selectedIndices, selectedScores } = kernel_impls.nonMaxSuppressionV5Impl(
      ...([boxes, scores, maxOutputSize, iouThreshold, scoreThreshold, softNmsSigma] as const),
    );
    return [vector(backend, selectedIndices, 'int32'), vector(backend, selectedScores!, 'float32')];
  },
};
