import { join, u16le } from './image-file.js';
import { allocate, checkPixels, fault, type RgbImage } from './raw-image.js';

/** One image of a GIF file, still compressed. */
export interface GifFrame {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly interlaced: boolean;
  /** RGB triples: the frame's own, or the file's; undefined means gray values. */
  readonly palette: Uint8Array | undefined;
  readonly transparent: number | undefined;
  /** What happens to the frame's rectangle after it was shown: 2 background, 3 and more what was there before. */
  readonly disposal: number;
  readonly codeBits: number;
  /** LZW data. */
  readonly data: Uint8Array;
  readonly offset: number;
}

export interface GifFile {
  /** Of the first image: the screen, or more where its frame is larger. */
  readonly width: number;
  readonly height: number;
  readonly background: number;
  readonly frames: readonly GifFrame[];
  /** Whether the file ends in the data of its last frame. */
  readonly cut: boolean;
}

const MAX_FRAMES = 10_000;
const TRAILER = 0x3b;

const truncated = (offset: number) => fault('gif-truncated', 'the file ends too early', offset);

/**
 * Walks sub-blocks: the offset after the terminator, and the data joined when `collect` is set. The file may end in collected data, after
 * at least a whole block: the pixels can be there all the same.
 */
function subBlocks(bytes: Uint8Array, offset: number, collect: boolean) {
  const pieces: Uint8Array[] = [];
  let at = offset;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || at + 1 + length > bytes.length) {
      if (pieces.length === 0) throw truncated(offset);
      return { data: join(pieces), next: bytes.length, cut: true };
    }
    if (length === 0) break;
    if (collect) pieces.push(bytes.subarray(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { data: join(pieces), next: at + 1, cut: false };
}

function paletteAt(bytes: Uint8Array, offset: number, flags: number): Uint8Array | undefined {
  if (!(flags & 0x80)) return undefined;
  const end = offset + (6 << (flags & 7));
  if (end > bytes.length) throw truncated(offset);
  return bytes.subarray(offset, end);
}

/** What a graphic control extension says about the next frame. */
interface Control {
  disposal: number;
  transparent: number | undefined;
}

function readControl(bytes: Uint8Array, offset: number, control: Control): void {
  if (bytes[offset + 1] !== 0xf9 || (bytes[offset + 2] ?? 0) < 4) return;
  const flags = bytes[offset + 3]!;
  if (flags & 1) control.transparent = bytes[offset + 6];
  control.disposal = (flags >> 2) & 7 || control.disposal; // "unspecified" leaves what was said before, as Pillow has it
}

function readFrame(bytes: Uint8Array, offset: number, common: Uint8Array | undefined, control: Control) {
  if (offset + 10 > bytes.length) throw truncated(offset);
  const [left, top] = [u16le(bytes, offset + 1), u16le(bytes, offset + 3)];
  const [width, height] = [u16le(bytes, offset + 5), u16le(bytes, offset + 7)];
  const flags = bytes[offset + 9]!;
  const own = paletteAt(bytes, offset + 10, flags);
  const at = offset + 10 + (own?.length ?? 0);
  const codeBits = bytes[at];
  if (codeBits === undefined) throw truncated(offset);
  if (codeBits < 1 || codeBits > 11) throw fault('gif-data', `an LZW code size of ${codeBits}`, at);
  if (width < 1 || height < 1) throw fault('image-size', `a frame of ${width} by ${height} pixels`, offset);
  const { data, next, cut } = subBlocks(bytes, at + 1, true);
  const frame: GifFrame = {
    ...{ left, top, width, height, interlaced: (flags & 0x40) !== 0, palette: own ?? common },
    ...{ ...control, codeBits, data, offset },
  };
  return { frame, next, cut };
}

const largest = (width: number, height: number, { left, top, ...frame }: GifFrame): [number, number] => [
  Math.max(width, left + frame.width),
  Math.max(height, top + frame.height),
];

/**
 * Reads the structure of a GIF file: at most `wanted` frames. Bytes between blocks that are no block are skipped, and a file that
 * ends between blocks is accepted, as every reader does; also one that ends in the data of a frame, which may lack pixels then.
 * @throws ImageError for a file that ends inside another block, has no image, or is too large.
 */
export function readGif(bytes: Uint8Array, maxPixels: number, wanted: number): GifFile {
  if (bytes.length < 13) throw truncated(bytes.length);
  let [width, height] = [u16le(bytes, 6), u16le(bytes, 8)];
  const common = paletteAt(bytes, 13, bytes[10]!);
  const background = common ? bytes[11]! : 0;
  const frames: GifFrame[] = [];
  const control: Control = { disposal: 0, transparent: undefined };
  let isCut = false;
  let [reachX, reachY] = [width, height]; // a later frame can make the image larger
  for (let at = 13 + (common?.length ?? 0); at < bytes.length && frames.length < wanted; ) {
    const block = bytes[at]!;
    if (block === TRAILER) break;
    if (block === 0x21) {
      readControl(bytes, at, control);
      at = subBlocks(bytes, at + 2, false).next;
    } else if (block === 0x2c) {
      if (frames.length === MAX_FRAMES) throw fault('gif-frames', `more than ${MAX_FRAMES} frames`, at);
      const { frame, next, cut } = readFrame(bytes, at, common, control);
      isCut = cut;
      if (frames.length === 0) [width, height] = largest(width, height, frame);
      [reachX, reachY] = largest(reachX, reachY, frame);
      checkPixels(reachX, reachY, maxPixels, at);
      frames.push(frame);
      control.transparent = undefined;
      at = next;
    } else at++;
  }
  if (frames.length === 0) throw fault('gif-frames', 'the file has no image', bytes.length);
  return { width, height, background, frames, cut: isCut };
}

const MAX_CODES = 4096;

/** Pixels, or codes, between two yields. */
const SLICE = 2 ** 18;

/** Decompresses a frame to palette indices, uint8 [height, width] in stored (perhaps interlaced) row order. Yields now and then. */
export function* decompressFrame(frame: GifFrame): Generator<undefined, Uint8Array> {
  const { data, codeBits, offset } = frame;
  const size = frame.width * frame.height;
  const clear = 1 << codeBits;
  const end = clear + 1;
  // a code stands for at most 4096 pixels: a claim beyond that is refused before it is allocated
  if (size > data.length * 8 * MAX_CODES) throw fault('gif-truncated', 'fewer pixels than the header says', offset);
  const out = allocate(Uint8Array, size);
  const prefix = new Uint16Array(MAX_CODES); // code = string of prefix + last byte
  const suffix = new Uint8Array(MAX_CODES);
  const lengths = new Uint16Array(MAX_CODES).fill(1, 0, clear);
  for (let i = 0; i < clear; i++) suffix[i] = i;
  let [next, bits, previous, first] = [end + 1, codeBits + 1, -1, 0];
  let [hold, held, filled] = [0, 0, 0];
  let nextYield = SLICE;
  for (let i = 0; filled < size; ) {
    if (filled + i >= nextYield) {
      yield;
      nextYield = filled + i + SLICE;
    }
    for (; held < bits; held += 8) {
      if (i === data.length) throw fault('gif-truncated', 'fewer pixels than the header says', offset);
      hold |= data[i++]! << held;
    }
    const code = hold & ((1 << bits) - 1);
    hold >>>= bits;
    held -= bits;
    if (code === clear) {
      [next, bits, previous] = [end + 1, codeBits + 1, -1];
      continue;
    }
    if (code === end) throw fault('gif-truncated', 'fewer pixels than the header says', offset);
    if (code > next || (code === next && previous < 0))
      throw fault('gif-data', 'an LZW code that is not defined', offset);
    const known = code < next ? code : previous;
    const length = lengths[known]!;
    let string = known;
    for (let to = filled + length - 1; to >= filled; to--) {
      first = suffix[string]!;
      if (to < size) out[to] = first;
      string = prefix[string]!;
    }
    filled += length;
    if (code === next) {
      if (filled < size) out[filled] = first;
      filled++;
    }
    if (previous >= 0 && next < MAX_CODES) {
      prefix[next] = previous;
      suffix[next] = first;
      lengths[next] = lengths[previous]! + 1;
      next++;
      if (next === 1 << bits && bits < 12) bits++;
    }
    previous = code;
  }
  return out;
}

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

/** Paints a frame; transparent pixels leave what is there. The first frame has no transparent pixels: Pillow paints their color. */
function* paint(canvas: Canvas, frame: GifFrame, transparent: number | undefined): Generator<undefined> {
  const indices = yield* decompressFrame(frame);
  const colors = Array.from({ length: 256 }, (_, index) => colorOf(frame, index));
  let from = 0;
  for (const y of storedRows(frame)) {
    if ((from & (SLICE - 1)) + frame.width >= SLICE) yield;
    let to = ((frame.top + y) * canvas.width + frame.left) * 3;
    for (let x = 0; x < frame.width; x++, to += 3) {
      const index = indices[from++]!;
      if (index !== transparent) canvas.data.set(colors[index]!, to);
    }
  }
}

/**
 * Paints the frames one after the other, as Pillow shows them (`seek(i)`, `convert("RGB")`: transparency is dropped, so an untouched
 * pixel of the first frame has the color of the transparent index), and gives each finished image to `each`.
 * Yields now and then.
 * @throws ImageError for broken or missing pixels, or when all frames together exceed `maxPixels`.
 */
export function* paintGif(file: GifFile, maxPixels: number, each: (image: RgbImage) => void): Generator<undefined> {
  const [start] = file.frames;
  let canvas = newCanvas(file.width, file.height, colorOf(start!, start!.transparent ?? 0));
  let dispose = (): void => undefined;
  let pixels = 0;
  for (const [i, frame] of file.frames.entries()) {
    dispose();
    const before = canvas;
    canvas = grown(before, frame, frame.transparent === undefined ? colorOf(frame, 0) : BLACK);
    dispose = disposal(before, canvas, file, frame, i === 0);
    yield* paint(canvas, frame, i === 0 ? undefined : frame.transparent);
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
    // after the first frame Pillow takes color 0 for an index past the palette
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
