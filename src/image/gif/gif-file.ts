import { join, u16le } from '../bytes.js';
import { checkPixels, fault } from '../fault.js';

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
}

const MAX_FRAMES = 10_000;
const TRAILER = 0x3b;

const truncated = (offset: number) => fault('gif-truncated', 'the file ends too early', offset);

/** Walks sub-blocks: the offset after the terminator, and the data joined when `collect` is set. */
function subBlocks(bytes: Uint8Array, offset: number, collect: boolean): { data: Uint8Array; next: number } {
  const pieces: Uint8Array[] = [];
  let at = offset;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || at + 1 + length > bytes.length) throw truncated(offset);
    if (length === 0) break;
    if (collect) pieces.push(bytes.subarray(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { data: join(pieces), next: at + 1 };
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
  const { data, next } = subBlocks(bytes, at + 1, true);
  const frame: GifFrame = {
    ...{ left, top, width, height, interlaced: (flags & 0x40) !== 0, palette: own ?? common },
    ...{ ...control, codeBits, data, offset },
  };
  return { frame, next };
}

const largest = (width: number, height: number, { left, top, ...frame }: GifFrame): [number, number] => [
  Math.max(width, left + frame.width),
  Math.max(height, top + frame.height),
];

/**
 * Reads the structure of a GIF file: at most `wanted` frames. Bytes between blocks that are no block are skipped, and a file that
 * ends between blocks is accepted, as every reader does.
 * @throws ImageError for a file that ends inside a block, has no image, or is too large.
 */
export function readGif(bytes: Uint8Array, maxPixels: number, wanted: number): GifFile {
  if (bytes.length < 13) throw truncated(bytes.length);
  let [width, height] = [u16le(bytes, 6), u16le(bytes, 8)];
  const common = paletteAt(bytes, 13, bytes[10]!);
  const background = common ? bytes[11]! : 0;
  const frames: GifFrame[] = [];
  const control: Control = { disposal: 0, transparent: undefined };
  let [reachX, reachY] = [width, height]; // a later frame can make the image larger
  for (let at = 13 + (common?.length ?? 0); at < bytes.length && frames.length < wanted; ) {
    const block = bytes[at]!;
    if (block === TRAILER) break;
    if (block === 0x21) {
      readControl(bytes, at, control);
      at = subBlocks(bytes, at + 2, false).next;
    } else if (block === 0x2c) {
      if (frames.length === MAX_FRAMES) throw fault('gif-frames', `more than ${MAX_FRAMES} frames`, at);
      const { frame, next } = readFrame(bytes, at, common, control);
      if (frames.length === 0) [width, height] = largest(width, height, frame);
      [reachX, reachY] = largest(reachX, reachY, frame);
      checkPixels(reachX, reachY, maxPixels, at);
      frames.push(frame);
      control.transparent = undefined;
      at = next;
    } else at++;
  }
  if (frames.length === 0) throw fault('gif-frames', 'the file has no image', bytes.length);
  return { width, height, background, frames };
}
