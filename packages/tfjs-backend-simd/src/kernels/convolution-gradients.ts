import {
  type Conv2DBackpropFilterAttrs,
  type Conv2DBackpropInputAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { multiply } from '../product.js';
import { packedBytes } from '../stored.js';
import {
  channelsLast,
  deep,
  flat,
  forEachPart,
  type InfoOf,
  isFirst,
  mostRows,
  sizesOf,
} from './convolution-shapes.js';
import { fromChannelsLast, toChannelsLast } from './layout.js';
import { addPatches, patches } from './patches.js';
import { fault, input, type Kernel, type KernelTable, requireFloats } from './table.js';
import type { WindowInfo } from './windows.js';

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

export const convolutionGradientKernels: KernelTable = {
  Conv2DBackpropInput: inputGradient(flat),
  Conv2DBackpropFilter: filterGradient(flat),
  Conv3DBackpropInputV2: inputGradient(deep),
  Conv3DBackpropFilterV2: filterGradient(deep),
};
