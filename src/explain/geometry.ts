import { OptionError } from '../errors.js';
import { planCenterCrop } from '../image/center-crop.js';
import type { ImageConfig } from '../image/image-config.js';
import { keepRatioSize, type PreprocessOptions, shortestEdgeSize } from '../image/preprocess.js';
import type { Rectangle } from './types.js';

interface Size {
  readonly width: number;
  readonly height: number;
}

/** The size an image is resized to before it is cropped. */
function resizedSize({ width, height }: Size, config: ImageConfig, options: PreprocessOptions): Size {
  const of = ([resizedWidth, resizedHeight]: [number, number]): Size => ({
    width: resizedWidth,
    height: resizedHeight,
  });
  if (options.route === 'original') {
    const { keepRatio, cropSize } = { ...options, ...config };
    if (keepRatio !== undefined) return of(keepRatioSize(width, height, keepRatio.min, keepRatio.max));
    return of(shortestEdgeSize(width, height, Math.min(cropSize.width, cropSize.height)));
  }
  if (!config.doResize) return { width, height };
  const { size } = config;
  return 'shortestEdge' in size ? of(shortestEdgeSize(width, height, size.shortestEdge)) : size;
}

/**
 * Where the grid of patches lies on the image as it was given: the way back through centre crop and resize, as `preprocess` with the
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
  const resized = resizedSize(size, config, options);
  const original = options.route === 'original';
  const crops = original ? options.keepRatio === undefined : config.doCenterCrop;
  const target = crops ? config.cropSize : resized;
  const rounding = original ? 'half-even' : 'floor';
  const plan = planCenterCrop(resized.width, resized.height, target.width, target.height, rounding);
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
