import { ImageError } from '../errors.js';
import { runInSlices } from '../event-loop.js';
import { join, latin1, u16le, u24le, u32le } from './image-file.js';
import type { RgbImage } from './raw-image.js';
import { allocate, checkPixels, fault } from './raw-image.js';

/** One frame of an animation. */
interface WebpFrame {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** Whether its rectangle is transparent again before the next frame. */
  readonly clears: boolean;
  readonly blends: boolean;
  readonly hasAlpha: boolean;
  /** The frame as a file of its own. */
  readonly still: Uint8Array;
}

/** The structure of a WebP file, checked. */
export interface WebpFile {
  readonly width: number;
  readonly height: number;
  readonly animated: boolean;
  /** Of an animation. */
  readonly frames: readonly WebpFrame[];
  readonly lossless: boolean;
  /** A TIFF structure. */
  readonly exif: Uint8Array | undefined;
  readonly xmp: Uint8Array | undefined;
}

const MAX_CHUNKS = 10_000;

interface Chunk {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

/** The chunks of the RIFF container. */
function chunksOf(bytes: Uint8Array): Chunk[] {
  const end = 8 + u32le(bytes, 4);
  if (bytes.length < 20) throw fault('webp-truncated', 'the file ends inside its header', bytes.length);
  if (end > bytes.length) throw fault('webp-truncated', `the header claims ${end} bytes of ${bytes.length}`, 4);
  return chunksBetween(bytes, 12, end);
}

function chunksBetween(bytes: Uint8Array, start: number, end: number): Chunk[] {
  const chunks: Chunk[] = [];
  for (let at = start; at + 8 <= end; ) {
    const length = u32le(bytes, at + 4);
    const chunk = { type: latin1(bytes, at, 4), start: at + 8, end: at + 8 + length };
    if (chunk.end > end) throw fault('webp-truncated', `a chunk of ${length} bytes runs past the end`, at);
    if (chunks.length === MAX_CHUNKS) throw fault('webp-chunks', `more than ${MAX_CHUNKS} chunks`, at);
    chunks.push(chunk);
    at = chunk.end + (length & 1);
  }
  return chunks;
}

/** Size from the header of a VP8 key frame (RFC 6386, 9.1) or of VP8L (WebP lossless specification, 3). */
function bitstreamSize(bytes: Uint8Array, { type, start, end }: Chunk): [width: number, height: number] {
  if (end - start < (type === 'VP8L' ? 5 : 10))
    throw fault('webp-truncated', `chunk ${type} has ${end - start} bytes`, start);
  if (type === 'VP8 ') {
    const key = (bytes[start]! & 1) === 0 && u24le(bytes, start + 3) === 0x2a019d;
    if (!key) throw fault('webp-data', 'no VP8 key frame', start);
    return [u16le(bytes, start + 6) & 0x3fff, u16le(bytes, start + 8) & 0x3fff];
  }
  const bits = u32le(bytes, start + 1);
  if (bytes[start] !== 0x2f || bits >>> 29 !== 0) throw fault('webp-data', 'no VP8L header', start);
  return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
}

/** ANMF (WebP container specification, 2.6.2). */
function readFrame(
  bytes: Uint8Array,
  { start, end }: Chunk,
  [canvasWidth, canvasHeight]: readonly number[],
): WebpFrame {
  if (end - start < 16) throw fault('webp-truncated', `a frame of ${end - start} bytes`, start);
  const [left, top] = [2 * u24le(bytes, start), 2 * u24le(bytes, start + 3)];
  const [width, height] = [u24le(bytes, start + 6) + 1, u24le(bytes, start + 9) + 1];
  if (left + width > canvasWidth! || top + height > canvasHeight!)
    throw fault('webp-data', 'a frame beyond the edge', start);
  const chunks = chunksBetween(bytes, start + 16, end);
  const image = chunks.find(({ type }) => type === 'VP8 ' || type === 'VP8L');
  if (!image) throw fault('webp-data', 'a frame without an image', start);
  const [innerWidth, innerHeight] = bitstreamSize(bytes, image);
  if (innerWidth !== width || innerHeight !== height) throw fault('webp-data', 'two sizes that differ', start);
  const alpha = image.type === 'VP8 ' ? chunks.find(({ type }) => type === 'ALPH') : undefined;
  const hasAlpha = alpha !== undefined || (image.type === 'VP8L' && ((bytes[image.start + 4]! >> 4) & 1) === 1);
  const parts = [alpha, image].flatMap((chunk) =>
    chunk ? [bytes.subarray(chunk.start - 8, chunk.end), PAD.subarray(0, (chunk.end - chunk.start) & 1)] : [],
  );
  const extended = new Uint8Array(18);
  extended.set([0x56, 0x50, 0x38, 0x58, 10, 0, 0, 0, 0x10]);
  for (let i = 0; i < 3; i++) {
    extended[12 + i] = (width - 1) >> (8 * i);
    extended[15 + i] = (height - 1) >> (8 * i);
  }
  const body = join(alpha ? [extended, ...parts] : parts);
  const head = new Uint8Array(12);
  head.set(bytes.subarray(0, 4));
  head.set(bytes.subarray(8, 12), 8);
  new DataView(head.buffer).setUint32(4, body.length + 4, true);
  const flags = bytes[start + 15]!;
  const still = join([head, body]);
  return { left, top, width, height, clears: (flags & 1) === 1, blends: (flags & 2) === 0, hasAlpha, still };
}

const PAD = /* @__PURE__ */ new Uint8Array(1);

/** Checks the RIFF structure and the sizes of a WebP file; the bitstream itself is the codec's. */
export function readWebp(bytes: Uint8Array, maxPixels: number): WebpFile {
  const chunks = chunksOf(bytes);
  const extended = chunks[0]?.type === 'VP8X' ? chunks[0] : undefined;
  const image = chunks.find(({ type }) => type === 'VP8 ' || type === 'VP8L');
  const metadata = (name: string) => {
    const chunk = chunks.find(({ type }) => type === name);
    return chunk && bytes.subarray(chunk.start, chunk.end);
  };
  if (extended && extended.end - extended.start < 10) throw fault('webp-data', 'chunk VP8X is too short', 12);
  const canvas = extended && [u24le(bytes, extended.start + 4) + 1, u24le(bytes, extended.start + 7) + 1];
  const animated = extended !== undefined && (bytes[extended.start]! & 2) !== 0;
  if (!image && !animated) throw fault('webp-data', 'no image in the file', 12);
  const [width, height] = (canvas ?? bitstreamSize(bytes, image!)) as [number, number];
  checkPixels(width, height, maxPixels, 12);
  if (image && !animated) {
    const [innerWidth, innerHeight] = bitstreamSize(bytes, image);
    checkPixels(innerWidth, innerHeight, maxPixels, image.start);
    if (innerWidth !== width || innerHeight !== height) throw fault('webp-data', 'two sizes that differ', 12);
  }
  const lossless = image?.type === 'VP8L';
  const anmf = animated ? chunks.filter(({ type }) => type === 'ANMF') : [];
  if (animated && anmf.length === 0) throw fault('webp-data', 'an animation without frames', 12);
  const frames = anmf.map((chunk) => readFrame(bytes, chunk, [width, height]));
  return { width, height, animated, frames, lossless, exif: metadata('EXIF'), xmp: metadata('XMP ') };
}

interface Rgba {
  readonly data: ArrayLike<number>;
  readonly width: number;
  readonly height: number;
}

/** One still image through the codec. */
function decodeStill(codec: Codec, bytes: Uint8Array, width: number, height: number): Rgba {
  let rgba: Rgba | null;
  try {
    rgba = withImageData(() => codec.decode(bytes));
  } catch (cause) {
    throw new ImageError({ code: 'webp-data', detail: 'the decoder failed', cause });
  }
  if (!rgba || rgba.width !== width || rgba.height !== height) throw fault('webp-data', 'broken image data');
  return rgba;
}

/**
 * Decodes a WebP, alpha dropped: the first `wanted` frames of an animation, as Pillow shows them, or the still image. libwebp runs in a
 * WebAssembly instance of its own, which is garbage afterwards: its memory only ever grows, and an image that breaks it breaks
 * nothing else. `maxPixels` counts the pixels of all frames.
 * @throws ImageError for a broken bitstream.
 */
export async function decodeWebp(
  bytes: Uint8Array,
  file: WebpFile,
  { wanted, maxPixels, signal }: { wanted: number; maxPixels: number; signal: AbortSignal | undefined },
): Promise<RgbImage[]> {
  const codec = await startCodec();
  const { width, height } = file;
  signal?.throwIfAborted();
  if (!file.animated) return [await runInSlices(dropAlpha(decodeStill(codec, bytes, width, height)), signal)];
  const frames = file.frames.slice(0, wanted);
  if (width * height * frames.length > maxPixels) {
    const detail = `${frames.length} frames of ${width} by ${height} pixels; the limit (maxPixels) is ${maxPixels}`;
    throw fault('image-too-large', detail);
  }
  const images: RgbImage[] = [];
  const canvas = { data: new Uint8Array(width * height * 4), width, height };
  let before: WebpFrame | undefined;
  let beforeIsKey = false;
  for (const frame of frames) {
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    const isWhole = (f: WebpFrame) => f.width === width && f.height === height;
    const isKey: boolean =
      !before ||
      ((!frame.hasAlpha || !frame.blends) && isWhole(frame)) ||
      (before.clears && (isWhole(before) || beforeIsKey));
    const still = decodeStill(codec, frame.still, frame.width, frame.height);
    if (isKey) canvas.data.fill(0);
    else if (before!.clears) clear(canvas, before!);
    paint(canvas, frame, still.data, !isKey && frame.blends, before?.clears ? before : undefined);
    images.push(await runInSlices(dropAlpha(canvas), signal));
    before = frame;
    beforeIsKey = isKey;
  }
  return images;
}

/** Pixels between two yields: some milliseconds. */
const STEP = 1 << 20;

function* dropAlpha({ data: rgba, width, height }: Rgba): Generator<void, RgbImage> {
  const data = allocate(Uint8Array, width * height * 3);
  for (let from = 0; from < width * height; from += STEP) {
    if (from > 0) yield;
    dropAlphaOf(rgba, data, from, Math.min(from + STEP, width * height));
  }
  return { data, width, height };
}

function dropAlphaOf(rgba: ArrayLike<number>, rgb: Uint8Array, first: number, end: number): void {
  for (let from = first * 4, to = first * 3; from < end * 4; from += 4, to += 3) {
    rgb[to] = rgba[from]!;
    rgb[to + 1] = rgba[from + 1]!;
    rgb[to + 2] = rgba[from + 2]!;
  }
}

interface Canvas extends Rgba {
  readonly data: Uint8Array;
}

function clear(canvas: Canvas, { left, top, width, height }: WebpFrame): void {
  for (let y = top; y < top + height; y++) {
    const at = (y * canvas.width + left) * 4;
    canvas.data.fill(0, at, at + width * 4);
  }
}

/** Puts a frame on the canvas, with libwebp's arithmetic for what is not opaque; nothing is blended in a rectangle just cleared. */
function paint(
  canvas: Canvas,
  frame: WebpFrame,
  pixels: ArrayLike<number>,
  blends: boolean,
  cleared?: WebpFrame,
): void {
  const { data } = canvas;
  for (let y = 0, from = 0; y < frame.height; y++) {
    let to = ((frame.top + y) * canvas.width + frame.left) * 4;
    for (let x = 0; x < frame.width; x++, from += 4, to += 4) {
      const alpha = pixels[from + 3]!;
      if (blends && alpha < 255 && !(cleared && contains(cleared, frame.left + x, frame.top + y))) {
        if (alpha === 0) continue;
        const below = (data[to + 3]! * (256 - alpha)) >> 8;
        const both = alpha + below;
        const scale = Math.floor(2 ** 24 / both);
        for (let c = 0; c < 3; c++) {
          data[to + c] = Math.floor(((pixels[from + c]! * alpha + data[to + c]! * below) * scale) / 2 ** 24);
        }
        data[to + 3] = both;
      } else for (let c = 0; c < 4; c++) data[to + c] = pixels[from + c]!;
    }
  }
}

const contains = ({ left, top, width, height }: WebpFrame, x: number, y: number): boolean =>
  x >= left && x < left + width && y >= top && y < top + height;

const compiled = new Map<string, Promise<WebAssembly.Module>>();

/** A codec's WebAssembly, a module like any other that is loaded when the first such image is met. */
const BINARIES = {
  webp: () => import('./generated/webp-wasm.js'),
  avif: () => import('./generated/avif-wasm.js'),
};

async function compile(name: keyof typeof BINARIES): Promise<WebAssembly.Module> {
  const { base64 } = await BINARIES[name]();
  return WebAssembly.compile(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
}

/** What is used of the codec's Emscripten module. */
interface Codec {
  readonly decode: (bytes: Uint8Array) => Rgba | null;
}

interface CodecOptions {
  readonly noInitialRun: true;
  readonly print: () => void;
  readonly printErr: () => void;
  readonly instantiateWasm: (
    imports: WebAssembly.Imports,
    done: (instance: WebAssembly.Instance) => void,
  ) => WebAssembly.Exports;
}

const startCodec = (): Promise<Codec> =>
  startWasm(
    'webp',
    async () => (await import('@jsquash/webp/codec/dec/webp_dec.js')).default as unknown as Factory<Codec>,
  );

export type Factory<Instance> = (options: CodecOptions) => Promise<Instance>;

/** Starts a codec of jSquash in a WebAssembly instance of its own, without output on the console. */
export async function startWasm<Instance>(
  name: keyof typeof BINARIES,
  load: () => Promise<Factory<Instance>>,
): Promise<Instance> {
  try {
    const factory = await load();
    const compiling = compiled.get(name) ?? compile(name);
    compiled.set(name, compiling);
    const module = await compiling;
    return await withImageData(() =>
      factory({
        noInitialRun: true,
        print: () => undefined,
        printErr: () => undefined,
        instantiateWasm(imports, done) {
          const instance = new WebAssembly.Instance(module, imports);
          done(instance);
          return instance.exports;
        },
      }),
    );
  } catch (cause) {
    compiled.delete(name);
    throw new ImageError({
      code: `${name}-codec`,
      detail: `the WebAssembly of the ${name === 'webp' ? 'WebP' : 'AVIF'} decoder cannot be loaded`,
      cause,
    });
  }
}

/** What the codec builds its result with where there is no canvas. */
class Samples {
  constructor(
    readonly data: Uint8ClampedArray,
    readonly width: number,
    readonly height: number,
  ) {}
}

/**
 * Runs codec code, which looks for a global ImageData. Node has none, and the one that the codec would leave there for good would mislead
 * whoever looks for a browser: so it exists during the call only.
 */
export function withImageData<T>(body: () => T): T {
  if ('ImageData' in globalThis) return body();
  Object.assign(globalThis, { ImageData: Samples });
  try {
    return body();
  } finally {
    Reflect.deleteProperty(globalThis, 'ImageData');
  }
}
