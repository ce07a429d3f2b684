import { readFile, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { ImageError } from '../errors.js';
import type { WasmSource } from '../image/webp.js';
import type { OpenPicture } from '../image2text/pictures.js';
import { fetchPicture, MAX_PICTURE_BYTES } from '../image2text/pictures.js';

/** Opens a path, a `file:` URL, or whatever `fetch` can: http, https, data, blob. */
export const openPicture: OpenPicture = async (address, signal) => {
  const text = String(address);
  if (/^(https?|data|blob):/i.test(text)) return fetchPicture(address, signal);
  const path = /^file:/i.test(text) ? fileURLToPath(text) : text;
  return { bytes: await readPictureFile(path, signal), file: path };
};

async function readPictureFile(path: string, signal?: AbortSignal): Promise<Uint8Array> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new ImageError({ file: path, rule: 'no-such-file', detail: 'there is no such file' });
  if (!found.isFile()) throw new ImageError({ file: path, rule: 'not-a-file', detail: 'this is not a file' });
  if (found.size > MAX_PICTURE_BYTES) {
    throw new ImageError({
      file: path,
      rule: 'file-too-large',
      detail: `${found.size} bytes, at most ${MAX_PICTURE_BYTES}`,
    });
  }
  try {
    return await readFile(path, signal === undefined ? {} : { signal });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new ImageError({ file: path, rule: 'cannot-read', detail: (cause as Error).message, cause });
  }
}

/** The WebP decoder's WebAssembly from the codec's package: Node's `fetch` does not open files. */
export const webpWasm: WasmSource = () =>
  readFile(createRequire(import.meta.url).resolve('@jsquash/webp/codec/dec/webp_dec.wasm'));
