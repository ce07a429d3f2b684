import type { RawImage } from '../image/raw-image.js';
import { COLORS } from './color-map.js';
import type { HeatMap } from './heat-map.js';
import type { Rectangle } from './types.js';

/** How colours lie on the image; the page's script is given the same numbers. */
export const PAINT = {
  /** How much of the image's own colour gives way to gray, so that it is not taken for heat. */
  gray: 0.6,
  /** How much the map's colour covers the image where the weight is 0 … */
  least: 0.48,
  /** … and where it is largest. */
  most: 0.74,
  /** What is left of the brightness of the part that was cut away before the model saw the image. */
  unseen: 0.3,
} as const;

/**
 * Lays a heat map over an image of its size: dark where little weight is, glowing where much is. What is outside `seen` is gray and dim.
 *
 * @param top the weight that gets the map's last colour.
 */
export function paintHeat(image: RawImage, heat: HeatMap, seen: Rectangle, top: number): RawImage {
  const { width, height } = image;
  const data = new Uint8Array(image.data.length);
  for (let y = 0, at = 0; y < height; y++) {
    const rowSeen = y + 0.5 >= seen.top && y + 0.5 < seen.top + seen.height;
    for (let x = 0; x < width; x++, at += 3) {
      const isSeen = rowSeen && x + 0.5 >= seen.left && x + 0.5 < seen.left + seen.width;
      const gray = 0.2126 * image.data[at]! + 0.7152 * image.data[at + 1]! + 0.0722 * image.data[at + 2]!;
      const value = top > 0 ? Math.min(1, heat.values[y * width + x]! / top) : 0;
      const cover = PAINT.least + (PAINT.most - PAINT.least) * value;
      const color = Math.round(value * 255) * 3;
      for (let c = 0; c < 3; c++) {
        const pale = image.data[at + c]! + (gray - image.data[at + c]!) * PAINT.gray;
        data[at + c] = Math.round(isSeen ? pale + (COLORS[color + c]! - pale) * cover : PAINT.unseen * gray);
      }
    }
  }
  return { data, width, height };
}
