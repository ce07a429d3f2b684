import {
  backend_util,
  type Conv2DAttrs,
  type Conv2DBackpropFilterAttrs,
  type Conv2DBackpropInputAttrs,
  type Conv3DAttrs,
  type FusedConv2DAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { multiply } from '../product.js';
import type { SimdBackend } from '../simd-backend.js';
import { packedBytes } from '../stored.js';
import { activate, addBias, fusedActivation } from './fused.js';
import { alongChannels, fromChannelsLast, isChannelsFirst, toChannelsLast } from './layout.js';
import { addPatches, patches } from './patches.js';
import { type Attributes, fault, input, type Kernel, type KernelTable, sizeOf } from './table.js';
import { type WindowInfo, type Windows, windowsOf } from './windows.js';

type Four = [number, number, number, number];
type Five = [number, number, number, number, number];

/** How a convolution reads its attributes: for the shapes of its pictures and its filter. */
type InfoOf = (x: readonly number[], filter: readonly number[], attributes: Attributes) => WindowInfo;

const flat: InfoOf = (x, filter, attributes) => {
  const { strides, pad, dataFormat, dilations, dimRoundingMode } = attributes as unknown as Conv2DAttrs;
  const format = backend_util.convertConv2DDataFormat(dataFormat);
  return backend_util.computeConv2DInfo(
    ...([x as Four, filter as Four, strides, dilations ?? 1, pad, dimRoundingMode, false, format] as const),
  );
};

const deep: InfoOf = (x, filter, attributes) => {
  const { strides, pad, dilations, dataFormat } = attributes as unknown as Conv3DAttrs;
  if (isChannelsFirst(dataFormat)) throw fault('Conv3D', 'unsupported-layout', `only NDHWC, not ${dataFormat}`);
  return backend_util.computeConv3DInfo(x as Five, filter as Five, strides, dilations ?? 1, pad);
};

const isFirst = (attributes: Attributes) => isChannelsFirst(attributes['dataFormat'] as string | undefined);

/** A convolution as products of the rows of patches, [m, k], and the filter, [k, n]. */
interface Sizes {
  readonly windows: Windows;
  readonly channels: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
}

function sizesOf(info: WindowInfo): Sizes {
  const windows = windowsOf(info);
  const { inChannels: channels, outChannels: n } = info;
  return { windows, channels, m: windows.places, k: windows.taps * channels, n };
}

/** Shape of the result, or of the pictures, with the channels last. */
const channelsLast = (shape: readonly number[], first: boolean) =>
  first ? [shape[0]!, ...shape.slice(2), shape[1]!] : [...shape];

function requireFloats(kernel: string, ...tensors: readonly TensorInfo[]): void {
  const other = tensors.find(({ dtype }) => dtype !== 'float32');
  if (other !== undefined) throw fault(kernel, 'unsupported-dtype', `only float32, not ${other.dtype}`);
}

/** @throws BackendError where dy has not the shape of the convolution's result. */
function requireSlopes(kernel: string, dy: TensorInfo, { outShape }: WindowInfo): void {
  if (util.arraysEqual(dy.shape, outShape)) return;
  throw fault(kernel, 'shape', `dy is [${dy.shape}], the convolution makes [${outShape}]`);
}

/** y = x * filter (+ bias, activation). A bias of one number a channel is added by the product, any other shape afterwards. */
const convolution =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [x, filter, bias] = [input(inputs, 'x'), input(inputs, 'filter'), inputs['bias']];
    requireFloats('Conv2D', x, filter);
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

/** The products of a convolution, picture by picture. */
function products(
  backend: SimdBackend,
  x: TensorInfo,
  filter: TensorInfo,
  info: WindowInfo,
  first: boolean,
  bias: TensorInfo | undefined,
  activation: ReturnType<typeof fusedActivation>,
): TensorInfo {
  const { windows, channels, m, k, n } = sizesOf(info);
  const output = backend.output(channelsLast(info.outShape, first), 'float32');
  if (sizeOf(output.shape) > 0) {
    const pictures = toChannelsLast(backend, x, first);
    const [panels, rows] = [backend.scratch(packedBytes('f32', k, n)), backend.scratch(m * k * 4)];
    backend.kernels.packPanels(backend.addressOf(filter), n * 4, panels, k, n, k);
    for (let picture = 0; picture < windows.batch; picture++) {
      const from = backend.addressOf(pictures) + picture * windows.pixels * channels * 4;
      patches(backend, from, rows, windows, channels);
      multiply(backend, {
        ...{ m, k, n, a: rows, lda: k * 4, b: { format: 'f32', address: panels, scales: 0 } },
        ...{ c: output.address + picture * m * n * 4, ldc: n * 4 },
        ...{ bias: bias === undefined ? 0 : backend.addressOf(bias) },
        ...(activation === undefined ? {} : { activation }),
      });
    }
    backend.release(pictures);
  }
  return fromChannelsLast(backend, output, first);
}

/** The slopes of x: rows dy · filterᵀ, each added to the pixels that its window saw. */
const inputGradient =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [dy, filter] = [input(inputs, 'dy'), input(inputs, 'filter')];
    const { inputShape } = attributes as unknown as Conv2DBackpropInputAttrs;
    requireFloats('Conv2DBackpropInput', dy, filter);
    const first = isFirst(attributes);
    const { windows, channels, m, k, n } = sizesOf(infoOf(inputShape, filter.shape, attributes));
    const output = backend.output(channelsLast(inputShape, first), 'float32');
    backend.valuesOf(output).fill(0);
    requireSlopes('Conv2DBackpropInput', dy, infoOf(inputShape, filter.shape, attributes));
    const slopes = toChannelsLast(backend, dy, first);
    const [panels, rows] = [backend.scratch(packedBytes('f32', n, k)), backend.scratch(m * k * 4)];
    backend.kernels.packPanelsTransposed(backend.addressOf(filter), n * 4, panels, n, k);
    for (let picture = 0; picture < windows.batch; picture++) {
      const a = backend.addressOf(slopes) + picture * m * n * 4;
      const b = { format: 'f32', address: panels, scales: 0 } as const;
      multiply(backend, { m, k: n, n: k, a, lda: n * 4, b, c: rows, ldc: k * 4 });
      addPatches(backend, rows, output.address + picture * windows.pixels * channels * 4, windows, channels);
    }
    backend.release(slopes);
    return fromChannelsLast(backend, output, first);
  };

