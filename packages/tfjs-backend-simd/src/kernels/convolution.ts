import type { FusedConv2DAttrs, TensorInfo } from '@tensorflow/tfjs-core';
import { multiply } from '../product.js';
import type { SimdBackend } from '../simd-backend.js';
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
import { activate, addBias, fusedActivation } from './fused.js';
import { alongChannels, fromChannelsLast, toChannelsLast } from './layout.js';
import { patches } from './patches.js';
import { input, type Kernel, type KernelTable, requireFloats, sizeOf } from './table.js';
import type { WindowInfo } from './windows.js';

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
  backend: SimdBackend,
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
        ...{ c: output.address + row * n * 4, ldc: n * 4 },
        ...{ bias: bias === undefined ? 0 : backend.addressOf(bias) },
        ...(activation === undefined ? {} : { activation }),
      });
    });
    backend.release(images);
  }
  return fromChannelsLast(backend, output, first);
}

export const convolutionKernels: KernelTable = {
  Conv2D: convolution(flat),
  FusedConv2D: convolution(flat),
  Conv3D: convolution(deep),
};
