import { backend_util, type Conv2DAttrs, type Conv3DAttrs } from '@tensorflow/tfjs-core';
import { isChannelsFirst } from './layout.js';
import { type Attributes, fault } from './table.js';
import { partsOf, type WindowInfo, type Windows, windowsOf } from './windows.js';

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
