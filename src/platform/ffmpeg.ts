import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { ImageError, quote } from '../errors.js';
import { readAvif } from '../image/avif.js';
import { DEFAULT_MAX_PIXELS } from '../image/decode.js';
import { readPngHeader } from '../image/png/chunks.js';
import type { RgbImage } from '../image/raw-image.js';
import type { ConvertHeic } from '../image2text/input-loader.js';
import { evenly } from '../image2text/inputs.js';

/** Which programs read videos, and how much they may cost. */
export interface FfmpegOptions {
  /** Default `ffmpeg`, found on the PATH. */
  readonly ffmpeg?: string | undefined;
  /** Default `ffprobe`, found on the PATH. */
  readonly ffprobe?: string | undefined;
  /** Most milliseconds for each of the two programs. Default 10 minutes. */
  readonly timeLimitMs?: number | undefined;
  /** Most pixels of all frames that are looked at together. Default 100 million. */
  readonly maxPixels?: number | undefined;
}

const TEN_MINUTES = 600_000;

/**
 * Containers that are opened, by ffmpeg's names. Playlists and scripts (HLS, DASH, concat, SDP, …) are not among them: they name other
 * files and addresses, and a video must not be able to choose what is read.
 */
const CONTAINERS =
  'mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng,ivf,obu,h264,hevc,m4v,mjpeg,mxf,nut,yuv4mpegpipe,dv,rm,wtv,vc1,nsv,flic,swf';

/** Local files only, of those containers. */
const inputArguments = (path: string): string[] => [
  ...['-protocol_whitelist', 'file', '-format_whitelist', CONTAINERS],
  ...['-i', `file:${path}`], // with the protocol, so that no name is taken for an option or an address
];

/**
 * Frames of a video file, read by the user's own ffmpeg: all if there are at most `count`, else the middle of each of `count` equal parts,
 * counted in frames. Rotated as the file asks, 8-bit RGB, as PyAV's `to_rgb()` gives them for 8-bit videos. No shell, no temporary file.
 *
 * @throws ImageError `ffmpeg-missing`, `not-a-video`, `no-frames`, `too-many-pixels`, `ffmpeg-too-slow`, `ffmpeg-failed`; the signal's reason.
 */
export async function readVideoFrames(
  path: string | Buffer,
  count: number,
  options: FfmpegOptions = {},
  signal?: AbortSignal,
): Promise<RgbImage[]> {
  if (typeof path === 'string') return framesOf({ file: path, input: path }, count, options, signal);
  // an argument of a program is text: a name of other bytes is handed on as an open file
  const handle = await open(path, 'r');
  try {
    const file = { file: String(path), input: `/dev/fd/${FIRST_FREE}`, descriptor: handle.fd };
    return await framesOf(file, count, options, signal);
  } finally {
    await handle.close();
  }
}

/** A video file: what messages call it, what the programs are given, and the open file that this means to them. */
interface VideoFile {
  readonly file: string;
  readonly input: string;
  readonly descriptor?: number;
}

/** The number of an open file that a program is given beside stdin, stdout and stderr. */
const FIRST_FREE = 3;

async function framesOf(
  video: VideoFile,
  count: number,
  options: FfmpegOptions,
  signal: AbortSignal | undefined,
): Promise<RgbImage[]> {
  const packets = await probe(video, 'packets', options, signal);
  const frames = await extract(video, packets, count, options, signal);
  if (frames.length === Math.min(packets, count)) return frames;
  // Some packets hold no frame that is shown (cut away by an edit list, broken): counting frames means decoding all of them.
  const shown = await probe(video, 'frames', options, signal);
  return extract(video, shown, count, options, signal);
}

