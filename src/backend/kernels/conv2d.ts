import { backend_util, type Conv2DAttrs, type FusedConv2DAttrs, type TensorInfo } from '@tensorflow/tfjs-core';
import { BackendError } from '../../errors.js';
import { multiply } from '../product.js';
import type { SimdBackend } from '../simd-backend.js';
import { packedBytes } from '../stored.js';
import { copyStrided } from './copy.js';
import { activate, fusedActivation } from './mat-mul.js';
import { type Attributes, type Inputs, input, type KernelTable, sizeOf, stridesOf } from './table.js';

type Info = backend_util.Conv2DInfo;

/**
 * The patches of one picture as rows [outHeight * outWidth, filterHeight * filterWidth * channels] at `to`. For each place in the
 * filter, the pixels it meets are one strided copy; those outside the picture stay zero.
 */
function patches(backend: SimdBackend, from: number, to: number, info: Info): void {
  const { filterHeight, filterWidth, inChannels, outHeight, outWidth, inHeight, inWidth } = info;
  const width = filterHeight * filterWidth * inChannels;
  backend.view(to, outHeight * outWidth * width, 'float32').fill(0);
  // Output places whose pixel lies inside the picture, for an offset of the filter.
  const inside = (offset: number, stride: number, size: number, count: number) => {
    const first = Math.max(0, Math.ceil(-offset / stride));
    return { first, count: Math.max(0, Math.min(count, Math.floor((size - 1 - offset) / stride) + 1) - first) };
  };
  const [rowStride = 0] = stridesOf([inHeight, inWidth, inChannels]);
  for (let y = 0; y < filterHeight; y++) {
    for (let x = 0; x < filterWidth; x++) {
      const top = y * info.dilationHeight - info.padInfo.top;
      const left = x * info.dilationWidth - info.padInfo.left;
      const rows = inside(top, info.strideHeight, inHeight, outHeight);
      const columns = inside(left, info.strideWidth, inWidth, outWidth);
      const pixel =
        (top + rows.first * info.strideHeight) * rowStride + (left + columns.first * info.strideWidth) * inChannels;
      const place = (rows.first * outWidth + columns.first) * width + (y * filterWidth + x) * inChannels;
      copyStrided(backend, {
        ...{ from: from + pixel * 4, to: to + place * 4, elementBytes: 4 },
        dims: [rows.count, columns.count, inChannels],
        fromStrides: [info.strideHeight * rowStride, info.strideWidth * inChannels, 1],
        toStrides: [outWidth * width, width, 1],
      });
    }
  }
}

/** A convolution as a product of patches and filter. @throws BackendError where the layout is not NHWC or the type not float32. */
function convolution(backend: SimdBackend, inputs: Inputs, attributes: Attributes): TensorInfo {
  const [x, filter, bias] = [input(inputs, 'x'), input(inputs, 'filter'), inputs['bias']];
  const { strides, pad, dataFormat, dilations, dimRoundingMode } = attributes as unknown as Conv2DAttrs;
  if (dataFormat !== 'NHWC' || x.dtype !== 'float32') {
    const detail = `only float32 NHWC, not ${x.dtype} ${dataFormat}`;
    throw new BackendError({ place: 'simd: Conv2D', rule: 'unsupported-layout', detail, unsupported: true });
  }
  const format = backend_util.convertConv2DDataFormat(dataFormat);
  const info = backend_util.computeConv2DInfo(
    ...([x.shape as [number, number, number, number], filter.shape as [number, number, number, number]] as const),
    ...([strides, dilations, pad, dimRoundingMode, false, format] as const),
  );
  const { outHeight, outWidth, outChannels: n, batchSize } = info;
  const [m, k] = [outHeight * outWidth, sizeOf(filter.shape.slice(0, 3))];
  const output = backend.output([batchSize, outHeight, outWidth, n], 'float32');
  if (sizeOf(output.shape) === 0) return output;
  const [panels, rows] = [backend.scratch(packedBytes('f32', k, n)), backend.scratch(m * k * 4)];
  backend.kernels.packPanels(backend.addressOf(filter), n * 4, panels, k, n, k);
  const row = bias === undefined || sizeOf(bias.shape) === n ? bias : undefined;
  const { activation } = attributes as unknown as Partial<FusedConv2DAttrs>;
  const fused = bias === row ? fusedActivation(activation) : undefined;
  for (let batch = 0; batch < batchSize; batch++) {
    patches(backend, backend.addressOf(x) + batch * sizeOf(x.shape.slice(1)) * 4, rows, info);
    multiply(backend, {
      ...{ m, k, n, a: rows, lda: k * 4, b: { format: 'f32', address: panels, scales: 0 } },
      ...{ c: output.address + batch * m * n * 4, ldc: n * 4, bias: row === undefined ? 0 : backend.addressOf(row) },
      ...(fused === undefined ? {} : { activation: fused }),
    });
  }
  return activate(backend, output, inputs, attributes);
}

export const conv2dKernels: KernelTable = { Conv2D: convolution, FusedConv2D: convolution };
