import { allocate } from './fault.js';
import type { RawImage } from './raw-image.js';
import { crop, type Window } from './resize.js';

/** Where a centre crop comes from and goes to: a window of the image, put at (padLeft, padTop) of a black image of the result's size. */
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

/** One axis of a centre crop: first source pixel, pixels taken, padding before them, length of the result. */
function cropAxis(size: number, wanted: number, round: (half: number) => number) {
  const first = round((size - wanted) / 2);
  if (wanted <= size) return { first, taken: wanted, pad: 0, length: wanted };
  // Hugging Face 4.40 pads to the wanted length, then cuts by an offset rounded the other way: an odd difference loses one pixel
  const pad = Math.floor((wanted - size) / 2);
  const start = Math.max(0, first + pad);
  return { first: 0, taken: size, pad: pad - start, length: Math.min(wanted, first + pad + wanted) - start };
}

/**
 * The centre crop of an image of `width` by `height`. Offsets are floor((size - crop) / 2) as in Hugging Face's processors, or rounded
 * half to even as in the original (torchvision). A crop larger than the image is padded with 0 as Hugging Face 4.40 does.
 */
export function planCenterCrop(
  width: number,
  height: number,
  cropWidth: number,
  cropHeight: number,
  rounding: 'floor' | 'half-even' = 'floor',
): CropPlan {
  const round = rounding === 'floor' ? Math.floor : roundHalfEven;
  const x = cropAxis(width, cropWidth, round);
  const y = cropAxis(height, cropHeight, round);
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
export function centerCrop(
  image: RawImage,
  width: number,
  height: number,
  rounding: 'floor' | 'half-even' = 'floor',
): RawImage {
  const plan = planCenterCrop(image.width, image.height, width, height, rounding);
  return place(crop(image, plan.window), plan);
}