/** How many packets or decoded frames the first video stream has; cover images of songs do not count as one. */
async function probe(
  video: VideoFile,
  unit: 'packets' | 'frames',
  options: FfmpegOptions,
  signal: AbortSignal | undefined,
): Promise<number> {
  const args = [
    ...['-v', 'error', ...inputArguments(video.input), `-count_${unit}`, '-select_streams', 'V:0'],
    ...['-show_entries', `stream=nb_read_${unit}`, '-of', 'csv=p=0'],
  ];
  const { output, code, stderr } = await run(options.ffprobe ?? 'ffprobe', video, args, readText, options, signal);
  if (code !== 0)
    throw new ImageError({ file: video.file, code: 'not-a-video', detail: lastLine(stderr, video.input) });
  if (output.trim() === '')
    throw new ImageError({ file: video.file, code: 'not-a-video', detail: 'it has no video stream' });
  const total = Number(/^\d+/.exec(output)?.[0] ?? 0); // `N/A` where none was read
  if (total > 0) return total;
  throw new ImageError({
    file: video.file,
    code: 'no-frames',
    detail: stderr === '' ? 'it has none' : lastLine(stderr, video.input),
  });
}

/** The chosen ones of `total` frames; fewer if there are fewer than that after all. */
async function extract(
  video: VideoFile,
  total: number,
  count: number,
  options: FfmpegOptions,
  signal: AbortSignal | undefined,
): Promise<RgbImage[]> {
  const chosen = evenly(total, count);
  const filter = [
    `select=${chosen.map((index) => `eq(n\\,${index})`).join('+')}`,
    'scale=flags=bilinear', // PyAV's choice, and not left to what this version of ffmpeg prefers
    'format=rgb24',
    'settb=1/25', // renumbered to one frame for each tick of the output, so that none is doubled or dropped
    'setpts=N',
  ];
  const args = [
    ...['-nostdin', '-v', 'error', ...inputArguments(video.input), '-map', '0:V:0', '-vf', filter.join(',')],
    ...['-r', '25', '-frames:v', String(chosen.length), '-c:v', 'ppm', '-f', 'image2pipe', 'pipe:1'],
  ];
  const maxPixels = options.maxPixels ?? DEFAULT_MAX_PIXELS;
  const read = (stdout: AsyncIterable<Uint8Array>) => readPpmStream(stdout, maxPixels);
  const { output, code, stderr } = await run(options.ffmpeg ?? 'ffmpeg', video, args, read, options, signal);
  if (code === 0) return output;
  throw new ImageError({ file: video.file, code: 'ffmpeg-failed', detail: lastLine(stderr, video.input) });
}

/** Which programs read HEIF images. */
export interface HeifOptions extends Pick<FfmpegOptions, 'ffmpeg' | 'timeLimitMs'> {
  /** Default: `heif-dec` or `heif-convert` of libheif, found on the PATH. */
  readonly heifConvert?: string | undefined;
}

/** Most milliseconds for the conversion of one image. */
const ONE_MINUTE = 60_000;

/**
 * Converts HEIF images with the user's own heif-dec or heif-convert, else with ffmpeg, to PNG, through temporary files in a folder of their
 * own. An ffmpeg that gives one tile of an image that is made of tiles is found out by the size that the file states.
 *
 * @throws ImageError `heic` where no program is there, or none can; `ffmpeg-too-slow`; the signal's reason.
 */
