import {
  backend_util,
  type Dilation2DAttrs,
  type MaxPool3DAttrs,
  type MaxPoolAttrs,
  type MaxPoolWithArgmaxAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { type Attributes, fault, type Inputs, input, type Kernel, type KernelTable } from '../kernel-context.js';
import type { Numbers } from '../tensor-memory.js';

/** Where the channels of images are: in the last dimension, or (`NCHW`) behind the batch. */
export const isChannelsFirst = (dataFormat: string | undefined): boolean => dataFormat?.startsWith('NC') === true;

export type WindowInfo = backend_util.Conv2DInfo | backend_util.Conv3DInfo;

/** How a window moves along one axis of an image. */
interface Axis {
  /** Pixels of the image, … */
  readonly size: number;
  /** … places where the window stands, … */
  readonly places: number;
  /** … pixels it sees at each, `dilation` apart, … */
  readonly taps: number;
  readonly stride: number;
  readonly dilation: number;
  /** … and how far the first place begins before the image. */
  readonly before: number;
}

/** A window over images [batch, depth, height, width, channels]; flat images have a depth of 1. */
export interface Windows {
  readonly batch: number;
  readonly axes: readonly [Axis, Axis, Axis];
  /** Of one image. */
  readonly pixels: number;
  readonly places: number;
  /** Of one window. */
  readonly taps: number;
}

const FLAT: Axis = { size: 1, places: 1, taps: 1, stride: 1, dilation: 1, before: 0 };

function depthOf(info: WindowInfo): Axis {
  if (!('inDepth' in info)) return FLAT;
  const { inDepth: size, outDepth: places, filterDepth: taps, strideDepth: stride, dilationDepth: dilation } = info;
  return { size, places, taps, stride, dilation, before: info.padInfo.front };
}

/** What tfjs found out about a convolution or pooling, axis by axis. */
export function windowsOf(info: WindowInfo): Windows {
  const { inHeight, outHeight, filterHeight, strideHeight, dilationHeight, padInfo } = info;
  const { inWidth, outWidth, filterWidth, strideWidth, dilationWidth } = info;
  const rows = { size: inHeight, places: outHeight, taps: filterHeight, stride: strideHeight };
  const columns = { size: inWidth, places: outWidth, taps: filterWidth, stride: strideWidth };
  const axes: [Axis, Axis, Axis] = [
    depthOf(info),
    { ...rows, dilation: dilationHeight, before: padInfo.top },
    { ...columns, dilation: dilationWidth, before: padInfo.left },
  ];
  const product = (of: (axis: Axis) => number) => axes.reduce((all, axis) => all * of(axis), 1);
  return {
    ...{ batch: info.batchSize, axes, pixels: product(({ size }) => size) },
    ...{ places: product(({ places }) => places), taps: product(({ taps }) => taps) },
  };
}

/** For each place along an axis, the taps that meet a pixel, and the pixel. */
function meetings({ size, places, taps, stride, dilation, before }: Axis): { tap: number; pixel: number }[][] {
  return Array.from({ length: places }, (_, place) =>
    Array.from({ length: taps }, (_, tap) => ({ tap, pixel: place * stride - before + tap * dilation })).filter(
      ({ pixel }) => pixel >= 0 && pixel < size,
    ),
  );
}

/** Visits every tap of every window that meets a pixel, window by window. Places and pixels are numbered through all images. */
export function forEachTap(windows: Windows, visit: (place: number, tap: number, pixel: number) => void): void {
  const { batch, axes } = windows;
  const [deep, rows, columns] = axes.map(meetings) as [Meetings, Meetings, Meetings];
  const [, { size: height, taps: tapRows }, { size: width, taps: tapColumns }] = axes;
  let place = 0;
  for (let image = 0; image < batch; image++) {
    const first = image * windows.pixels;
    for (const inDepth of deep) {
      for (const inRow of rows) {
        for (const inColumn of columns) {
          for (const z of inDepth) {
            for (const y of inRow) {
              const [tap, pixel] = [
                (z.tap * tapRows + y.tap) * tapColumns,
                first + (z.pixel * height + y.pixel) * width,
              ];
              for (const x of inColumn) visit(place, tap + x.tap, pixel + x.pixel);
            }
          }
          place++;
        }
      }
    }
  }
}

type Meetings = ReturnType<typeof meetings>;

/** A part of the places of one image: the same window over fewer of them, and the number of the first one. */
interface Part {
  readonly part: Windows;
  readonly first: number;
}

/** One image's places in parts of about `most`, so that what is made of them stays small: planes, or rows of a flat image. */
export function partsOf(windows: Windows, most: number): Part[] {
  const outer = windows.axes[0].places > 1 ? 0 : 1;
  const axis = windows.axes[outer];
  const inner = windows.places / axis.places;
  const step = Math.max(1, Math.floor(most / inner));
  return Array.from({ length: Math.ceil(axis.places / step) }, (_, i): Part => {
    const [from, places] = [i * step, Math.min(step, axis.places - i * step)];
    const own = { ...axis, places, before: axis.before - from * axis.stride };
    const [deep, rows, columns] = windows.axes;
    const axes: Windows['axes'] = outer === 0 ? [own, rows, columns] : [deep, own, columns];
    return { first: from * inner, part: { ...windows, batch: 1, axes, places: places * inner } };
  });
}

/** Places from which a tap, `offset` pixels from the first one, meets a pixel. */
export function inside(offset: number, { size, places, stride }: Axis) {
  const first = Math.max(0, Math.ceil(-offset / stride));
  return { first, count: Math.max(0, Math.min(places, Math.floor((size - 1 - offset) / stride) + 1) - first) };
}

type InfoOf = (x: TensorInfo, attributes: Attributes) => WindowInfo;

const flat: InfoOf = (x, attributes) => {
  const { filterSize, strides, pad, dimRoundingMode } = attributes as unknown as MaxPoolAttrs;
  return backend_util.computePool2DInfo(x.shape as Four, filterSize, strides, 1, pad, dimRoundingMode);
};

const deep: InfoOf = (x, attributes) => {
  const { filterSize, strides, pad, dimRoundingMode, dataFormat } = attributes as unknown as MaxPool3DAttrs;
  if (isChannelsFirst(dataFormat)) throw fault('Pool3D', 'unsupported-layout', `only NDHWC, not ${dataFormat}`);
  return backend_util.computePool3DInfo(x.shape as Five, filterSize, strides, 1, pad, dimRoundingMode);
};

type Four = [number, number, number, number];
type Five = [number, number, number, number, number];

/** As tfjs has it, flat windows of one pixel that leave the shape alone leave all alone, even where stride and padding move them. */
const isIdentity = (info: WindowInfo) =>
  !('inDepth' in info) && windowsOf(info).taps === 1 && util.arraysEqual(info.inShape, info.outShape);

/** For each number of the result, where the largest of its window lies: the first of equals, -1 where there is none but NaN. */
function largestAt(values: Numbers, windows: Windows, channels: number): Int32Array {
  const chosen = new Int32Array(windows.batch * windows.places * channels).fill(-1);
  forEachTap(windows, (place, _, pixel) => {
    let [to, from] = [place * channels, pixel * channels];
    for (let c = 0; c < channels; c++, to++, from++) {
      const best = chosen[to]!;
      if (values[from]! > (best < 0 ? Number.NEGATIVE_INFINITY : values[best]!)) chosen[to] = from;
    }
  });
  return chosen;
}

const maximum =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const info = infoOf(x, attributes);
    if (isIdentity(info)) return backend.alias(x, x.shape);
    const output = backend.output(info.outShape, x.dtype);
    const [values, target] = backend.viewsOf(x, output);
    const chosen = largestAt(values, windowsOf(info), info.inChannels);
    for (let i = 0; i < chosen.length; i++) target[i] = chosen[i]! < 0 ? Number.NEGATIVE_INFINITY : values[chosen[i]!]!;
    return output;
  };

