import {
  backend_util,
  type MaxPool3DAttrs,
  type MaxPoolAttrs,
  type MaxPoolWithArgmaxAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import type { Numbers } from '../stored.js';
import { isChannelsFirst } from './layout.js';
import { type Attributes, fault, input, type Kernel, type KernelTable } from './table.js';
import { forEachTap, type WindowInfo, type Windows, windowsOf } from './windows.js';

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

/** Pooling over images, their channels last; windows over NaN take the others, as tfjs's do. */
export const poolKernels: KernelTable = {
  MaxPool: maximum(flat),
  MaxPool3D: maximum(deep),
  MaxPoolGrad: maximumGradient(flat),
  MaxPool3DGrad: maximumGradient(deep),
  MaxPoolWithArgmax: maximumAndPlace,
  AvgPool: mean(flat),
  AvgPool3D: mean(deep),
  AvgPoolGrad: meanGradient(flat),
  AvgPool3DGrad: meanGradient(deep),
};
