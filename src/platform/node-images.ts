import type { ReadStream } from 'node:fs';
import { constants, createReadStream, openSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { ImageError } from '../errors.js';
import type { WasmSource } from '../image/webp.js';
import type { OpenImage } from '../image2text/input-loader.js';
import { fetchImage, MAX_IMAGE_BYTES } from '../image2text/input-loader.js';

/** Opens a path, a `file:` URL, or whatever `fetch` can: http, https, data, blob. */
export const openImage: OpenImage = async (address, signal) => {
  const text = String(address);
  if (/^(https?|data|blob):/i.test(text)) return fetchImage(address, signal);
  const path = /^file:/i.test(text) ? fileURLToPath(text) : text;
  return { bytes: await readImageFile(path, signal), file: path };
};

async function readImageFile(path: string, signal?: AbortSignal): Promise<Uint8Array> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new ImageError({ file: path, code: 'no-such-file', detail: 'there is no such file' });
  if (found.isFIFO() || found.isCharacterDevice()) return readPipe(path, found.isFIFO(), signal);
  if (!found.isFile()) throw new ImageError({ file: path, code: 'not-a-file', detail: 'this is not a file' });
  if (found.size > MAX_IMAGE_BYTES) {
    throw new ImageError({
      file: path,
      code: 'file-too-large',
      detail: `${found.size} bytes, at most ${MAX_IMAGE_BYTES}`,
    });
  }
  try {
    return await readFile(path, signal === undefined ? {} : { signal });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new ImageError({ file: path, code: 'cannot-read', detail: (cause as Error).message, cause });
  }
}

/**
 * A named pipe, a shell's `<(…)`, or a device: nobody knows how long it is until it ends. A terminal is refused, a person does not type
 * images.
 */
async function readPipe(file: string, isPipe: boolean, signal?: AbortSignal): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of isPipe ? openPipe(file, signal) : openDevice(file, signal)) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > MAX_IMAGE_BYTES) {
        throw new ImageError({ file, code: 'file-too-large', detail: `more than ${MAX_IMAGE_BYTES} bytes` });
      }
    }
    return new Uint8Array(Buffer.concat(chunks));
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof ImageError) throw cause;
    throw new ImageError({ file, code: 'cannot-read', detail: (cause as Error).message, cause });
  }
}

/** As a socket, because a read of a file that waits for a writer holds a thread, and no signal ends it. */
const openPipe = (path: string, signal?: AbortSignal): Socket =>
  new Socket({
    fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), // does not wait for a writer
    readable: true,
    writable: false,
    ...(signal === undefined ? {} : { signal }),
  });

function openDevice(path: string, signal?: AbortSignal): ReadStream {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stream = createReadStream(path, { fd, ...(signal === undefined ? {} : { signal }) });
  if (!isatty(fd)) return stream;
  stream.destroy();
  throw new ImageError({ file: path, code: 'not-a-file', detail: 'this is a terminal' });
}

/** The WebP decoder's WebAssembly from the codec's package: Node's `fetch` does not open files. */
export const webpWasm: WasmSource = () =>
  readFile(createRequire(import.meta.url).resolve('@jsquash/webp/codec/dec/webp_dec.wasm'));