/** The slopes of the filter: patchesᵀ · dy, summed over the pictures. */
const filterGradient =
  (infoOf: InfoOf): Kernel =>
  (backend, inputs, attributes) => {
    const [x, dy] = [input(inputs, 'x'), input(inputs, 'dy')];
    const { filterShape } = attributes as unknown as Conv2DBackpropFilterAttrs;
    requireFloats('Conv2DBackpropFilter', x, dy);
    const first = isFirst(attributes);
    const { windows, channels, m, k, n } = sizesOf(infoOf(x.shape, filterShape, attributes));
    requireSlopes('Conv2DBackpropFilter', dy, infoOf(x.shape, filterShape, attributes));
    const output = backend.output(filterShape, 'float32');
    backend.valuesOf(output).fill(0);
    const [pictures, slopes] = [toChannelsLast(backend, x, first), toChannelsLast(backend, dy, first)];
    const [panels, rows] = [backend.scratch(packedBytes('f32', m, n)), backend.scratch(m * k * 4)];
    const part = backend.scratch(k * n * 4);
    for (let picture = 0; picture < windows.batch; picture++) {
      const from = backend.addressOf(pictures) + picture * windows.pixels * channels * 4;
      patches(backend, from, rows, windows, channels);
      backend.kernels.packPanels(backend.addressOf(slopes) + picture * m * n * 4, n * 4, panels, m, n, m);
      const b = { format: 'f32', address: panels, scales: 0 } as const;
      multiply(backend, { m: k, k: m, n, a: rows, lda: k * 4, transposed: true, b, c: part, ldc: n * 4 });
      const [sums, values] = [backend.valuesOf(output), backend.view(part, k * n, 'float32')];
      for (let i = 0; i < sums.length; i++) sums[i]! += values[i]!;
    }
    for (const tensor of [pictures, slopes]) backend.release(tensor);
    return output;
  };

export const convolutionKernels: KernelTable = {
  Conv2D: convolution(flat),
  FusedConv2D: convolution(flat),
  Conv2DBackpropInput: inputGradient(flat),
  Conv2DBackpropFilter: filterGradient(flat),
  Conv3D: convolution(deep),
  Conv3DBackpropInputV2: inputGradient(deep),
  Conv3DBackpropFilterV2: filterGradient(deep),
};
