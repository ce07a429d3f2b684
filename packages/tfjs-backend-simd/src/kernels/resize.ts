import type { ResizeBilinearAttrs, TensorInfo } from '@tensorflow/tfjs-core';
import { type Attributes, input, type Kernel, type KernelTable } from './table.js';

/** A pixel of the result along one axis: two neighbours in the image, and the share of the second. */
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

/** The four pixels of the image around a place (offsets of their first channels), and the shares of the lower and right ones. */
interface Corners {
  topLeft: number;
  topRight: number;
  bottomLeft: number;
  bottomRight: number;
  down: number;
  right: number;
}

/** Visits the pixels of the result with their corners: one object, changed from pixel to pixel. */
function forEachPixel(
  image: TensorInfo,
  [height, width]: readonly [number, number],
  attributes: ResizeBilinearAttrs,
  tapsOf: TapsOf,
  visit: (to: number, corners: Readonly<Corners>) => void,
): void {
  const [batch = 0, inHeight = 0, inWidth = 0, channels = 0] = image.shape;
  const [rows, columns] = [tapsOf(inHeight, height, attributes), tapsOf(inWidth, width, attributes)];
  const corners: Corners = { topLeft: 0, topRight: 0, bottomLeft: 0, bottomRight: 0, down: 0, right: 0 };
  let to = 0;
  for (let b = 0; b < batch; b++) {
    for (const y of rows) {
      const top = (b * inHeight + y.low) * inWidth;
      const bottom = (b * inHeight + y.high) * inWidth;
      corners.down = y.share;
      for (const x of columns) {
        corners.topLeft = (top + x.low) * channels;
        corners.topRight = (top + x.high) * channels;
        corners.bottomLeft = (bottom + x.low) * channels;
        corners.bottomRight = (bottom + x.high) * channels;
        corners.right = x.share;
        visit(to, corners);
        to += channels;
      }
    }
  }
}

/** From a to b; a itself where b has no share, whatever b is. */
const between = (a: number, b: number, share: number) => (share === 0 ? a : a + (b - a) * share);

/** [batch, height, width, channels] to another height and width: float32, or the images' own type where pixels are only moved. */
const resize =
  (tapsOf: TapsOf): Kernel =>
  (backend, inputs, attributes: Attributes) => {
    const images = input(inputs, 'images');
    const options = attributes as unknown as ResizeBilinearAttrs;
    const [batch = 0, , , channels = 0] = images.shape;
    const dtype = tapsOf === nearest ? images.dtype : 'float32';
    const output = backend.output([batch, ...options.size, channels], dtype);
    const [values, target] = backend.viewsOf(images, output);
    forEachPixel(images, options.size, options, tapsOf, (to, at) => {
      for (let c = 0; c < channels; c++) {
        const top = between(values[at.topLeft + c]!, values[at.topRight + c]!, at.right);
        const bottom = between(values[at.bottomLeft + c]!, values[at.bottomRight + c]!, at.right);
        target[to + c] = between(top, bottom, at.down);
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
    forEachPixel(images, [height, width], attributes as unknown as ResizeBilinearAttrs, tapsOf, (from, at) => {
      for (let c = 0; c < channels; c++) {
        const [above, below] = [slopes[from + c]! * (1 - at.down), slopes[from + c]! * at.down];
        sums[at.topLeft + c]! += above * (1 - at.right);
        sums[at.topRight + c]! += above * at.right;
        sums[at.bottomLeft + c]! += below * (1 - at.right);
        sums[at.bottomRight + c]! += below * at.right;
      }
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
