import { ImageError } from '../errors.js';
import type { PixelSamples } from '../image2text/images.js';

/** What a page can show: an image, a canvas, a bitmap, the present frame of a video. */
export type PageSource =
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | OffscreenCanvas
  | ImageBitmap
  | VideoFrame;

/** Width and height in its own pixels, whatever the page scales it to. */
function sizeOf(source: PageSource): [width: number, height: number] {
  if ('naturalWidth' in source) return [source.naturalWidth, source.naturalHeight];
  if ('videoWidth' in source) return [source.videoWidth, source.videoHeight];
  if ('displayWidth' in source) return [source.displayWidth, source.displayHeight];
  return [source.width, source.height];
}

/**
 * The samples of something that the page shows, RGBA in its own size: the canvas copies and never scales.
 *
 * The browser has decoded it, with colour management and its own JPEG decoder: for the very pixels of the reference give the file's
 * bytes (a `Blob` or `File`) instead.
 *
 * @throws ImageError where nothing is loaded yet, or the image is of another origin.
 */
export function readPixels(source: PageSource): PixelSamples {
  const [width, height] = sizeOf(source);
  if (width < 1 || height < 1)
    throw new ImageError({ code: 'not-loaded', detail: 'it has no pixels yet: wait for its load event' });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (context === null) throw new ImageError({ code: 'no-canvas', detail: 'this browser gives no 2d canvas' });
  context.drawImage(source, 0, 0);
  try {
    return context.getImageData(0, 0, width, height);
  } catch (cause) {
    throw new ImageError({
      code: 'other-origin',
      detail: 'the page may not read images of another origin; serve it with CORS',
      cause,
    });
  }
}
