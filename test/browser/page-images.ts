/** Images in all the ways a page has them; in a worker, in those that it has. Runs in the browser. */
import { type PageImage, readPixels } from '../../src/browser.js';

interface Pixels {
  readonly width: number;
  readonly height: number;
  /** SHA-256 of the RGB samples. */
  readonly hash: string;
}

async function read(source: PageImage): Promise<Pixels> {
  const { width, height, data } = readPixels(source);
  const rgb = Uint8Array.from(data).filter((_, i) => i % 4 < 3);
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', rgb));
  return { width, height, hash: Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('') };
}

export async function pixelsOf(address: string): Promise<Record<string, Pixels>> {
  const blob = await (await fetch(address)).blob();
  const bitmap = await createImageBitmap(blob);
  const frame = new VideoFrame(bitmap, { timestamp: 0 });
  const offscreen = new OffscreenCanvas(bitmap.width, bitmap.height);
  offscreen.getContext('2d')!.drawImage(bitmap, 0, 0);
  const anywhere = { bitmap: await read(bitmap), offscreen: await read(offscreen), frame: await read(frame) };
  frame.close();
  if (typeof document === 'undefined') return anywhere;
  const image = await loadedImage(URL.createObjectURL(blob));
  image.width = 10; // as it is shown, which does not count
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext('2d')!.drawImage(bitmap, 0, 0);
  return { ...anywhere, image: await read(image), canvas: await read(canvas) };
}

/** The image as an element, and drawn on a canvas. */
export async function elementsOf(address: string) {
  const element = await loadedImage(address);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [element.naturalWidth, element.naturalHeight];
  canvas.getContext('2d')!.drawImage(element, 0, 0);
  return { element, canvas };
}

async function loadedImage(address: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

/** What is said about an image that has not come, and about a canvas that may not be read: foreign content has been drawn on it. */
export async function refusedPixels(): Promise<string[]> {
  const svg =
    '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><foreignObject width="4" height="4"/></svg>';
  const foreign = document.createElement('canvas');
  const drawing = await loadedImage(URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' })));
  foreign.getContext('2d')!.drawImage(drawing, 0, 0);
  return [new Image(), foreign].map((source) => {
    try {
      readPixels(source);
      return 'nothing';
    } catch (error) {
      return (error as Error).message;
    }
  });
}
