import type { backend_util } from '@tensorflow/tfjs-core';

export type WindowInfo = backend_util.Conv2DInfo | backend_util.Conv3DInfo;

/** How a window moves along one axis of an image. */
interface Axis {
  /** Pixels of the image, … */
  readonly size: number;
  /** … places where the window stands, … */
  readonly places: number;
  /** … pixels it sees at each, `dilation` apart, … */
  readonly taps: number;
  readonly stride: number;
  readonly dilation: number;
  /** … and how far the first place begins before the image. */
  readonly before: number;
}

/** A window over images [batch, depth, height, width, channels]; flat images have a depth of 1. */
export interface Windows {
  readonly batch: number;
  readonly axes: readonly [Axis, Axis, Axis];
  /** Of one image. */
  readonly pixels: number;
  readonly places: number;
  /** Of one window. */
  readonly taps: number;
}

const FLAT: Axis = { size: 1, places: 1, taps: 1, stride: 1, dilation: 1, before: 0 };

function depthOf(info: WindowInfo): Axis {
  if (!('inDepth' in info)) return FLAT;
  const { inDepth: size, outDepth: places, filterDepth: taps, strideDepth: stride, dilationDepth: dilation } = info;
  return { size, places, taps, stride, dilation, before: info.padInfo.front };
}

/** What tfjs found out about a convolution or pooling, axis by axis. */
export function windowsOf(info: WindowInfo): Windows {
  const { inHeight, outHeight, filterHeight, strideHeight, dilationHeight, padInfo } = info;
  const { inWidth, outWidth, filterWidth, strideWidth, dilationWidth } = info;
  const rows = { size: inHeight, places: outHeight, taps: filterHeight, stride: strideHeight };
  const columns = { size: inWidth, places: outWidth, taps: filterWidth, stride: strideWidth };
  const axes: [Axis, Axis, Axis] = [
    depthOf(info),
    { ...rows, dilation: dilationHeight, before: padInfo.top },
    { ...columns, dilation: dilationWidth, before: padInfo.left },
  ];
  const product = (of: (axis: Axis) => number) => axes.reduce((all, axis) => all * of(axis), 1);
  return {
    ...{ batch: info.batchSize, axes, pixels: product(({ size }) => size) },
    ...{ places: product(({ places }) => places), taps: product(({ taps }) => taps) },
  };
}

/** For each place along an axis, the taps that meet a pixel, and the pixel. */
function meetings({ size, places, taps, stride, dilation, before }: Axis): { tap: number; pixel: number }[][] {
  return Array.from({ length: places }, (_, place) =>
    Array.from({ length: taps }, (_, tap) => ({ tap, pixel: place * stride - before + tap * dilation })).filter(
      ({ pixel }) => pixel >= 0 && pixel < size,
    ),
  );
}

/** Visits every tap of every window that meets a pixel, window by window. Places and pixels are numbered through all images. */
export function forEachTap(windows: Windows, visit: (place: number, tap: number, pixel: number) => void): void {
  const { batch, axes } = windows;
  const [deep, rows, columns] = axes.map(meetings) as [Meetings, Meetings, Meetings];
  const [, { size: height, taps: tapRows }, { size: width, taps: tapColumns }] = axes;
  let place = 0;
  for (let image = 0; image < batch; image++) {
    const first = image * windows.pixels;
    for (const inDepth of deep) {
      for (const inRow of rows) {
        for (const inColumn of columns) {
          for (const z of inDepth) {
            for (const y of inRow) {
              const [tap, pixel] = [
                (z.tap * tapRows + y.tap) * tapColumns,
                first + (z.pixel * height + y.pixel) * width,
              ];
              for (const x of inColumn) visit(place, tap + x.tap, pixel + x.pixel);
            }
          }
          place++;
        }
      }
    }
  }
}

type Meetings = ReturnType<typeof meetings>;

/** A part of the places of one image: the same window over fewer of them, and the number of the first one. */
interface Part {
  readonly part: Windows;
  readonly first: number;
}

/** One image's places in parts of about `most`, so that what is made of them stays small: planes, or rows of a flat image. */
export function partsOf(windows: Windows, most: number): Part[] {
  const outer = windows.axes[0].places > 1 ? 0 : 1;
  const axis = windows.axes[outer];
  const inner = windows.places / axis.places;
  const step = Math.max(1, Math.floor(most / inner));
  return Array.from({ length: Math.ceil(axis.places / step) }, (_, i): Part => {
    const [from, places] = [i * step, Math.min(step, axis.places - i * step)];
    const own = { ...axis, places, before: axis.before - from * axis.stride };
    const [deep, rows, columns] = windows.axes;
    const axes: Windows['axes'] = outer === 0 ? [own, rows, columns] : [deep, own, columns];
    return { first: from * inner, part: { ...windows, batch: 1, axes, places: places * inner } };
  });
}

/** Places from which a tap, `offset` pixels from the first one, meets a pixel. */
export function inside(offset: number, { size, places, stride }: Axis) {
  const first = Math.max(0, Math.ceil(-offset / stride));
  return { first, count: Math.max(0, Math.min(places, Math.floor((size - 1 - offset) / stride) + 1) - first) };
}
