import { backend_util, type Dilation2DAttrs, type TensorInfo } from '@tensorflow/tfjs-core';
import type { Numbers } from '../stored.js';
import { type Attributes, type Inputs, input, type Kernel, type KernelTable } from './table.js';
import { forEachTap, type Windows, windowsOf } from './windows.js';

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
      if (sum <= sums[to]!) continue;
      [sums[to], pixels[to], taps[to]] = [sum, pixel * channels + c, tap * channels + c];
    }
  });
  return { sums, pixels, taps };
}

/** Greyscale dilation: the largest of pixel + filter in each window. */
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

export const dilationKernels: KernelTable = {
  Dilation2D: dilation,
  Dilation2DBackpropInput: gradient('x'),
  Dilation2DBackpropFilter: gradient('filter'),
};
