import fc from 'fast-check';
import { type Spec, specs } from '../support.js';
import { FLOAT, filled, indices, type KernelCase, type KernelCases, kernelCase } from './case.js';

/** The shape of a window that moves over images. */
interface Geometry {
  readonly batch: number;
  readonly spatial: number[];
  readonly filter: number[];
  readonly strides: number[];
  readonly channels: number;
  readonly out: number;
  readonly pad: 'same' | 'valid';
}

const geometries = (rank: number): fc.Arbitrary<Geometry> => {
  const list = (min: number, max: number) => fc.array(fc.integer({ min, max }), { minLength: rank, maxLength: rank });
  return fc.record({
    batch: fc.integer({ min: 1, max: 2 }),
    spatial: list(3, 6),
    filter: list(1, 3),
    strides: list(1, 2),
    channels: fc.integer({ min: 1, max: 3 }),
    out: fc.integer({ min: 1, max: 9 }),
    pad: fc.constantFrom('same', 'valid'),
  });
};

/** Places of a window along each axis. */
const placesOf = ({ spatial, filter, strides, pad }: Geometry) =>
  spatial.map((n, d) => Math.ceil((pad === 'same' ? n : n - filter[d]! + 1) / strides[d]!));

const TOLERANCE = 2e-5;

/** Each case gets images, a filter, and slopes of the shape of the result. */
function windowCase(
  rank: number,
  outChannels: (geometry: Geometry) => number,
  filterShape: (geometry: Geometry) => number[],
  of: (tensors: { x: Spec; filter: Spec; dy: Spec }, geometry: Geometry) => Partial<Record<string, unknown>>,
  change = (geometry: Geometry): Geometry => geometry,
): KernelCase {
  return kernelCase(
    geometries(rank)
      .map(change)
      .chain((geometry) => {
        const x = specs([geometry.batch, ...geometry.spatial, geometry.channels]);
        const dy = specs([geometry.batch, ...placesOf(geometry), outChannels(geometry)]);
        return fc.record({ x, filter: specs(filterShape(geometry)), dy }).map((all) => {
          const { inputs, ...attributes } = of(all, geometry);
          const { strides, pad } = geometry;
          return { inputs: inputs as Record<string, Spec>, attributes: { strides, pad, ...attributes } };
        });
      }),
    TOLERANCE,
  );
}

type Of = Parameters<typeof windowCase>[3];

const NHWC = { dataFormat: 'NHWC', dilations: 1 };
const NDHWC = { dataFormat: 'NDHWC', dilations: 1 };
const dense = (rank: number, of: Of) =>
  windowCase(
    rank,
    ({ out }) => out,
    ({ filter, channels, out }) => [...filter, channels, out],
    of,
  );
/** Depthwise: two results a channel. */
const apart = (of: Of) =>
  windowCase(
    2,
    ({ channels }) => channels * 2,
    ({ filter, channels }) => [...filter, channels, 2],
    of,
  );
/** The same with one result a channel, which has a way of its own. */
const single = (of: Of) =>
  windowCase(
    2,
    ({ channels }) => channels,
    ({ filter, channels }) => [...filter, channels, 1],
    of,
  );
const pooling = (rank: number, of: Of) =>
  windowCase(
    rank,
    ({ channels }) => channels,
    () => [1],
    of,
  );
/** tfjs's dilation gives its slopes the type of x, and needs strides of 1 for its gradients to fit. */
const grayscale = (of: Of) =>
  windowCase(
    2,
    ({ channels }) => channels,
    ({ filter, channels }) => [...filter, channels],
    of,
  );

/** Windows of 2 x 2 x 2: in others tfjs's cpu backend mixes up rows and columns (beyond-cpu.test.ts has them). */
const cubes = (of: Of): KernelCase => {
  const cube = (geometry: Geometry): Geometry => ({ ...geometry, filter: [2, 2, 2] });
  return windowCase(
    3,
    ({ channels }) => channels,
    () => [1],
    of,
    cube,
  );
};

const filterSize = ({ filter }: Geometry) => ({ filterSize: filter });

