import { isUtf8 } from 'node:buffer';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ImageError } from '../errors.js';
import { IMAGE_ENDING, VIDEO_ENDING } from '../file-signature.js';
import { formatOf, latin1 } from '../image/image-file.js';
import type { OpenVideo } from '../image2text/input-loader.js';
import { type FfmpegOptions, readVideoFrames } from './ffmpeg.js';
import { fileUrl, localPath } from './node-files.js';

/**
 * Opens videos of this machine: a folder is its images, sorted as people count (frame-2 before frame-10); an image file, an animated GIF
 * among them, is left to the caller (undefined), and so is an address; any other file is read by the user's own ffmpeg.
 *
 * @throws ImageError `no-such-file`, `no-frames`, `video-address` for the address of a video, and as `readVideoFrames`; the signal's reason.
 */
export const videoOpener =
  (options: FfmpegOptions = {}): OpenVideo =>
  async (address, count, signal) => {
    signal?.throwIfAborted();
    const text = String(address);
    if (/^(https?|data|blob):/i.test(text)) return refuseVideoAddress(text);
    const path = localPath(address);
    const file = String(path);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined)
      throw new ImageError({ file, code: 'no-such-file', detail: 'there is no such file or folder' });
    if (found.isDirectory()) return imagesIn(path);
    if (!found.isFile())
      throw new ImageError({ file, code: 'not-a-file', detail: 'this is neither a file nor a folder' });
    if (await isImage(path)) return undefined;
    return readVideoFrames(path, count, options, signal);
  };

/** `videoOpener` with ffmpeg and ffprobe of the PATH. */
export const openVideo: OpenVideo = videoOpener();

/** Images may come from the network, a GIF too; what is a video by its name is refused before it is fetched for nothing. */
function refuseVideoAddress(text: string): undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || !VIDEO_ENDING.test(url.pathname)) return undefined;
  const detail = 'videos are read from files on this machine, not from addresses: download it first';
  throw new ImageError({ file: `${url.origin}${url.pathname}`, code: 'video-address', detail, unsupported: true });
}

const below = (folder: string | Buffer, name: Buffer): Buffer =>
  Buffer.concat([Buffer.from(folder), Buffer.from('/'), name]);

/** Names that are no UTF-8 become URLs, which can hold any bytes. */
async function imagesIn(folder: string | Buffer): Promise<string[]> {
  const bytes = await readdir(folder, { encoding: 'buffer' });
  const names = bytes
    .map((name) => ({ name, text: name.toString() }))
    .filter(({ text }) => !text.startsWith('.') && (IMAGE_ENDING.test(text) || !text.includes('.')))
    .sort((a, b) => asPeopleCount(a.text, b.text) || Buffer.compare(a.name, b.name));
  const images: string[] = [];
  for (const { name, text } of names) {
    const path = typeof folder === 'string' && isUtf8(name) ? join(folder, text) : fileUrl(below(folder, name));
    if (IMAGE_ENDING.test(text) || (await isImage(localPath(path)).catch(() => false))) images.push(path);
  }
  if (images.length > 0) return images;
  throw new ImageError({ file: String(folder), code: 'no-frames', detail: 'there is no image in this folder' });
}

const { compare } = new Intl.Collator('en', { numeric: true });
const asPeopleCount = (a: string, b: string): number => compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

/** Whether the file begins as an image that this library decodes. A sequence of AVIF is none: only its first frame can be decoded. */
export async function isImage(path: string | Buffer): Promise<boolean> {
  const start = await readStart(path);
  try {
    return formatOf(start) !== 'avif' || latin1(start, 8, 4) !== 'avis';
  } catch {
    return false;
  }
}

async function readStart(path: string | Buffer): Promise<Uint8Array> {
  try {
    const handle = await open(path, 'r');
    try {
      const { bytesRead, buffer } = await handle.read(new Uint8Array(512), 0, 512, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new ImageError({ file: String(path), code: 'cannot-read', detail: (cause as Error).message, cause });
  }
}
