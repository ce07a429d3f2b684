import { execFileSync, spawnSync } from 'node:child_process';

/** Why tests of video files cannot run here, or undefined where they can. */
export const ffmpegMissing: string | undefined =
  spawnSync('ffmpeg', ['-version']).error || spawnSync('ffprobe', ['-version']).error
    ? 'ffmpeg is not installed'
    : undefined;

/** Runs ffmpeg; its complaints become the error. */
export const ffmpeg = (...args: readonly string[]): void =>
  void execFileSync('ffmpeg', ['-nostdin', '-v', 'error', '-y', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });

/** Width and height of the frames of `grayVideo`. */
export const SIDE = 16;

/** A video of `count` gray frames at 5 a second: frame n has the level 10 n everywhere. */
export function grayVideo(file: string, count: number, ...options: readonly string[]): void {
  const input = Buffer.concat(Array.from({ length: count }, (_, n) => Buffer.alloc(SIDE * SIDE * 3, 10 * n)));
  const raw = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', `${SIDE}x${SIDE}`, '-r', '5', '-i', 'pipe:0'];
  const made = spawnSync('ffmpeg', ['-v', 'error', '-y', ...raw, ...options, file], { input });
  if (made.status !== 0) throw new Error(String(made.stderr));
}

/** Lossless coding of RGB. */
export const LOSSLESS = ['-c:v', 'ffv1', '-pix_fmt', 'bgr0'] as const;
