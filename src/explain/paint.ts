import type { RawImage } from '../image/raw-image.js';
import { COLORS } from './color-map.js';
import type { HeatMap } from './heat-map.js';
import type { Rectangle } from './types.js';

/** How a weight of 0 and the largest weight cover the picture. The page's style follows the same numbers. */
export const COVER = { least: 0.55, most: 0.7 } as const;
/** What is left of the brightness where the model saw nothing, because the crop had cut it away. */
export const UNSEEN = 0.28;

/**
 * Lays a heat map over a picture of its size: dark where little weight is, glowing where much is. `top` is the weight that gets the last
 * colour. What is outside `seen` is shown gray and dim.
 */
export function paintHeat(image: RawImage, heat: HeatMap, seen: Rectangle, top: number): RawImage {
  const { width, height } = image;
  const data = new Uint8Array(image.data.length);
  for (let y = 0, at = 0; y < height; y++) {
    const rowSeen = y + 0.5 >= seen.top && y + 0.5 < seen.top + seen.height;
    for (let x = 0; x < width; x++, at += 3) {
      const pixel = image.data.subarray(at, at + 3);
      if (!rowSeen || x + 0.5 < seen.left || x + 0.5 >= seen.left + seen.width) {
        data.fill(Math.round(UNSEEN * luma(pixel)), at, at + 3);
        continue;
      }
      const value = top > 0 ? Math.min(1, heat.values[y * width + x]! / top) : 0;
      const cover = COVER.least + (COVER.most - COVER.least) * value;
      const color = Math.round(value * 255) * 3;
      for (let c = 0; c < 3; c++) data[at + c] = Math.round(pixel[c]! + (COLORS[color + c]! - pixel[c]!) * cover);
    }
  }
  return { data, width, height };
}

const luma = (pixel: Uint8Array): number => 0.299 * pixel[0]! + 0.587 * pixel[1]! + 0.114 * pixel[2]!;