export const windowCases: KernelCases = {
  Conv2D: dense(2, ({ x, filter }) => ({ inputs: { x, filter }, ...NHWC })),
  FusedConv2D: dense(2, ({ x, filter }, { out }) => ({
    inputs: { x, filter, bias: { shape: [out], dtype: 'float32', values: new Array(out).fill(0.5) } },
    ...{ ...NHWC, activation: 'relu6' },
  })),
  Conv2DBackpropInput: dense(2, ({ x, filter, dy }) => ({ inputs: { dy, filter }, inputShape: x.shape, ...NHWC })),
  Conv2DBackpropFilter: dense(2, ({ x, filter, dy }) => ({ inputs: { x, dy }, filterShape: filter.shape, ...NHWC })),
  Conv3D: dense(3, ({ x, filter }) => ({ inputs: { x, filter }, ...NDHWC })),
  Conv3DBackpropInputV2: dense(3, ({ x, filter, dy }) => ({ inputs: { dy, filter }, inputShape: x.shape })),
  Conv3DBackpropFilterV2: dense(3, ({ x, filter, dy }) => ({ inputs: { x, dy }, filterShape: filter.shape })),
  DepthwiseConv2dNative: apart(({ x, filter }) => ({ inputs: { x, filter }, ...NHWC })),
  FusedDepthwiseConv2D: single(({ x, filter }) => ({ inputs: { x, filter }, ...NHWC, activation: 'elu' })),
  DepthwiseConv2dNativeBackpropInput: apart(({ x, filter, dy }) => ({
    inputs: { dy, filter },
    inputShape: x.shape,
    ...{ ...NHWC, dilations: [1, 1] },
  })),
  DepthwiseConv2dNativeBackpropFilter: apart(({ x, filter, dy }) => ({
    inputs: { x, dy },
    filterShape: filter.shape,
    ...{ ...NHWC, dilations: [1, 1] },
  })),
  Dilation2D: grayscale(({ x, filter }) => ({ inputs: { x, filter }, dilations: [1, 1] })),
  Dilation2DBackpropInput: grayscale(({ x, filter, dy }) => ({ inputs: { x, filter, dy }, dilations: [1, 1] })),
  Dilation2DBackpropFilter: grayscale(({ x, filter, dy }) => ({ inputs: { x, filter, dy }, dilations: [1, 1] })),
  MaxPool: pooling(2, ({ x }, g) => ({ inputs: { x }, ...filterSize(g) })),
  AvgPool: pooling(2, ({ x }, g) => ({ inputs: { x }, ...filterSize(g) })),
  MaxPool3D: pooling(3, ({ x }, g) => ({ inputs: { x }, ...filterSize(g), dataFormat: 'NDHWC' })),
  AvgPool3D: pooling(3, ({ x }, g) => ({ inputs: { x }, ...filterSize(g), dataFormat: 'NDHWC' })),
  MaxPoolGrad: pooling(2, ({ x, dy }, g) => ({ inputs: { dy, input: x, output: dy }, ...filterSize(g) })),
  AvgPoolGrad: pooling(2, ({ x, dy }, g) => ({ inputs: { dy, input: x }, ...filterSize(g) })),
  MaxPool3DGrad: cubes(({ x, dy }) => ({ inputs: { dy, input: x, output: dy }, filterSize: [2, 2, 2] })),
  AvgPool3DGrad: pooling(3, ({ x, dy }, g) => ({ inputs: { dy, input: x }, ...filterSize(g) })),
  MaxPoolWithArgmax: pooling(2, ({ x }, g) => ({ inputs: { x }, ...filterSize(g), includeBatchInIndex: true })),
};

const size = fc.integer({ min: 1, max: 7 });

/**
 * Images and another size. For gradients tfjs's cpu backend needs a single square image, else it swaps height and width, or
 * reads the wrong image (beyond-cpu.test.ts has the others).
 */