/** Also gives the place of each maximum, within its image or (`includeBatchInIndex`) within the batch. */
const maximumAndPlace: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const info = flat(x, attributes);
  const { includeBatchInIndex } = attributes as unknown as MaxPoolWithArgmaxAttrs;
  const [output, places] = [backend.output(info.outShape, x.dtype), backend.output(info.outShape, 'int32')];
  const [values, target, indices] = backend.viewsOf(x, output, places);
  const windows = windowsOf(info);
  const image = includeBatchInIndex ? values.length : windows.pixels * info.inChannels;
  largestAt(values, windows, info.inChannels).forEach((from, i) => {
    target[i] = from < 0 ? Number.NEGATIVE_INFINITY : values[from]!;
    indices[i] = Math.max(from, 0) % image;
  });
  return [output, places];
};

/** The mean of the pixels that a window sees; those outside the image do not count. */
const mean =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const info = infoOf(x, attributes);
    if (isIdentity(info)) return backend.alias(x, x.shape);
    const windows = windowsOf(info);
    const channels = info.inChannels;
    const output = backend.output(info.outShape, x.dtype);
    const [values, target] = backend.viewsOf(x, output);
    const [sums, counts] = [new Float64Array(target.length), new Int32Array(windows.batch * windows.places)];
    forEachTap(windows, (place, _, pixel) => {
      counts[place]!++;
      let [to, from] = [place * channels, pixel * channels];
      for (let c = 0; c < channels; c++) sums[to++]! += values[from++]!;
    });
    for (let i = 0; i < sums.length; i++) target[i] = sums[i]! / Math.max(1, counts[Math.floor(i / channels)]!);
    return output;
  };

