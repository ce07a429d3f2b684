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

/** A record of a CSV file: its fields, and the line that it begins on, from 1. */
export interface CsvRecord {
  readonly line: number;
  readonly fields: readonly string[];
}

/** Most characters of a record: what is longer is a quotation mark that nothing closes. */
const RECORD_LIMIT = 1_000_000;

/** Up to the next comma; a quoted field up to its closing quotation mark, with what follows it. */
const FIELD = /(?:"((?:[^"]|"")*)"([^,]*)|([^,]*))(,|$)/y;

/**
 * Records of a CSV file as RFC 4180 has them: fields between commas; one in quotation marks may hold commas, ends of lines and, doubled,
 * quotation marks. Blank lines are passed over. A record that is none is an error in its place.
 *
 * @throws Image2TextError (`bad-csv`) for a quotation mark that nothing closes; the file system's error
 */
export async function* readCsv(file: string): AsyncGenerator<CsvRecord | Image2TextError, void, void> {
  const failure = (line: number, detail: string): Image2TextError =>
    new Image2TextError({ file, path: `line ${line}`, code: 'bad-csv', detail });
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let number = 0;
  let begun: { readonly line: number; text: string; marks: number } | undefined; // a record that goes on in the next line
  for await (const { bytes } of readLines(file)) {
    number++;
    let text: string;
    try {
      text = decoder.decode(bytes); // without the byte order mark that Excel writes
    } catch {
      yield failure(number, 'has bytes that are not UTF-8');
      begun = undefined;
      continue;
    }
    const marks = text.split('"').length - 1;
    if (begun === undefined) {
      if (text.trim() === '') continue;
      begun = { line: number, text, marks };
    } else {
      begun.text += `\n${text}`;
      begun.marks += marks;
    }
    if (begun.text.length > RECORD_LIMIT) throw failure(begun.line, 'a quotation mark here is never closed');
    if (begun.marks % 2 === 1) continue;
    const fields = fieldsOf(begun.text);
    yield typeof fields === 'string' ? failure(begun.line, fields) : { line: begun.line, fields };
    begun = undefined;
  }
  if (begun !== undefined) throw failure(begun.line, 'a quotation mark here is never closed');
}

/** The fields of a record, or what is wrong with it. */
function fieldsOf(text: string): string[] | string {
  const fields: string[] = [];
  FIELD.lastIndex = 0;
  for (;;) {
    const [, quoted, after = '', plain = '', end] = FIELD.exec(text)!;
    if (quoted === undefined && plain.includes('"'))
      return 'a quotation mark within a field: put the field in quotation marks and double those in it';
    if (after.trim() !== '') return 'text after the closing quotation mark of a field';
    fields.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end !== ',') return fields;
  }
}