const resizing = (gradient: boolean): KernelCase =>
  kernelCase(
    fc
      .tuple(size, size, size, size, fc.boolean(), fc.boolean())
      .chain(([height, width, toHeight, toWidth, alignCorners, half]) => {
        const square = Math.max(2, height); // with one pixel and aligned corners cpu never ends
        const images = specs(gradient ? [1, square, square, 3] : [2, height, width, 3]);
        const dy = specs([1, toHeight, toWidth, 3]);
        const halfPixelCenters = half && !alignCorners && !gradient;
        return fc.tuple(images, dy).map(([x, slopes]) => ({
          inputs: gradient ? { images: x, dy: slopes } : { images: x },
          attributes: { alignCorners, halfPixelCenters, size: [toHeight, toWidth] },
        }));
      }),
    1e-5,
  );

const images = filled(FLOAT, { minRank: 4, maxRank: 4, most: 6 });

/** tfjs's cpu backend transforms the first image only. */
const oneImage = images.map(({ shape, dtype, values }): Spec => {
  const own = [1, ...shape.slice(1)];
  return {
    shape: own,
    dtype,
    values: values.slice(
      0,
      own.reduce((size, n) => size * n, 1),
    ),
  };
});

export const imageCases: KernelCases = {
  ResizeBilinear: resizing(false),
  ResizeBilinearGrad: resizing(true),
  ResizeNearestNeighbor: resizing(false),
  ResizeNearestNeighborGrad: resizing(true),
  CropAndResize: kernelCase(
    images.chain((image) =>
      fc
        .tuple(
          ...[specs([3, 4], 'float32', { min: -0.2, max: 1.2 }), indices([3], image.shape[0]!)],
          ...[fc.constantFrom('bilinear', 'nearest'), fc.tuple(size, size)],
        )
        .map(([boxes, boxInd, method, cropSize]) => ({
          inputs: { image, boxes, boxInd } as Record<string, Spec>,
          attributes: { cropSize, method, extrapolationValue: 0.5 },
        })),
    ),
    1e-5,
  ),
  RotateWithOffset: kernelCase(
    fc.tuple(images, fc.integer({ min: -30, max: 30 })).map(([image, r]) => ({
      inputs: { image },
      attributes: { radians: r / 10, fillValue: r % 2 === 0 ? 3 : [1, 2, 3, 4, 5, 6], center: [0.3, 0.6] },
    })),
  ),
  Transform: kernelCase(
    fc
      .tuple(
        ...[oneImage, specs([1, 8], 'float32', { min: -1, max: 1 }), fc.constantFrom('nearest', 'bilinear')],
        ...[fc.constantFrom('constant', 'reflect', 'wrap', 'nearest'), fc.tuple(size, size)],
      )
      .map(([image, transforms, interpolation, fillMode, outputShape]) => ({
        inputs: { image, transforms } as Record<string, Spec>,
        attributes: { interpolation, fillMode, fillValue: 0.5, outputShape },
      })),
    1e-4,
  ),
  FusedBatchNorm: kernelCase(
    fc.tuple(filled(FLOAT, { minRank: 1 }), fc.boolean()).chain(([x, full]) => {
      const shape = full ? x.shape : x.shape.slice(-1);
      const some = specs(shape);
      return fc
        .tuple(some, specs(shape, 'float32', { min: 0.1, max: 4 }), some, some, fc.boolean())
        .map(([mean, variance, offset, scale, all]) => ({
          inputs: all ? { x, mean, variance, offset, scale } : { x, mean, variance },
          attributes: { varianceEpsilon: 1e-3 },
        }));
    }),
    1e-5,
  ),
  LRN: kernelCase(
    images.map((x) => ({ inputs: { x }, attributes: { depthRadius: 2, bias: 1, alpha: 0.5, beta: 0.75 } })),
    1e-6,
  ),
  LRNGrad: kernelCase(
    images.chain((x) =>
      fc.tuple(specs(x.shape), specs(x.shape)).map(([y, dy]) => ({
        inputs: { x, y, dy },
        attributes: { depthRadius: 2, bias: 1, alpha: 0.5, beta: 0.75 },
      })),
    ),
    1e-5,
  ),
};
