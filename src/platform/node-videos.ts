import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ImageError } from '../errors.js';
import { formatOf } from '../image/identify.js';
import type { OpenVideo } from '../image2text/input-loader.js';
import { type FfmpegOptions, readVideoFrames } from './ffmpeg.js';

const IMAGE = /\.(png|jpe?g|webp|gif)$/i;
const VIDEO = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|m2ts|wmv|flv|ogv|3gp|m3u8|mpd)$/i;

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
    const path = /^file:/i.test(text) ? fileURLToPath(text) : text;
    const found = await stat(path).catch(() => undefined);
    if (found === undefined)
      throw new ImageError({ file: path, code: 'no-such-file', detail: 'there is no such file or folder' });
    if (found.isDirectory()) return imagesIn(path);
    if (!found.isFile())
      throw new ImageError({ file: path, code: 'not-a-file', detail: 'this is neither a file nor a folder' });
    return (await isImage(path)) ? undefined : readVideoFrames(path, count, options, signal);
  };

/** `videoOpener` with ffmpeg and ffprobe of the PATH. */
export const openVideo: OpenVideo = videoOpener();

/** Images may come from the network, a GIF too; what is a video by its name is refused before it is fetched for nothing. */
function refuseVideoAddress(text: string): undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || !VIDEO.test(url.pathname)) return undefined;
  const detail = 'videos are read from files on this machine, not from addresses: download it first';
  throw new ImageError({ file: `${url.origin}${url.pathname}`, code: 'video-address', detail, unsupported: true });
}

async function imagesIn(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => IMAGE.test(name) && !name.startsWith('.'));
  if (names.length === 0)
    throw new ImageError({ file: folder, code: 'no-frames', detail: 'no PNG, JPEG, WebP or GIF in this folder' });
  return names.sort(asPeopleCount).map((name) => join(folder, name));
}

const { compare } = new Intl.Collator('en', { numeric: true });
const asPeopleCount = (a: string, b: string): number => compare(a, b) || (a < b ? -1 : 1);

/** Whether the file begins as an image that this library decodes. */
async function isImage(path: string): Promise<boolean> {
  const start = await readStart(path);
  try {
    formatOf(start);
    return true;
  } catch {
    return false;
  }
}

async function readStart(path: string): Promise<Uint8Array> {
  try {
    const handle = await open(path, 'r');
    try {
      const { bytesRead, buffer } = await handle.read(new Uint8Array(512), 0, 512, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new ImageError({ file: path, code: 'cannot-read', detail: (cause as Error).message, cause });
  }
}
