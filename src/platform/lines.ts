import { createReadStream } from 'node:fs';
import { Image2TextError } from '../errors.js';

/** A line of a file, without its end of line. */
export interface Line {
  readonly bytes: Uint8Array;
  /** Its place in the file, in bytes, and that of the next line. */
  readonly start: number;
  readonly next: number;
  /** False for a last line without an end of line. */
  readonly ended: boolean;
}

/** Longest line: an image of 256 MiB in base64, and a key. */
const MOST_BYTES = 360 * 2 ** 20;

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** A file in pieces, opened when it is read. */
export async function* readPieces(path: string): AsyncGenerator<Buffer, void, void> {
  yield* createReadStream(path, { highWaterMark: 2 ** 20 });
}

/**
 * The lines of a file, one in memory at a time.
 *
 * @throws Image2TextError for a line that is too long; the file system's error.
 */
export async function* readLines(path: string): AsyncGenerator<Line, void, void> {
  let start = 0;
  let parts: Buffer[] = [];
  let size = 0;
  const take = (ended: boolean): Line => {
    const whole = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    const bytes = whole.at(-1) === CARRIAGE_RETURN ? whole.subarray(0, -1) : whole;
    const next = start + size + (ended ? 1 : 0);
    const line = { bytes, start, next, ended };
    start = next;
    parts = [];
    size = 0;
    return line;
  };
  for await (const chunk of readPieces(path)) {
    for (let from = 0; from < chunk.length; ) {
      const found = chunk.indexOf(LINE_FEED, from);
      const to = found < 0 ? chunk.length : found;
      parts.push(chunk.subarray(from, to));
      size += to - from;
      if (size > MOST_BYTES) {
        throw new Image2TextError({
          file: path,
          offset: start,
          code: 'line-too-long',
          detail: `more than ${MOST_BYTES} bytes`,
        });
      }
      if (found >= 0) yield take(true);
      from = to + 1;
    }
  }
  if (size > 0) yield take(false);
}
