import { allocate } from './fault.js';
import type { RawImage } from './raw-image.js';
import { crop, type Window } from './resize.js';

/** Where a center crop comes from and goes to: a window of the image, put at (padLeft, padTop) of a black image of the result's size. */
export interface CropPlan {
  readonly window: Window;
  readonly padTop: number;
  readonly padLeft: number;
  readonly width: number;
  readonly height: number;
}

/** Python's round: halves go to the even neighbour. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1;
  return rest < 0.5 ? floor : floor + 1;
}

/** How offsets of half a pixel are rounded, and what becomes of a crop that is larger than the image by an odd number. */
export type CropRounding = 'floor' | 'half-even' | 'transformers-4.40';

/** One axis of a center crop: first source pixel, pixels taken, padding before them, length of the result. */
function cropAxis(size: number, wanted: number, rounding: CropRounding) {
  const round = rounding === 'half-even' ? roundHalfEven : Math.floor;
  const first = round((size - wanted) / 2);
  if (wanted <= size) return { first, taken: wanted, pad: 0, length: wanted };
  if (rounding === 'floor') return { first: 0, taken: size, pad: Math.floor((wanted - size) / 2), length: wanted };
  // transformers 4.40 pads to the wanted length, then cuts by an offset rounded the other way: an odd difference loses one pixel
  const pad = Math.floor((wanted - size) / 2);
  const start = Math.max(0, first + pad);
  return { first: 0, taken: size, pad: pad - start, length: Math.min(wanted, first + pad + wanted) - start };
}

/**
 * The center crop of an image of `width` by `height`. Offsets are floor((size - crop) / 2) as in Hugging Face's processors, or rounded
 * half to even as in the original (torchvision). A crop larger than the image is padded with 0 as transformers 5.18 does, or as 4.40 did.
 */
export function planCenterCrop(
  width: number,
  height: number,
  cropWidth: number,
  cropHeight: number,
  rounding: CropRounding = 'floor',
): CropPlan {
  const x = cropAxis(width, cropWidth, rounding);
  const y = cropAxis(height, cropHeight, rounding);
  const window = { left: x.first, top: y.first, width: x.taken, height: y.taken };
  return { window, padTop: y.pad, padLeft: x.pad, width: x.length, height: y.length };
}

/** Puts the pixels of a plan's window into the result. */
export function place(part: RawImage, plan: CropPlan): RawImage {
  if (part.width === plan.width && part.height === plan.height) return part;
  const data = allocate(Uint8Array, plan.width * plan.height * 3);
  for (let y = 0; y < part.height; y++) {
    const line = part.data.subarray(y * part.width * 3, (y + 1) * part.width * 3);
    data.set(line, ((y + plan.padTop) * plan.width + plan.padLeft) * 3);
  }
  return { data, width: plan.width, height: plan.height };
}

/** Cuts the middle out of an image, as `planCenterCrop` says. */
export function centerCrop(image: RawImage, width: number, height: number, rounding: CropRounding = 'floor'): RawImage {
  const plan = planCenterCrop(image.width, image.height, width, height, rounding);
  return place(crop(image, plan.window), plan);
}
