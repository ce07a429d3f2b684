import type { ResizeBilinearAttrs, TensorInfo } from '@tensorflow/tfjs-core';
import { type Attributes, input, type Kernel, type KernelTable } from './table.js';

/** A pixel of the result along one axis: two neighbours in the picture, and the share of the second. */
interface Tap {
  readonly low: number;
  readonly high: number;
  readonly share: number;
}

type TapsOf = (from: number, to: number, attributes: ResizeBilinearAttrs) => Tap[];

const scaleOf = (from: number, to: number, alignCorners: boolean) =>
  alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to;

const clamp = (x: number, most: number) => Math.min(Math.max(x, 0), most);

const linear: TapsOf = (from, to, { alignCorners, halfPixelCenters }) =>
  Array.from({ length: to }, (_, i) => {
    const scale = scaleOf(from, to, alignCorners);
    const at = clamp(halfPixelCenters ? scale * (i + 0.5) - 0.5 : scale * i, from - 1);
    return { low: Math.floor(at), high: Math.ceil(at), share: at - Math.floor(at) };
  });

const nearest: TapsOf = (from, to, { alignCorners, halfPixelCenters }) =>
  Array.from({ length: to }, (_, i) => {
    const at = scaleOf(from, to, alignCorners) * (halfPixelCenters ? i + 0.5 : i);
    const low = clamp(alignCorners ? Math.round(at) : Math.floor(at), from - 1);
    return { low, high: low, share: 0 };
  });

/** Visits the pixels of the result and, for each, the offsets of up to four pixels of the picture with their shares. */
function forEachPixel(
  picture: TensorInfo,
  [height, width]: readonly [number, number],
  attributes: ResizeBilinearAttrs,
  tapsOf: TapsOf,
  visit: (to: number, corners: readonly (readonly [number, number])[]) => void,
): void {
  const [batch = 0, inHeight = 0, inWidth = 0, channels = 0] = picture.shape;
  const [rows, columns] = [tapsOf(inHeight, height, attributes), tapsOf(inWidth, width, attributes)];
  let to = 0;
  for (let b = 0; b < batch; b++) {
    const offset = (y: number, x: number) => ((b * inHeight + y) * inWidth + x) * channels;
    for (const y of rows) {
      for (const x of columns) {
        const corners: [number, number][] = [
          [offset(y.low, x.low), (1 - y.share) * (1 - x.share)],
          [offset(y.low, x.high), (1 - y.share) * x.share],
          [offset(y.high, x.low), y.share * (1 - x.share)],
          [offset(y.high, x.high), y.share * x.share],
        ];
        visit(
          to,
          corners.filter(([, share]) => share !== 0),
        );
        to += channels;
      }
    }
  }
}

/** float32 [batch, height, width, channels] to another height and width. */
const resize =
  (tapsOf: TapsOf): Kernel =>
  (backend, inputs, attributes: Attributes) => {
    const images = input(inputs, 'images');
    const options = attributes as unknown as ResizeBilinearAttrs;
    const [batch = 0, , , channels = 0] = images.shape;
    const output = backend.output([batch, ...options.size, channels], 'float32');
    const [values, target] = backend.viewsOf(images, output);
    forEachPixel(images, options.size, options, tapsOf, (to, corners) => {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (const [from, share] of corners) sum += values[from + c]! * share;
        target[to + c] = sum;
      }
    });
    return output;
  };

/** The way back: each slope goes to the pixels that made its own, by their shares. */
const gradient =
  (tapsOf: TapsOf): Kernel =>
  (backend, inputs, attributes: Attributes) => {
    const [images, dy] = [input(inputs, 'images'), input(inputs, 'dy')];
    const [, height = 0, width = 0, channels = 0] = dy.shape;
    const output = backend.output(images.shape, 'float32');
    const [slopes, target] = backend.viewsOf(dy, output);
    const sums = new Float64Array(target.length);
    forEachPixel(images, [height, width], attributes as unknown as ResizeBilinearAttrs, tapsOf, (from, corners) => {
      for (const [to, share] of corners) for (let c = 0; c < channels; c++) sums[to + c]! += slopes[from + c]! * share;
    });
    target.set(sums);
    return output;
  };

export const resizeKernels: KernelTable = {
  ResizeBilinear: resize(linear),
  ResizeBilinearGrad: gradient(linear),
  ResizeNearestNeighbor: resize(nearest),
  ResizeNearestNeighborGrad: gradient(nearest),
};
