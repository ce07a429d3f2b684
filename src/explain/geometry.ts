import { OptionError } from '../errors.js';
import type { ImageConfig } from '../image/image-config.js';
import type { PreprocessOptions } from '../image/image-options.js';
import { resizePlan } from '../image/preprocess.js';
import type { Rectangle } from './types.js';

interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * Where the grid of patches lies on the image as it was given: the way back through center crop and resize, as `preprocess` with the
 * same configuration and options goes forward. Resizing maps edges to edges, so this is exact. A crop larger than the image makes a
 * rectangle that goes beyond it; a strip narrower than a patch at the right and bottom belongs to no patch.
 *
 * @param size of the given image.
 * @param patch side of a patch in pixels of the model's input.
 * @returns the rectangle in pixels of the given image, and how many patches lie in it.
 * @throws OptionError where the input is smaller than a patch.
 */
export function seenRectangle(
  size: Size,
  patch: number,
  config: ImageConfig,
  options: PreprocessOptions = {},
): { readonly rows: number; readonly columns: number; readonly seen: Rectangle } {
  const resized = resizePlan(size, config, options);
  const plan = resized.crop;
  const [rows, columns] = [Math.floor(plan.height / patch), Math.floor(plan.width / patch)];
  if (rows < 1 || columns < 1) {
    const detail = `an input of ${plan.width} by ${plan.height} pixels has no patch of ${patch}`;
    throw new OptionError({ path: 'patch', code: 'out-of-range', detail });
  }
  const [x, y] = [size.width / resized.width, size.height / resized.height]; // given pixels per resized pixel
  const seen = {
    left: (plan.window.left - plan.padLeft) * x,
    top: (plan.window.top - plan.padTop) * y,
    width: columns * patch * x,
    height: rows * patch * y,
  };
  return { rows, columns, seen };
}