export const heicConverter =
  ({ heifConvert, ffmpeg = 'ffmpeg', timeLimitMs = ONE_MINUTE }: HeifOptions = {}): ConvertHeic =>
  async (bytes, file, maxPixels, signal) => {
    const { width, height } = readAvif(bytes, maxPixels); // the same boxes in HEIF
    const folder = await mkdtemp(join(tmpdir(), 'image2text-heif-'));
    const [input, output] = [join(folder, 'image.heic'), join(folder, 'image.png')];
    const tries: readonly (readonly [program: string, args: readonly string[]])[] = [
      ...(heifConvert === undefined ? ['heif-dec', 'heif-convert'] : [heifConvert]).map(
        (program) => [program, [input, output]] as const,
      ),
      [
        ffmpeg,
        ['-nostdin', '-v', 'error', '-protocol_whitelist', 'file', '-i', `file:${input}`, '-frames:v', '1', output],
      ],
    ];
    const reasons: string[] = [];
    try {
      await writeFile(input, bytes, { flag: 'wx' });
      for (const [program, args] of tries) {
        await rm(output, { force: true });
        const ended = await run(program, { file }, args, readText, { timeLimitMs }, signal).catch((error: unknown) => {
          if (!(error instanceof ImageError && error.code === 'ffmpeg-missing')) throw error;
        });
        if (ended === undefined) continue;
        const made = await readFile(output).catch(() => undefined);
        if (ended.code !== 0 || made === undefined) {
          reasons.push(`${program}: ${lastLine(ended.stderr, input)}`);
          continue;
        }
        const found = readPngHeader(made, Number.POSITIVE_INFINITY);
        if (
          Math.max(found.width, found.height) === Math.max(width, height) &&
          found.width * found.height === width * height
        )
          return made;
        reasons.push(`${program} made ${found.width} by ${found.height} pixels of ${width} by ${height}`);
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    const why = reasons.length === 0 ? '' : ` (${reasons.join('; ')})`;
    const how = 'install libheif (apt install libheif-examples, brew install libheif) or convert the image first';
    throw new ImageError({
      file,
      code: 'heic',
      detail: `HEIF needs a program that reads it: ${how}${why}`,
      unsupported: true,
    });
  };

/** `heicConverter` with programs of the PATH. */
export const convertHeic: ConvertHeic = heicConverter();

async function run<T>(
  program: string,
  { file, descriptor }: Pick<VideoFile, 'file' | 'descriptor'>,
  args: readonly string[],
  read: (stdout: AsyncIterable<Uint8Array>) => Promise<T>,
  { timeLimitMs = TEN_MINUTES }: FfmpegOptions,
  signal: AbortSignal | undefined,
): Promise<Ended<T>> {
  try {
    return await runProgram(program, args, read, { timeLimitMs, signal, descriptor });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new ImageError({ file, ...explain(cause as Error, program), cause });
  }
}

function explain(cause: Error, program: string): { code: string; detail: string } {
  if (cause instanceof ImageError) return { code: cause.code, detail: cause.detail };
  if (!(cause instanceof ProgramStopped)) return { code: 'ffmpeg-failed', detail: `${program}: ${cause.message}` };
  if (cause.why === 'too-slow') return { code: 'ffmpeg-too-slow', detail: `${program}: ${cause.message}` };
  if (cause.why === 'not-started')
    return { code: 'ffmpeg-failed', detail: `${program} does not start: ${cause.message}` };
  return { code: 'ffmpeg-missing', detail: `${program} is not installed: ${HOW_TO_INSTALL}` };
}

const HOW_TO_INSTALL =
  'video files need it (apt install ffmpeg, brew install ffmpeg, winget install ffmpeg); GIFs and folders of images do not';

/** The last line that ffmpeg wrote, without the file's name, which the error gives already. */
function lastLine(stderr: string, path: string): string {
  const refused = /\[(\w+) @ \w+\] Format not on whitelist/.exec(stderr)?.[1];
  if (refused !== undefined) return `ffmpeg takes it for ${quote(refused)}; only containers of videos are opened`;
  const line =
    stderr
      .trim()
      .split(/[\r\n]+/)
      .at(-1) ?? '';
  return line.replace(`file:${path}: `, '').replace(/^\[[^\]]*\] /, '') || 'ffmpeg does not say why';
}

/** `P6 WIDTH HEIGHT 255`, each followed by one space or line end: what ffmpeg writes before the samples of each frame. */
const HEADER = /^P6\s(\d{1,9})\s(\d{1,9})\s255\s/;
const LONGEST_HEADER = 32;

interface Growing {
  readonly image: RgbImage;
  filled: number;
}

/**
 * Images out of a stream of binary PPM files (8 bits, RGB), one behind the other. Memory is that of the images: each is allocated
 * once, when its header is read.
 *
 * `maxPixels`: most pixels of all images together.
 *
 * @throws ImageError `ppm-stream` for anything else, a stream that ends inside an image included; `too-many-pixels`.
 */
export async function readPpmStream(chunks: AsyncIterable<Uint8Array>, maxPixels: number): Promise<RgbImage[]> {
  const images: RgbImage[] = [];
  let head = ''; // header bytes that are here; only its first 32 are ever kept
  let current: Growing | undefined;
  let pixels = 0;
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      if (current === undefined) {
        head += String.fromCharCode(chunk[at++]!);
        const size = HEADER.exec(head);
        if (size === null && head.length < LONGEST_HEADER) continue;
        if (size === null) throw new ImageError({ code: 'ppm-stream', detail: 'this is no PPM header' });
        head = '';
        pixels += Number(size[1]) * Number(size[2]);
        current = { image: allocate(Number(size[1]), Number(size[2]), pixels, maxPixels), filled: 0 };
        continue;
      }
      const { data } = current.image;
      const part = chunk.subarray(at, at + data.length - current.filled);
      data.set(part, current.filled);
      current.filled += part.length;
      at += part.length;
      if (current.filled < data.length) continue;
      images.push(current.image);
      current = undefined;
    }
  }
  if (current === undefined && head === '') return images;
  throw new ImageError({ code: 'ppm-stream', detail: `it ended inside image ${images.length + 1}` });
}

