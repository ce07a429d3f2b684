import { allocate, fault } from '../fault.js';
import type { RawImage } from '../raw-image.js';
import type { GifFile, GifFrame } from './gif-file.js';
import { decompressFrame } from './lzw.js';

/** First row and step of the four interlace passes. */
const INTERLACE = [
  [0, 8],
  [4, 8],
  [2, 4],
  [1, 2],
] as const;

function* storedRows({ height, interlaced }: GifFrame): Generator<number> {
  for (const [first, step] of interlaced ? INTERLACE : [[0, 1] as const]) {
    for (let y = first; y < height; y += step) yield y;
  }
}

type Color = readonly [number, number, number];
const BLACK: Color = [0, 0, 0];

function colorOf(frame: GifFrame, index: number): Color {
  const { palette } = frame;
  if (!palette) return [index, index, index];
  return [palette[index * 3] ?? 0, palette[index * 3 + 1] ?? 0, palette[index * 3 + 2] ?? 0];
}

/** An image that the frames are painted on. */
interface Canvas {
  data: Uint8Array;
  width: number;
  height: number;
}

function newCanvas(width: number, height: number, color: Color): Canvas {
  const data = allocate(Uint8Array, width * height * 3);
  const canvas = { data, width, height };
  if (color.some((value) => value > 0)) fillRectangle(canvas, { left: 0, top: 0, width, height }, color);
  return canvas;
}

type Rectangle = Pick<GifFrame, 'left' | 'top' | 'width' | 'height'>;

function fillRectangle(canvas: Canvas, { left, top, width, height }: Rectangle, [red, green, blue]: Color): void {
  for (let y = top; y < top + height; y++) {
    for (let i = (y * canvas.width + left) * 3, stop = i + width * 3; i < stop; i += 3) {
      canvas.data[i] = red;
      canvas.data[i + 1] = green;
      canvas.data[i + 2] = blue;
    }
  }
}

/** The lines of a rectangle, copied out of or back into a canvas. */
function moveRectangle(canvas: Canvas, { left, top, width, height }: Rectangle, saved?: Uint8Array): Uint8Array {
  const lines = saved ?? new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const at = ((top + y) * canvas.width + left) * 3;
    const [from, to] = [y * width * 3, (y + 1) * width * 3];
    if (saved) canvas.data.set(lines.subarray(from, to), at);
    else lines.set(canvas.data.subarray(at, at + width * 3), from);
  }
  return lines;
}

/** Paints a frame; transparent pixels leave what is there. The first frame has no transparent pixels: Pillow paints their colour. */
function paint(canvas: Canvas, frame: GifFrame, transparent: number | undefined): void {
  const indices = decompressFrame(frame);
  const colors = Array.from({ length: 256 }, (_, index) => colorOf(frame, index));
  let from = 0;
  for (const y of storedRows(frame)) {
    let to = ((frame.top + y) * canvas.width + frame.left) * 3;
    for (let x = 0; x < frame.width; x++, to += 3) {
      const index = indices[from++]!;
      if (index !== transparent) canvas.data.set(colors[index]!, to);
    }
  }
}

/**
 * Paints the frames one after the other, as Pillow shows them (`seek(i)`, `convert("RGB")`: transparency is dropped, so an untouched
 * pixel of the first frame has the colour of the transparent index), and gives each finished image to `each`.
 * @throws ImageError for broken or missing pixels, or when all frames together exceed `maxPixels`.
 */
export function paintGif(file: GifFile, maxPixels: number, each: (image: RawImage) => void): void {
  const [start] = file.frames;
  let canvas = newCanvas(file.width, file.height, colorOf(start!, start!.transparent ?? 0));
  let dispose = (): void => undefined;
  let pixels = 0;
  for (const [i, frame] of file.frames.entries()) {
    dispose();
    const before = canvas;
    canvas = grown(before, frame, frame.transparent === undefined ? colorOf(frame, 0) : BLACK);
    dispose = disposal(before, canvas, file, frame, i === 0);
    paint(canvas, frame, i === 0 ? undefined : frame.transparent);
    pixels += canvas.width * canvas.height;
    if (pixels > maxPixels) {
      throw fault('image-too-large', `${i + 1} frames have ${pixels} pixels; the limit (maxPixels) is ${maxPixels}`);
    }
    each({ data: canvas.data.slice(), width: canvas.width, height: canvas.height });
  }
}

/** A frame beyond the edge makes the image larger, from here on. */
function grown(canvas: Canvas, frame: GifFrame, color: Color): Canvas {
  const width = Math.max(canvas.width, frame.left + frame.width);
  const height = Math.max(canvas.height, frame.top + frame.height);
  if (width === canvas.width && height === canvas.height) return canvas;
  const larger = newCanvas(width, height, color);
  moveRectangle(larger, { left: 0, top: 0, width: canvas.width, height: canvas.height }, canvas.data);
  return larger;
}

/** What to do with the frame's rectangle before the next frame is painted; to be asked before this one is. */
function disposal(before: Canvas, canvas: Canvas, file: GifFile, frame: GifFrame, first: boolean): () => void {
  if (frame.disposal === 2) {
    const index = frame.transparent ?? file.background;
    // after the first frame Pillow takes colour 0 for an index past the palette
    const known = first || index * 3 < (frame.palette?.length ?? 768);
    return () => fillRectangle(canvas, frame, colorOf(frame, known ? index : 0));
  }
  if (frame.disposal < 3) return () => undefined;
  if (!first) {
    const saved = moveRectangle(grown(before, frame, BLACK), frame);
    return () => void moveRectangle(canvas, frame, saved);
  }
  // before the first frame there was nothing: Pillow clears to transparency, or leaves the frame where it has none
  const { transparent } = frame;
  return () => (transparent === undefined ? undefined : fillRectangle(canvas, frame, colorOf(frame, transparent)));
}
