import { readdirSync } from 'node:fs';
import type { RgbImage } from '../../src/image/raw-image.js';
import { toRgbImage } from '../../src/image2text/input-loader.js';
import { openImage } from '../../src/node.js';
import { EXAMPLES } from '../support/fixtures.js';

/** The demo's example images by name. */
export const EXAMPLE_IMAGES: readonly string[] = readdirSync(EXAMPLES)
  .filter((name) => /\.(png|jpg)$/.test(name))
  .sort();

/** A look at an image: `zoom` above 1 comes nearer, `dx` and `dy` are pixels to the right and down; the border goes on outside. */
export interface View {
  readonly zoom: number;
  readonly dx: number;
  readonly dy: number;
}

/** Small shifts and zooms as a hand-held camera makes them. */
export const VIEWS: readonly View[] = [
  { zoom: 1, dx: 0, dy: 0 },
  { zoom: 1, dx: 6, dy: -4 },
  { zoom: 1, dx: -7, dy: 5 },
  { zoom: 1.05, dx: 0, dy: 0 },
  { zoom: 0.95, dx: 3, dy: 3 },
  { zoom: 1.1, dx: -4, dy: -4 },
];

/** All examples in all views. */
export async function viewedExamples(views: readonly View[] = VIEWS): Promise<RgbImage[]> {
  const images: RgbImage[] = [];
  for (const name of EXAMPLE_IMAGES) {
    const image = await toRgbImage(EXAMPLES + name, { openImage });
    for (const view of views) images.push(viewOf(image, view));
  }
  return images;
}

function viewOf({ data, width, height }: RgbImage, { zoom, dx, dy }: View): RgbImage {
  const clamp = (value: number, size: number) => Math.max(0, Math.min(size - 1, Math.round(value)));
  const result = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const fromX = clamp((x - width / 2) / zoom + width / 2 - dx, width);
      const fromY = clamp((y - height / 2) / zoom + height / 2 - dy, height);
      for (let c = 0; c < 3; c++) result[(y * width + x) * 3 + c] = data[(fromY * width + fromX) * 3 + c]!;
    }
  }
  return { data: result, width, height };
}
