import {
  backend_util,
  type Conv2DAttrs,
  type Conv2DBackpropFilterAttrs,
  type Conv2DBackpropInputAttrs,
  type Conv3DAttrs,
  type DepthwiseConv2dNativeAttrs,
  type DepthwiseConv2dNativeBackpropFilterAttrs,
  type DepthwiseConv2dNativeBackpropInputAttrs,
  type FusedConv2DAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { Binary, Job, ZipParam } from '../abi.js';
import {
  type Attributes,
  fault,
  input,
  type Kernel,
  type KernelContext,
  type KernelTable,
  requireFloats,
  sizeOf,
} from '../kernel-context.js';
import { multiply } from '../product.js';
import { packedBytes } from '../tensor-memory.js';
import { parametersOf } from '../thread-pool.js';
import { activate, addBias, fusedActivation } from './mat-mul.js';
import { copyStrided, transpose } from './movement.js';
import { forEachTap, inside, isChannelsFirst, partsOf, type WindowInfo, type Windows, windowsOf } from './windows.js';

/** Images with their channels last, as all kernels here want them: a tensor of its own, to be released. */
export function toChannelsLast(backend: KernelContext, x: TensorInfo, channelsFirst: boolean): TensorInfo {
  if (!channelsFirst) return backend.alias(x, x.shape);
  return transpose(backend, x, [0, ...x.shape.slice(2).map((_, d) => d + 2), 1]);
}

/** The way back; takes `x` over. */
export function fromChannelsLast(backend: KernelContext, x: TensorInfo, channelsFirst: boolean): TensorInfo {
  if (!channelsFirst) return x;
  const y = transpose(backend, x, [0, x.shape.length - 1, ...x.shape.slice(2).map((_, d) => d + 1)]);
  backend.release(x);
  return y;
}

/** One number a channel, so that it broadcasts where these are first: [C] as [C, 1, 1]. The same data, for this kernel only. */
export function alongChannels(vector: TensorInfo, channelsFirst: boolean): TensorInfo {
  const perChannel = channelsFirst && vector.shape.length === 1 && vector.shape[0] !== 1;
  return perChannel ? { ...vector, shape: [vector.shape[0]!, 1, 1] } : vector;
}

/**
 * The windows of one image at `from`, as rows [places, taps * channels] at `to`. For each tap, the pixels it meets are one
 * strided copy; what is outside the image is zero.
 */
export function patches(backend: KernelContext, from: number, to: number, windows: Windows, channels: number): void {
  const { axes, places, taps } = windows;
  const width = taps * channels;
  backend.view(to, places * width, 'float32').fill(0);
  const [, rows, columns] = axes;
  const fromStrides = [rows.size * columns.size * channels, columns.size * channels, channels];
  const toStrides = [rows.places * columns.places * width, columns.places * width, width];
  for (let tap = 0; tap < taps; tap++) {
    const z = Math.floor(tap / (rows.taps * columns.taps));
    const taken = [z, Math.floor(tap / columns.taps) % rows.taps, tap % columns.taps];
    const offsets = axes.map(({ dilation, before }, d) => taken[d]! * dilation - before);
    const met = axes.map((axis, d) => inside(offsets[d]!, axis));
    const pixel = met.reduce((at, { first }, d) => at + (offsets[d]! + first * axes[d]!.stride) * fromStrides[d]!, 0);
    const place = met.reduce((at, { first }, d) => at + first * toStrides[d]!, tap * channels);
    copyStrided(backend, {
      from: from + pixel * 4,
      to: to + place * 4,
      elementBytes: 4,
      dims: [...met.map(({ count }) => count), channels],
      fromStrides: [...fromStrides.map((step, d) => step * axes[d]!.stride), 1],
      toStrides: [...toStrides, 1],
    });
  }
}

/** The way back: adds rows [places, taps * channels] at `from` to the pixels of one image at `to`. */
export function addPatches(backend: KernelContext, from: number, to: number, windows: Windows, channels: number): void {
  const { places, pixels, taps } = windows;
  const rows = backend.view(from, places * taps * channels, 'float32');
  const target = backend.view(to, pixels * channels, 'float32');
  forEachTap({ ...windows, batch: 1 }, (place, tap, pixel) => {
    let [at, source] = [pixel * channels, (place * taps + tap) * channels];
    for (let c = 0; c < channels; c++) target[at++]! += rows[source++]!;
  });
}

type Four = [number, number, number, number];
type Five = [number, number, number, number, number];

/** How a convolution reads its attributes: for the shapes of its images and its filter. */
export type InfoOf = (x: readonly number[], filter: readonly number[], attributes: Attributes) => WindowInfo;

export const flat: InfoOf = (x, filter, attributes) => {
  const { strides, pad, dataFormat, dilations, dimRoundingMode } = attributes as unknown as Conv2DAttrs;
  const format = backend_util.convertConv2DDataFormat(dataFormat);
  return backend_util.computeConv2DInfo(
    ...([x as Four, filter as Four, strides, dilations ?? 1, pad, dimRoundingMode, false, format] as const),
  );
};

export const deep: InfoOf = (x, filter, attributes) => {
  const { strides, pad, dilations, dataFormat } = attributes as unknown as Conv3DAttrs;
  if (isChannelsFirst(dataFormat)) throw fault('Conv3D', 'unsupported-layout', `only NDHWC, not ${dataFormat}`);
  return backend_util.computeConv3DInfo(x as Five, filter as Five, strides, dilations ?? 1, pad);
};

export const isFirst = (attributes: Attributes) => isChannelsFirst(attributes['dataFormat'] as string | undefined);

/** A convolution as products of the rows of patches, [m, k], and the filter, [k, n]. */
export interface Sizes {
  readonly windows: Windows;
  readonly channels: number;
  /** Rows of one image. */
  readonly m: number;
  readonly k: number;
  readonly n: number;
}

export function sizesOf(info: WindowInfo): Sizes {
  const windows = windowsOf(info);
  const { inChannels: channels, outChannels: n } = info;
  return { windows, channels, m: windows.places, k: windows.taps * channels, n };
}

/** Bytes of patches at once: a large image would not fit in memory many times over, and a small part stays in the cache. */
const PATCH_BYTES = 8 * 2 ** 20;

const partsOfImage = ({ windows, k }: Sizes) => partsOf(windows, PATCH_BYTES / Math.max(4, k * 4));

/** Each part of each image: bytes to its image, numbers of rows to its first one, and the rows it has. */
export function forEachPart(
  sizes: Sizes,
  visit: (part: Windows, pixels: number, rows: number, count: number) => void,
): void {
  const { windows, channels, m } = sizes;
  const parts = partsOfImage(sizes);
  for (let image = 0; image < windows.batch; image++) {
    const pixels = image * windows.pixels * channels * 4;
    for (const { part, first } of parts) visit(part, pixels, image * m + first, part.places);
  }
}

/** Rows of the largest part. */
export const mostRows = (sizes: Sizes) => Math.max(0, ...partsOfImage(sizes).map(({ part }) => part.places));

/** Shape of the result, or of the images, with the channels last. */
export const channelsLast = (shape: readonly number[], first: boolean) =>
  first ? [shape[0]!, ...shape.slice(2), shape[1]!] : [...shape];

/** y = x * filter (+ bias, activation). A bias of one number a channel is added by the product, any other shape afterwards. */
const convolution =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [x, filter, bias] = [input(inputs, 'x'), input(inputs, 'filter'), inputs['bias']];
    requireFloats('Conv2D', x, filter, bias);
    const first = isFirst(attributes);
    const info = infoOf(x.shape, filter.shape, attributes);
    const { n } = sizesOf(info);
    const row = bias !== undefined && !first && sizeOf(bias.shape) === n && bias.shape.at(-1) === n;
    const { activation } = attributes as unknown as Partial<FusedConv2DAttrs>;
    const fused = bias === undefined || row ? fusedActivation(activation) : undefined;
    const y = products(backend, x, filter, info, first, row ? bias : undefined, fused);
    const sum = bias === undefined || row ? y : addBias(backend, y, alongChannels(bias, first));
    if (fused !== undefined) return sum;
    const alpha = inputs['preluActivationWeights'];
    const rest = alpha === undefined ? inputs : { ...inputs, preluActivationWeights: alongChannels(alpha, first) };
    return activate(backend, sum, rest, attributes);
  };

