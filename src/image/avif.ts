import { ImageError } from '../errors.js';
import { latin1, u32be } from './image-file.js';
import type { RawImage } from './raw-image.js';
import { allocate, checkPixels, fault } from './raw-image.js';
import { startWasm, withImageData } from './webp.js';

/** Bytes in which the item properties of an AVIF file are looked for. */
const HEADER = 1 << 16;

/** The largest size that an `ispe` property of the file gives, checked before anything is decoded. */
export function readAvif(bytes: Uint8Array, maxPixels: number): { width: number; height: number } {
  const text = latin1(bytes, 0, HEADER);
  let [width, height] = [0, 0];
  for (let at = text.indexOf('ispe'); at >= 0; at = text.indexOf('ispe', at + 4)) {
    const [w, h] = [u32be(bytes, at + 8), u32be(bytes, at + 12)];
    checkPixels(w, h, maxPixels, at);
    if (w * h > width * height) [width, height] = [w, h];
  }
  if (width === 0) throw fault('avif-data', 'the file does not say the size of its image', 0);
  return { width, height };
}

interface Codec {
  readonly decode: (
    bytes: Uint8Array,
    bitDepth?: number,
  ) => { data: ArrayLike<number>; width: number; height: number } | null;
}

/**
 * Decodes an AVIF to RGB with libavif and its own rotation and mirroring applied, in a WebAssembly instance that is used once. Decoders
 * differ in the last bits of lossy files.
 * @throws ImageError for a broken file.
 */
export async function decodeAvif(bytes: Uint8Array, maxPixels: number): Promise<RawImage> {
  readAvif(bytes, maxPixels);
  const codec = await startWasm<Codec>(
    'avif',
    async () => (await import('@jsquash/avif/codec/dec/avif_dec.js')).default as never,
  );
  let rgba: ReturnType<Codec['decode']>;
  try {
    rgba = withImageData(() => codec.decode(bytes, 8));
  } catch (cause) {
    throw new ImageError({ code: 'avif-data', detail: 'the decoder failed', cause });
  }
  if (!rgba || rgba.width < 1 || rgba.height < 1) throw fault('avif-data', 'broken image data');
  const { width, height } = rgba;
  const data = allocate(Uint8Array, width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4) {
    for (let c = 0; c < 3; c++) data[to++] = rgba.data[from + c]!;
  }
  return { data, width, height };
}
