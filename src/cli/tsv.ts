import { open, stat } from 'node:fs/promises';
import { Image2TextError, ImageError } from '../errors.js';
import { UsageError } from './errors.js';
import type { Input } from './inputs.js';
import { fileOf } from './inputs.js';
import { readLines } from './line-file.js';

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
 * @throws UsageError when there is no such file; Image2TextError for a line that is too long.
 */
export async function indexTsv(file: string): Promise<TsvRow[]> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isFile() !== true) throw new UsageError(`${file}: there is no such file`);
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

/** A row whose value is an image file in base64. */
export const imageRow = (row: TsvRow): Input => ({
  name: row.key,
  read: async () => fileOf(fromBase64(row, await readValue(row)), row.key),
});

/** Node's decoder passes over what is not base64, so the length tells. */
function fromBase64({ file, line }: TsvRow, value: Buffer): Uint8Array {
  const text = value.toString('latin1').trim();
  const digits = text.replace(/={1,2}$/, '').length;
  const bytes = Buffer.from(text, 'base64');
  if (digits % 4 !== 1 && bytes.length === Math.floor((digits * 3) / 4)) return new Uint8Array(bytes);
  throw new ImageError({ file, path: `line ${line}`, code: 'tsv-base64', detail: 'the second column is not base64' });
}

/**
 * The images of a TSV file.
 *
 * @throws UsageError when there are none.
 */
export async function imageRows(file: string): Promise<TsvRow[]> {
  const rows = await indexTsv(file);
  if (rows.length === 0) throw new UsageError(`${file}: there is no line in it`);
  return rows;
}

/** A question of the original's question files. */
export interface Question {
  readonly question: string;
  /** A number or text, given back with the answer. */
  readonly id: string | number;
}

/** Longest list of questions, in bytes. */
const MOST_QUESTION_BYTES = 64 * 2 ** 20;

/**
 * Rows of images with their rows of questions: as in the original, line by line, with the same keys.
 *
 * @throws UsageError where the lines do not pair.
 */
export async function pairQuestions(images: string, questions: string): Promise<[TsvRow, TsvRow][]> {
  const [left, right] = [await imageRows(images), await indexTsv(questions)];
  if (left.length !== right.length) {
    throw new UsageError(
      `${questions} has ${right.length} lines, ${images} has ${left.length}: they pair line by line`,
    );
  }
  return left.map((row, n) => {
    const other = right[n]!;
    if (row.key === other.key) return [row, other];
    throw new UsageError(
      `${questions} line ${other.line} is about "${other.key}", ${images} line ${row.line} is "${row.key}"`,
    );
  });
}

/** The questions of a row: JSON, a list of objects with `question` and `question_id`. */
export async function readQuestions(row: TsvRow): Promise<Question[]> {
  const fail = (detail: string): never => {
    throw new Image2TextError({ file: row.file, path: `line ${row.line}`, code: 'tsv-questions', detail });
  };
  if (row.value !== undefined && row.value.end - row.value.start > MOST_QUESTION_BYTES)
    fail(`more than ${MOST_QUESTION_BYTES} bytes`);
  const list = parseJson((await readValue(row)).toString('utf8'));
  if (!Array.isArray(list)) return fail('the second column is not a JSON list');
  return list.map((entry: unknown, n) => {
    const { question, question_id: id } = Object(entry) as Record<string, unknown>;
    if (typeof question !== 'string' || question.trim() === '') return fail(`entry ${n}: no text in "question"`);
    if (typeof id !== 'string' && typeof id !== 'number') return fail(`entry ${n}: no text or number in "question_id"`);
    return { question, id };
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
