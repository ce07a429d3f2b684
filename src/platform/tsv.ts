import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { Image2TextError, ImageError } from '../errors.js';

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

/** A file in pieces, opened when it is read. @throws Image2TextError for a folder; the file system's error, which names the file */
export async function* readPieces(path: string): AsyncGenerator<Buffer, void, void> {
  try {
    yield* createReadStream(path, { highWaterMark: 2 ** 20 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EISDIR') throw error;
    throw new Image2TextError({ file: path, code: 'not-a-file', detail: 'this is a folder' });
  }
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

/** A line of a TSV file as the original project has them: a key, a tab, a value, which is left in the file until it is asked for. */
export interface TsvRow {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  readonly key: string;
  /** Where the value is, in bytes; undefined where the line has no tab. */
  readonly value: { readonly start: number; readonly end: number } | undefined;
}

const TAB = 0x09;

/**
 * Where every row of a TSV file is. Blank lines are passed over.
 *
 * @throws Image2TextError for a line that is too long; the file system's error.
 */
export async function indexTsv(file: string): Promise<TsvRow[]> {
  const rows: TsvRow[] = [];
  let count = 0;
  for await (const { bytes, start } of readLines(file)) {
    count++;
    if (bytes.length === 0) continue;
    const tab = bytes.indexOf(TAB);
    const next = tab < 0 ? -1 : bytes.indexOf(TAB, tab + 1);
    const key = tab < 0 ? `${file} line ${count}` : new TextDecoder().decode(bytes.subarray(0, tab)).trim();
    const value = tab < 0 ? undefined : { start: start + tab + 1, end: start + (next < 0 ? bytes.length : next) };
    rows.push({ file, line: count, key, value });
  }
  return rows;
}

/** The value of a row. */
export async function readValue({ file, line, value }: TsvRow): Promise<Buffer> {
  if (value === undefined) {
    throw new Image2TextError({
      file,
      path: `line ${line}`,
      code: 'tsv-no-tab',
      detail: 'expected a key, a tab and a value',
    });
  }
  const bytes = Buffer.alloc(value.end - value.start);
  const handle = await open(file, 'r');
  try {
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, value.start);
    if (bytesRead === bytes.length) return bytes;
  } finally {
    await handle.close();
  }
  throw new Image2TextError({
    file,
    path: `line ${line}`,
    code: 'file-changed',
    detail: 'it got shorter while it was read',
  });
}

/** The bytes of a row whose value is a file in base64. @throws ImageError; what `readValue` throws */
export async function readBase64(row: TsvRow): Promise<Uint8Array<ArrayBuffer>> {
  const text = (await readValue(row)).toString('latin1').trim();
  const digits = text.replace(/={1,2}$/, '').length;
  const bytes = Buffer.from(text, 'base64');
  // Node's decoder passes over what is not base64, so the length tells.
  if (digits % 4 !== 1 && bytes.length === Math.floor((digits * 3) / 4)) return new Uint8Array(bytes);
  const { file, line } = row;
  throw new ImageError({ file, path: `line ${line}`, code: 'tsv-base64', detail: 'the second column is not base64' });
}
