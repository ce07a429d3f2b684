import type { Answer, Caption } from '../node.js';
import type { LineRule } from './line-file.js';
import { UsageError } from './report.js';
import { plain } from './terminal.js';

/** How results look. */
export interface FormatFlags {
  readonly json?: boolean;
  readonly jsonl?: boolean;
  readonly asTsv?: boolean;
  readonly quiet?: boolean;
}

export type Format = 'text' | 'json' | 'jsonl' | 'tsv';

export const formatOf = ({ json, jsonl, asTsv }: FormatFlags, otherwise: Format = 'text'): Format =>
  json === true ? 'json' : jsonl === true ? 'jsonl' : asTsv === true ? 'tsv' : otherwise;

/**
 * The format of an output file: as the flags say, else by its ending.
 *
 * @throws UsageError where neither tells, or lines cannot be that.
 */
export function fileFormat(path: string, flags: FormatFlags): 'jsonl' | 'tsv' {
  const format = formatOf(flags, /\.jsonl$/i.test(path) ? 'jsonl' : /\.tsv$/i.test(path) ? 'tsv' : 'text');
  if (format === 'json') throw new UsageError('--output writes lines, --json is one value: use --jsonl');
  if (format === 'text') throw new UsageError(`--output ${path}: name a file .jsonl or .tsv`);
  return format;
}

/** A caption as JSON shows it; with alternatives where there are any. */
export const captionFields = ({ alternatives, ...best }: Caption) => ({
  ...textFields(best),
  ...(alternatives.length === 0 ? {} : { alternatives: alternatives.map(textFields) }),
});

const textFields = ({ text, score, confidence, finish, tokens }: Omit<Caption, 'alternatives'>) => ({
  text,
  score,
  confidence,
  finish,
  tokens,
});

/** An answer as JSON shows it. */
export const answerFields = ({ question, ...answer }: Answer) => ({ question, ...captionFields(answer) });

/** `1 image`, `2 images`. */
export const imagesText = (count: number): string => (count === 1 ? '1 image' : `${count} images`);

/** A line of the original's caption files. */
export const captionTsv = (key: string, caption: string): string => `${plain(key)}\t${originalJson([{ caption }])}`;

/** A line of the original's answer files, which is one column. */
export const answerTsv = (answer: string, questionId: unknown): string =>
  originalJson({ answer, question_id: questionId });

/** JSON as the original writes it: no spaces, ASCII only; callers give keys in order. */
const originalJson = (value: unknown): string =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** How to read back lines of captions of the images of these names, which are the keys. */
export const captionRule = (format: 'jsonl' | 'tsv', names: readonly string[]): LineRule =>
  format === 'jsonl'
    ? { keyOf: (line) => stringOf(fieldsOf(line)?.['file']), mayBegin: beginsLike('{"file":') }
    : {
        keyOf: (line) => /^([^\t]*)\t\[\{"caption":.*\}\]$/.exec(line)?.[1],
        mayBegin: (piece) => names.some((name) => beginsLike(`${plain(name)}\t[{"caption":`)(piece)),
      };

/** The key that `captionRule` finds in the line of an image. */
export const captionKey = (name: string, format: 'jsonl' | 'tsv'): string => (format === 'jsonl' ? name : plain(name));

/** How to read back lines of answers: the key is the question's id, as JSON. */
export const answerRule = (format: 'jsonl' | 'tsv'): LineRule => ({
  keyOf: (line) => JSON.stringify(fieldsOf(line)?.['question_id']),
  mayBegin: beginsLike(format === 'jsonl' ? '{"file":' : '{"answer":'),
});

/** A cut may go through a character, which then reads as U+FFFD. */
const beginsLike =
  (start: string) =>
  (piece: string): boolean =>
    start.startsWith(piece.slice(0, start.length).replace(/\ufffd+$/, ''));

const stringOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

function fieldsOf(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
