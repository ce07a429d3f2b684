import { stat } from 'node:fs/promises';
import { Image2TextError } from '../errors.js';
import type { ImageInput } from '../node.js';
import { indexTsv, readBase64, readValue, type TsvRow } from '../platform/tsv.js';
import { UsageError } from './context.js';
import type { Input } from './inputs.js';
import { fileOf } from './inputs.js';

/** A row whose value is an image file in base64. */
export const imageRow = (row: TsvRow): Input<ImageInput> => ({
  name: row.key,
  read: async () => fileOf(await readBase64(row), row.key),
});

/** `indexTsv`. @throws UsageError when there is no such file */
async function indexFile(file: string): Promise<TsvRow[]> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isFile() !== true) throw new UsageError(`${file}: there is no such file`);
  return indexTsv(file);
}

/**
 * The images of a TSV file.
 *
 * @throws UsageError when there are none.
 */
export async function imageRows(file: string): Promise<TsvRow[]> {
  const rows = await indexFile(file);
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
  const [left, right] = [await imageRows(images), await indexFile(questions)];
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
