import { ImageError } from '../errors.js';
import type { RawImage } from '../image/raw-image.js';

/** `P6 WIDTH HEIGHT 255`, each followed by one space or line end: what ffmpeg writes before the samples of each frame. */
const HEADER = /^P6\s(\d{1,9})\s(\d{1,9})\s255\s/;
const LONGEST_HEADER = 32;

interface Growing {
  readonly image: RawImage;
  filled: number;
}

/**
 * Images out of a stream of binary PPM files (8 bits, RGB), one behind the other. Memory is that of the images: each is allocated
 * once, when its header is read.
 *
 * `maxPixels`: most pixels of all images together.
 *
 * @throws ImageError `ppm-stream` for anything else, a stream that ends inside an image included; `too-many-pixels`.
 */
export async function readPpmStream(chunks: AsyncIterable<Uint8Array>, maxPixels: number): Promise<RawImage[]> {
  const images: RawImage[] = [];
  let head = ''; // header bytes that are here; only its first 32 are ever kept
  let current: Growing | undefined;
  let pixels = 0;
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      if (current === undefined) {
        head += String.fromCharCode(chunk[at++]!);
        const size = HEADER.exec(head);
        if (size === null && head.length < LONGEST_HEADER) continue;
        if (size === null) throw new ImageError({ code: 'ppm-stream', detail: 'this is no PPM header' });
        head = '';
        pixels += Number(size[1]) * Number(size[2]);
        current = { image: allocate(Number(size[1]), Number(size[2]), pixels, maxPixels), filled: 0 };
        continue;
      }
      const { data } = current.image;
      const part = chunk.subarray(at, at + data.length - current.filled);
      data.set(part, current.filled);
      current.filled += part.length;
      at += part.length;
      if (current.filled < data.length) continue;
      images.push(current.image);
      current = undefined;
    }
  }
  if (current === undefined && head === '') return images;
  throw new ImageError({ code: 'ppm-stream', detail: `it ended inside image ${images.length + 1}` });
}

function allocate(width: number, height: number, pixels: number, maxPixels: number): RawImage {
  if (width === 0 || height === 0)
    throw new ImageError({ code: 'ppm-stream', detail: `an image of ${width} by ${height} pixels` });
  if (pixels > maxPixels) {
    const detail = `its frames have ${pixels} pixels together, at most ${maxPixels}; scale the video down first`;
    throw new ImageError({ code: 'too-many-pixels', detail });
  }
  return { data: new Uint8Array(width * height * 3), width, height };
}
