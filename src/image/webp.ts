import { ImageError } from '../errors.js';
import { latin1, u16le, u24le, u32le } from './bytes.js';
import { checkPixels, fault, unsupported } from './fault.js';
import type { RawImage } from './raw-image.js';

/** The structure of a WebP file, checked. */
export interface WebpFile {
  readonly width: number;
  readonly height: number;
  readonly animated: boolean;
  readonly lossless: boolean;
  /** A TIFF structure. */
  readonly exif: Uint8Array | undefined;
  readonly xmp: Uint8Array | undefined;
}

/** Where the decoder's WebAssembly comes from; without it the codec fetches the file that lies beside it (browsers, bundlers). */
export type WasmSource = () => Promise<WebAssembly.Module | BufferSource>;

const MAX_CHUNKS = 10_000;

interface Chunk {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

function chunksOf(bytes: Uint8Array): Chunk[] {
  const end = 8 + u32le(bytes, 4);
  if (bytes.length < 20) throw fault('webp-truncated', 'the file ends inside its header', bytes.length);
  if (end > bytes.length) throw fault('webp-truncated', `the header claims ${end} bytes of ${bytes.length}`, 4);
  const chunks: Chunk[] = [];
  for (let at = 12; at + 8 <= end; ) {
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
  if (end - start < 10) throw fault('webp-truncated', `chunk ${type} has ${end - start} bytes`, start);
  if (type === 'VP8 ') {
    const key = (bytes[start]! & 1) === 0 && u24le(bytes, start + 3) === 0x2a019d;
    if (!key) throw fault('webp-data', 'no VP8 key frame', start);
    return [u16le(bytes, start + 6) & 0x3fff, u16le(bytes, start + 8) & 0x3fff];
  }
  const bits = u32le(bytes, start + 1);
  if (bytes[start] !== 0x2f || bits >>> 29 !== 0) throw fault('webp-data', 'no VP8L header', start);
  return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
}

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
  return { width, height, animated, lossless, exif: metadata('EXIF'), xmp: metadata('XMP ') };
}

/**
 * Decodes a still WebP, alpha dropped. libwebp runs in a WebAssembly instance of its own, which is garbage afterwards: its memory only
 * ever grows, and an image that breaks it breaks nothing else.
 * @throws ImageError for a broken bitstream; `unsupported` for an animation.
 */
export async function decodeWebp(bytes: Uint8Array, file: WebpFile, wasm: WasmSource | undefined): Promise<RawImage> {
  if (file.animated) throw unsupported('webp-animated', 'animated WebP is not supported');
  const codec = await startCodec(wasm);
  let rgba: ReturnType<Codec['decode']>;
  try {
    rgba = withImageData(() => codec.decode(bytes));
  } catch (cause) {
    throw new ImageError({ code: 'webp-data', detail: 'the decoder failed', cause });
  }
  const { width, height } = file;
  if (!rgba || rgba.width !== width || rgba.height !== height) throw fault('webp-data', 'broken image data');
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = rgba.data[from]!;
    data[to + 1] = rgba.data[from + 1]!;
    data[to + 2] = rgba.data[from + 2]!;
  }
  return { data, width, height };
}

let compiled: Promise<WebAssembly.Module> | undefined;

async function compile(wasm: WasmSource): Promise<WebAssembly.Module> {
  const source = await wasm();
  return source instanceof WebAssembly.Module ? source : WebAssembly.compile(source);
}

/** What is used of the codec's Emscripten module. */
interface Codec {
  readonly decode: (bytes: Uint8Array) => { data: ArrayLike<number>; width: number; height: number } | null;
}

interface CodecOptions {
  readonly noInitialRun: true;
  readonly print: () => void;
  readonly printErr: () => void;
  readonly instantiateWasm?: (
    imports: WebAssembly.Imports,
    done: (instance: WebAssembly.Instance) => void,
  ) => WebAssembly.Exports;
}

async function startCodec(wasm: WasmSource | undefined): Promise<Codec> {
  try {
    const codec = await import('@jsquash/webp/codec/dec/webp_dec.js');
    const factory = codec.default as unknown as (options: CodecOptions) => Promise<Codec>;
    const quiet = { noInitialRun: true, print: () => undefined, printErr: () => undefined } as const;
    if (!wasm) return await factory(quiet);
    compiled ??= compile(wasm);
    const module = await compiled;
    return await withImageData(() =>
      factory({
        ...quiet,
        instantiateWasm(imports, done) {
          const instance = new WebAssembly.Instance(module, imports);
          done(instance);
          return instance.exports;
        },
      }),
    );
  } catch (cause) {
    compiled = undefined;
    throw new ImageError({
      code: 'webp-codec',
      detail: 'the WebAssembly of the WebP decoder cannot be loaded (option webpWasm)',
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
function withImageData<T>(body: () => T): T {
  if ('ImageData' in globalThis) return body();
  Object.assign(globalThis, { ImageData: Samples });
  try {
    return body();
  } finally {
    Reflect.deleteProperty(globalThis, 'ImageData');
  }
}