/** The products of a convolution, image by image. */
function products(
  backend: KernelContext,
  x: TensorInfo,
  filter: TensorInfo,
  info: WindowInfo,
  first: boolean,
  bias: TensorInfo | undefined,
  activation: ReturnType<typeof fusedActivation>,
): TensorInfo {
  const sizes = sizesOf(info);
  const { channels, k, n } = sizes;
  const output = backend.output(channelsLast(info.outShape, first), 'float32');
  if (sizeOf(output.shape) > 0) {
    const images = toChannelsLast(backend, x, first);
    const [panels, patched] = [backend.scratch(packedBytes('f32', k, n)), backend.scratch(mostRows(sizes) * k * 4)];
    backend.kernels.packPanels(backend.addressOf(filter), n * 4, panels, k, n, k);
    forEachPart(sizes, (part, pixels, row, m) => {
      patches(backend, backend.addressOf(images) + pixels, patched, part, channels);
      multiply(backend, {
        ...{ m, k, n, a: patched, lda: k * 4, b: { format: 'f32', address: panels, scales: 0 } },
        c: output.address + row * n * 4,
        ldc: n * 4,
        bias: bias === undefined ? 0 : backend.addressOf(bias),
        activation,
      });
    });
    backend.release(images);
  }
  return fromChannelsLast(backend, output, first);
}