function allocate(width: number, height: number, pixels: number, maxPixels: number): RgbImage {
  if (width === 0 || height === 0)
    throw new ImageError({ code: 'ppm-stream', detail: `an image of ${width} by ${height} pixels` });
  if (pixels > maxPixels) {
    const detail = `its frames have ${pixels} pixels together, at most ${maxPixels}; scale the video down first`;
    throw new ImageError({ code: 'too-many-pixels', detail });
  }
  return { data: new Uint8Array(width * height * 3), width, height };
}

/** How a program ended. */
export interface Ended<T> {
  /** What `read` made of its output. */
  readonly output: T;
  readonly code: number | null;
  /** The end of what it wrote to stderr. */
  readonly stderr: string;
}

/** Why a program did not end by itself. */
export type Stopped = 'missing' | 'not-started' | 'too-slow';

/** A program is not there, cannot be started, or took too long. */
export class ProgramStopped extends Error {
  constructor(
    readonly why: Stopped,
    message: string,
  ) {
    super(message);
  }
}

const STDERR_KEPT = 4096;

/**
 * Runs a program without a shell, without stdin (`descriptor`: with an open file as its fourth), and waits until it is gone: whatever happens (abort, time limit, `read` throws), it is
 * killed and reaped before this returns.
 *
 * @throws the signal's reason; ProgramStopped; what `read` throws.
 */
export async function runProgram<T>(
  program: string,
  args: readonly string[],
  read: (stdout: Readable) => Promise<T>,
  limits: {
    readonly timeLimitMs: number;
    readonly signal?: AbortSignal | undefined;
    readonly descriptor?: number | undefined;
  },
): Promise<Ended<T>> {
  const { signal, timeLimitMs, descriptor } = limits;
  signal?.throwIfAborted();
  const more = descriptor === undefined ? [] : [descriptor];
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe', ...more],
    windowsHide: true,
  }) as ChildProcessByStdio<null, Readable, Readable>;
  let stopped: ProgramStopped | undefined;
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_KEPT);
  });
  const closed = new Promise<number | null>((resolve) => {
    child.once('error', (cause: NodeJS.ErrnoException) => {
      stopped ??= new ProgramStopped(cause.code === 'ENOENT' ? 'missing' : 'not-started', cause.message);
      if (child.pid === undefined) resolve(null); // it never ran: there may be no `close`
    });
    child.once('close', resolve);
  });
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(() => {
    stopped ??= new ProgramStopped('too-slow', `it was not done after ${timeLimitMs / 1000} s`);
    kill();
  }, timeLimitMs);
  signal?.addEventListener('abort', kill, { once: true });
  try {
    const [output, code] = await Promise.all([read(child.stdout), closed]);
    signal?.throwIfAborted();
    if (stopped !== undefined) throw stopped;
    return { output, code, stderr };
  } catch (error) {
    kill();
    await closed;
    signal?.throwIfAborted();
    throw stopped ?? error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
  }
}

/** Everything that a stream says, as text; at most `most` characters. */
export async function readText(stream: AsyncIterable<Uint8Array>, most = 1 << 20): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > most) throw new Error(`more than ${most} characters of output`);
  }
  return text + decoder.decode();
}
