import {
  backend_util,
  type DepthwiseConv2dNativeAttrs,
  type DepthwiseConv2dNativeBackpropFilterAttrs,
  type DepthwiseConv2dNativeBackpropInputAttrs,
} from '@tensorflow/tfjs-core';
import { Binary, Job, ZipParam } from '../abi.js';
import type { KernelContext } from '../kernel-context.js';
import { parametersOf } from '../thread-pool.js';
import { type Attributes, fault, input, type Kernel, type KernelTable } from './kernel.js';
import { activate, addBias } from './mat-mul.js';
import { forEachTap, inside, isChannelsFirst, type Windows, windowsOf } from './windows.js';

type Four = [number, number, number, number];

/** Windows and channels of a convolution whose channels do not mix: each gives `multiplier` of its own. */
function read(kernel: string, x: readonly number[], filter: readonly number[], attributes: Attributes) {
  const { strides, pad, dilations, dimRoundingMode, dataFormat } = attributes as unknown as DepthwiseConv2dNativeAttrs;
  if (isChannelsFirst(dataFormat)) throw fault(kernel, 'unsupported-layout', `only NHWC, not ${dataFormat}`);
  const info = backend_util.computeConv2DInfo(
    ...([x as Four, filter as Four, strides, dilations ?? [1, 1], pad, dimRoundingMode, true] as const),
  );
  const { inChannels: channels, outChannels, outShape } = info;
  return { windows: windowsOf(info), channels, outChannels, multiplier: outChannels / channels, outShape };
}

/**
 * y += x * weights where every channel gives one: for each tap and each row of places, the pixels it meets, all at once. Addresses.
 */
function addTaps(
  backend: KernelContext,
  x: number,
  weights: number,
  y: number,
  windows: Windows,
  channels: number,
): void {
  const [, rows, columns] = windows.axes;
  const [pixel, taps] = [channels * 4, rows.taps * columns.taps];
  const products = backend.scratch(columns.places * pixel);
  const zip = (operation: Binary, a: number, b: number, y: number, rows: number, aStride: number, bStride: number) => {
    const parameters = parametersOf(ZipParam, {
      operation,
      a,
      b,
      y,
      columns: channels,
      aStride,
      bStride,
      aElementStep: 1,
      bElementStep: 1,
      rows,
      chunkRows: rows,
    });
    backend.pool.run(Job.zip, 1, parameters);
  };
  for (let line = 0; line < windows.batch * rows.places; line++) {
    const [image, place] = [Math.floor(line / rows.places), line % rows.places];
    for (let tap = 0; tap < taps; tap++) {
      const row = place * rows.stride - rows.before + Math.floor(tap / columns.taps) * rows.dilation;
      if (row < 0 || row >= rows.size) continue;
      const offset = (tap % columns.taps) * columns.dilation - columns.before;
      const { first, count } = inside(offset, columns);
      const from = x + ((image * rows.size + row) * columns.size + offset + first * columns.stride) * pixel;
      const to = y + (line * columns.places + first) * pixel;
      zip(Binary.Multiply, from, weights + tap * pixel, products, count, columns.stride * pixel, 0);
      zip(Binary.Add, products, to, to, count, pixel, pixel);
    }
  }
}

const depthwise: Kernel = (backend, inputs, attributes) => {
  const [x, filter, bias] = [input(inputs, 'x'), input(inputs, 'filter'), inputs['bias']];
  const shapes = read('DepthwiseConv2dNative', x.shape, filter.shape, attributes);
  const { windows, channels, outChannels, multiplier, outShape } = shapes;
  const output = backend.output(outShape, x.dtype);
  const [values, weights, target] = backend.viewsOf(x, filter, output);
  target.fill(0);
  if (multiplier === 1 && x.dtype === 'float32' && filter.dtype === 'float32' && target.length > 0) {
    addTaps(backend, backend.addressOf(x), backend.addressOf(filter), output.address, windows, channels);
  } else {
    forEachTap(windows, (place, tap, pixel) => {
      const [to, from, weight] = [place * outChannels, pixel * channels, tap * outChannels];
      for (let o = 0; o < outChannels; o++) {
        target[to + o]! += values[from + Math.floor(o / multiplier)]! * weights[weight + o]!;
      }
    });
  }
  return activate(backend, bias === undefined ? output : addBias(backend, output, bias), inputs, attributes);
};

const inputGradient: Kernel = (backend, inputs, attributes) => {
  const [dy, filter] = [input(inputs, 'dy'), input(inputs, 'filter')];
  const { inputShape } = attributes as unknown as DepthwiseConv2dNativeBackpropInputAttrs;
  const shapes = read('DepthwiseConv2dNativeBackpropInput', inputShape, filter.shape, attributes);
  const { windows, channels, outChannels, multiplier } = shapes;
  const output = backend.output(inputShape, 'float32');
  const [slopes, weights, target] = backend.viewsOf(dy, filter, output);
  const sums = new Float64Array(target.length);
  forEachTap(windows, (place, tap, pixel) => {
    let [from, weight] = [place * outChannels, tap * outChannels];
    for (let c = pixel * channels; c < (pixel + 1) * channels; c++) {
      for (let q = 0; q < multiplier; q++) sums[c]! += slopes[from++]! * weights[weight++]!;
    }
  });
  target.set(sums);
  return output;
};

const filterGradient: Kernel = (backend, inputs, attributes) => {
  const [x, dy] = [input(inputs, 'x'), input(inputs, 'dy')];
  const { filterShape } = attributes as unknown as DepthwiseConv2dNativeBackpropFilterAttrs;
  const shapes = read('DepthwiseConv2dNativeBackpropFilter', x.shape, filterShape, attributes);
  const { windows, channels, outChannels, multiplier } = shapes;
  const output = backend.output(filterShape, 'float32');
  const [values, slopes, target] = backend.viewsOf(x, dy, output);
  const sums = new Float64Array(target.length);
  forEachTap(windows, (place, tap, pixel) => {
    let [from, weight] = [place * outChannels, tap * outChannels];
    for (let c = pixel * channels; c < (pixel + 1) * channels; c++) {
      for (let q = 0; q < multiplier; q++) sums[weight++]! += values[c]! * slopes[from++]!;
    }
  });
  target.set(sums);
  return output;
};

export const depthwiseKernels: KernelTable = {
  DepthwiseConv2dNative: depthwise,
  FusedDepthwiseConv2D: depthwise,
  DepthwiseConv2dNativeBackpropInput: inputGradient,
  DepthwiseConv2dNativeBackpropFilter: filterGradient,
};
