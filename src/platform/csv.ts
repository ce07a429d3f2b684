import { Image2TextError } from '../errors.js';
import { readLines } from './tsv.js';

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