const maximumGradient =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [dy, x] = [input(inputs, 'dy'), input(inputs, 'input')];
    const info = infoOf(x, attributes);
    const output = backend.output(x.shape, 'float32');
    const [values, slopes, target] = backend.viewsOf(x, dy, output);
    target.fill(0);
    largestAt(values, windowsOf(info), info.inChannels).forEach((from, i) => {
      if (from >= 0) target[from]! += slopes[i]!;
    });
    return output;
  };

/** As tfjs has it: every pixel counts for 1 / size of the window, also where the window hangs over the edge. */
const meanGradient =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [dy, x] = [input(inputs, 'dy'), input(inputs, 'input')];
    const info = infoOf(x, attributes);
    const windows = windowsOf(info);
    const channels = info.inChannels;
    const output = backend.output(x.shape, 'float32');
    const [slopes, target] = backend.viewsOf(dy, output);
    const sums = new Float64Array(target.length);
    forEachTap(windows, (place, _, pixel) => {
      let [to, from] = [pixel * channels, place * channels];
      for (let c = 0; c < channels; c++) sums[to++]! += slopes[from++]!;
    });
    for (let i = 0; i < sums.length; i++) target[i] = sums[i]! / windows.taps;
    return output;
  };

function read(inputs: Inputs, attributes: Attributes) {
  const [x, filter] = [input(inputs, 'x'), input(inputs, 'filter')];
  const { strides, pad, dilations } = attributes as unknown as Dilation2DAttrs;
  const info = backend_util.computeDilation2DInfo(
    ...([x.shape as [number, number, number, number], filter.shape as [number, number, number]] as const),
    ...([strides, pad, 'NHWC', dilations] as const),
  );
  return { x, filter, windows: windowsOf(info), channels: info.inChannels, outShape: info.outShape };
}

/** For each number of the result, the pixel and the tap whose sum is largest: the first of equals. */
function largestSums(values: Numbers, filter: Numbers, windows: Windows, channels: number) {
  const size = windows.batch * windows.places * channels;
  const sums = new Float64Array(size).fill(Number.MIN_SAFE_INTEGER); // tfjs's least, where a window sees nothing
  const [pixels, taps] = [new Int32Array(size).fill(-1), new Int32Array(size)];
  forEachTap(windows, (place, tap, pixel) => {
    for (let c = 0; c < channels; c++) {
      const to = place * channels + c;
      const sum = values[pixel * channels + c]! + filter[tap * channels + c]!;
      if (!(sum > sums[to]!)) continue; // NaN is not seen, as on tfjs’s cpu backend
      [sums[to], pixels[to], taps[to]] = [sum, pixel * channels + c, tap * channels + c];
    }
  });
  return { sums, pixels, taps };
}

/** Grayscale dilation: the largest of pixel + filter in each window. */
const dilation: Kernel = (backend, inputs, attributes) => {
  const { x, filter, windows, channels, outShape } = read(inputs, attributes);
  const output = backend.output(outShape, x.dtype);
  const [values, weights, target] = backend.viewsOf(x, filter, output);
  target.set(largestSums(values, weights, windows, channels).sums);
  return output;
};

/** Each slope belongs to the pixel, or to the place in the filter, that made the sum. */
const gradient =
  (of: 'x' | 'filter'): Kernel =>
  (backend, inputs, attributes): TensorInfo => {
    const { x, filter, windows, channels } = read(inputs, attributes);
    const to = of === 'x' ? x : filter;
    const output = backend.output(to.shape, to.dtype);
    const [values, weights, slopes, target] = backend.viewsOf(x, filter, input(inputs, 'dy'), output);
    const { pixels, taps } = largestSums(values, weights, windows, channels);
    target.fill(0);
    pixels.forEach((pixel, i) => {
      if (pixel >= 0) target[of === 'x' ? pixel : taps[i]!]! += slopes[i]!;
    });
    return output;
  };

export const windowKernels: KernelTable = {
  MaxPool: maximum(flat),
  MaxPool3D: maximum(deep),
  MaxPoolGrad: maximumGradient(flat),
  MaxPool3DGrad: maximumGradient(deep),
  MaxPoolWithArgmax: maximumAndPlace,
  AvgPool: mean(flat),
  AvgPool3D: mean(deep),
  AvgPoolGrad: meanGradient(flat),
  AvgPool3DGrad: meanGradient(deep),
  Dilation2D: dilation,
  Dilation2DBackpropInput: gradient('x'),
  Dilation2DBackpropFilter: gradient('filter'),
};
