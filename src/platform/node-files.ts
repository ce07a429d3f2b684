import { isUtf8 } from 'node:buffer';
import type { ReadStream } from 'node:fs';
import { constants, createReadStream, openSync } from 'node:fs';
import { open, readFile, realpath, stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join, resolve, sep } from 'node:path';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import type { ByteSource, ModelFiles } from '../checkpoint/byte-source.js';
import { ConfigError, Image2TextError, ImageError, quote } from '../errors.js';
import type { OpenImage } from '../image2text/input-loader.js';
import { fetchImage, MAX_IMAGE_BYTES } from '../image2text/input-loader.js';

/** A file on disk as a byte source; it is opened for each read and closed after it, so that no handle can be left behind. */
export async function fromFile(path: string): Promise<ByteSource> {
  const { size } = await stat(path);
  return {
    size,
    slice: (start, end) => ({
      async arrayBuffer() {
        const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start));
        await fill(path, start, bytes);
        return bytes.buffer;
      },
    }),
    readInto: (start, target) => fill(path, start, target),
  };
}

/** Reads `target.length` bytes from `start` on into `target`. */
async function fill(path: string, start: number, target: Uint8Array): Promise<void> {
  const handle = await open(path, 'r');
  try {
    for (let done = 0; done < target.length; ) {
      const { bytesRead } = await handle.read(target, done, target.length - done, start + done);
      if (bytesRead === 0) {
        const detail = `it ended at byte ${start + done} while it was read; did it change?`;
        throw new Image2TextError({ file: path, offset: start + done, code: 'file-changed', detail });
      }
      done += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

/**
 * A checkpoint folder on disk. Only plain file names of that folder are opened; symbolic links may point anywhere, as those of the
 * Hugging Face cache do.
 *
 * @throws ConfigError when the path is not a folder.
 */
export async function fromDirectory(path: string): Promise<ModelFiles> {
  const folder = resolve(path);
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory() !== true) {
    const detail = found === undefined ? 'there is no such folder' : 'this is not a folder';
    throw new ConfigError({
      file: path,
      code: 'not-a-folder',
      detail: `${detail}; a checkpoint is a folder with config.json and weights`,
    });
  }
  return {
    label: path,
    async open(name) {
      const file = join(folder, name);
      if (!file.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return undefined;
      const there = await stat(file).catch(() => undefined);
      return there?.isFile() === true ? fromFile(await realpath(file)) : undefined;
    },
  };
}

/** Opens a path, a `file:` URL, or whatever `fetch` can: http, https, data, blob. */
export const openImage: OpenImage = async (address, signal) => {
  const text = String(address);
  if (/^(https?|data|blob):/i.test(text)) return fetchImage(address, signal);
  const path = localPath(address);
  return { bytes: await readImageFile(path, String(path), signal), file: String(path) };
};

/**
 * The path that a string or a `file:` URL names; bytes where it is no UTF-8, which file systems allow.
 *
 * @throws ImageError `file-url` for a URL that names no file of this machine.
 */
export function localPath(address: string | URL): string | Buffer {
  const text = String(address);
  if (!/^file:/i.test(text)) return text;
  const fail = (detail: string): never => {
    throw new ImageError({ file: text, code: 'file-url', detail });
  };
  const url = URL.canParse(text) ? new URL(text) : fail('this is no URL');
  if (process.platform === 'win32') {
    try {
      return fileURLToPath(url);
    } catch (cause) {
      return fail((cause as Error).message);
    }
  }
  if (url.hostname !== '' && url.hostname !== 'localhost')
    fail(`it names the machine ${quote(url.hostname)}; files of this machine are file:///path`);
  if (/%2f|%00/i.test(url.pathname)) fail('a file name holds neither an encoded slash nor a zero byte');
  const bytes = Buffer.from(
    url.pathname.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
  return isUtf8(bytes) ? bytes.toString() : bytes;
}

/** The other way round: a `file:` URL with every byte of the path that is not plain written as `%xx`. */
export function fileUrl(path: Buffer): string {
  const whole = path[0] === 0x2f ? path : Buffer.concat([Buffer.from(`${process.cwd()}/`), path]);
  return `file://${whole.toString('latin1').replace(/[^\w./-]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`)}`;
}

async function readImageFile(path: string | Buffer, file: string, signal?: AbortSignal): Promise<Uint8Array> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new ImageError({ file, code: 'no-such-file', detail: 'there is no such file' });
  if (found.isFIFO() || found.isCharacterDevice()) return readPipe(file, found.isFIFO(), signal);
  if (!found.isFile()) throw new ImageError({ file, code: 'not-a-file', detail: 'this is not a file' });
  if (found.size > MAX_IMAGE_BYTES) {
    throw new ImageError({
      file,
      code: 'file-too-large',
      detail: `${found.size} bytes, at most ${MAX_IMAGE_BYTES}`,
    });
  }
  try {
    return await readFile(path, signal === undefined ? {} : { signal });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new ImageError({ file, code: 'cannot-read', detail: (cause as Error).message, cause });
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