/** @throws BackendError where dy has not the shape of the convolution's result. */
function requireSlopes(kernel: string, dy: TensorInfo, { outShape }: WindowInfo): void {
  if (util.arraysEqual(dy.shape, outShape)) return;
  throw fault(kernel, 'shape', `dy is [${dy.shape}], the convolution makes [${outShape}]`);
}

/** The slopes of x: rows dy · filterᵀ, each added to the pixels that its window saw. */
const inputGradient =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [dy, filter] = [input(inputs, 'dy'), input(inputs, 'filter')];
    const { inputShape } = attributes as unknown as Conv2DBackpropInputAttrs;
    requireFloats('Conv2DBackpropInput', dy, filter);
    const first = isFirst(attributes);
    const sizes = sizesOf(infoOf(inputShape, filter.shape, attributes));
    const { channels, k, n } = sizes;
    const output = backend.output(channelsLast(inputShape, first), 'float32');
    backend.valuesOf(output).fill(0);
    requireSlopes('Conv2DBackpropInput', dy, infoOf(inputShape, filter.shape, attributes));
    const slopes = toChannelsLast(backend, dy, first);
    const [panels, patched] = [backend.scratch(packedBytes('f32', n, k)), backend.scratch(mostRows(sizes) * k * 4)];
    backend.kernels.packPanelsTransposed(backend.addressOf(filter), n * 4, panels, n, k);
    forEachPart(sizes, (part, pixels, row, m) => {
      const a = backend.addressOf(slopes) + row * n * 4;
      const b = { format: 'f32', address: panels, scales: 0 } as const;
      multiply(backend, { m, k: n, n: k, a, lda: n * 4, b, c: patched, ldc: k * 4 });
      addPatches(backend, patched, output.address + pixels, part, channels);
    });
    backend.release(slopes);
    return fromChannelsLast(backend, output, first);
  };

/** The slopes of the filter: patchesᵀ · dy, summed over the images. */
const filterGradient =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [x, dy] = [input(inputs, 'x'), input(inputs, 'dy')];
    const { filterShape } = attributes as unknown as Conv2DBackpropFilterAttrs;
    requireFloats('Conv2DBackpropFilter', x, dy);
    const first = isFirst(attributes);
    const sizes = sizesOf(infoOf(x.shape, filterShape, attributes));
    const { channels, k, n } = sizes;
    requireSlopes('Conv2DBackpropFilter', dy, infoOf(x.shape, filterShape, attributes));
    const output = backend.output(filterShape, 'float32');
    backend.valuesOf(output).fill(0);
    const [images, slopes] = [toChannelsLast(backend, x, first), toChannelsLast(backend, dy, first)];
    const most = mostRows(sizes);
    const [panels, patched] = [backend.scratch(packedBytes('f32', most, n)), backend.scratch(most * k * 4)];
    const share = backend.scratch(k * n * 4);
    forEachPart(sizes, (part, pixels, row, m) => {
      patches(backend, backend.addressOf(images) + pixels, patched, part, channels);
      backend.kernels.packPanels(backend.addressOf(slopes) + row * n * 4, n * 4, panels, m, n, m);
      const b = { format: 'f32', address: panels, scales: 0 } as const;
      multiply(backend, { m: k, k: m, n, a: patched, lda: k * 4, transposed: true, b, c: share, ldc: n * 4 });
      const [sums, values] = [backend.valuesOf(output), backend.view(share, k * n, 'float32')];
      for (let i = 0; i < sums.length; i++) sums[i]! += values[i]!;
    });
    for (const tensor of [images, slopes]) backend.release(tensor);
    return output;
  };

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

const depthwiseInputGradient: Kernel = (backend, inputs, attributes) => {
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

const depthwiseFilterGradient: Kernel = (backend, inputs, attributes) => {
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

export const convolutionKernels: KernelTable = {
  Conv2D: convolution(flat),
  FusedConv2D: convolution(flat),
  Conv3D: convolution(deep),
  Conv2DBackpropInput: inputGradient(flat),
  Conv2DBackpropFilter: filterGradient(flat),
  Conv3DBackpropInputV2: inputGradient(deep),
  Conv3DBackpropFilterV2: filterGradient(deep),
  DepthwiseConv2dNative: depthwise,
  FusedDepthwiseConv2D: depthwise,
  DepthwiseConv2dNativeBackpropInput: depthwiseInputGradient,
  DepthwiseConv2dNativeBackpropFilter: depthwiseFilterGradient,
};
