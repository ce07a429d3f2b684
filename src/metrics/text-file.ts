import { MetricError } from '../errors.js';

/** A file: its text, its bytes, or its bytes in pieces, as `createReadStream` and `Blob.stream` give them. */
export type FileContent = string | Uint8Array | AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>;

/** A line without its end, and its number from 1. */
export interface TextLine {
  readonly text: string;
  readonly number: number;
}

/** Largest JSON file, which is read whole, in bytes. VQAv2's annotations for training are 370 MB. */
export const JSON_LIMIT = 500 * 2 ** 20;
/** Longest line of a file of lines, in bytes. */
export const LINE_LIMIT = 1_000_000;

/** The lines of a file, one in memory at a time. */
export interface TextFile {
  readonly file: string;
  /** The next line that is not blank; undefined at the end. @throws MetricError for a longer one, and bytes that are not UTF-8 */
  next(limit: number): Promise<TextLine | undefined>;
  /** What comes after the last line given, as one text. @throws MetricError where it is longer than `limit` */
  rest(limit: number): Promise<string>;
}

const LINE_FEED = 0x0a;

/** Opens a file of text. `file` is its name, for errors. */
export function openTextFile(content: FileContent, file: string): TextFile {
  const lines = linesOf(content, file);
  return {
    file,
    async next(limit) {
      for (;;) {
        const { value, done } = await lines.next(limit);
        if (done === true) return undefined;
        if (value.text.trim() !== '') return value;
      }
    },
    async rest(limit) {
      const texts: string[] = [];
      let length = 0;
      for (;;) {
        const { value, done } = await lines.next(limit);
        if (done === true) return texts.join('\n');
        texts.push(value.text);
        length += value.text.length + 1;
        if (length > limit) throw tooLong(file, undefined, limit);
      }
    },
  };
}

const tooLong = (file: string, line: number | undefined, limit: number): MetricError =>
  new MetricError({
    file,
    path: line === undefined ? undefined : `line ${line}`,
    code: 'too-long',
    detail: `more than ${limit} bytes`,
  });

/** Lines; `next` is called with the most bytes that the line may have. */
async function* linesOf(content: FileContent, file: string): AsyncGenerator<TextLine, void, number> {
  let limit = JSON_LIMIT; // a generator does not see what its first `next` is called with; the first line may be a whole file
  let number = 0;
  let parts: Uint8Array[] = [];
  let size = 0;
  const take = (): TextLine => {
    number++;
    const text = decode(parts, size, file, number);
    parts = [];
    size = 0;
    return { text: text.endsWith('\r') ? text.slice(0, -1) : text, number };
  };
  for await (const chunk of chunksOf(content)) {
    for (let from = 0; from < chunk.length; ) {
      const feed = chunk.indexOf(LINE_FEED, from);
      const to = feed < 0 ? chunk.length : feed;
      parts.push(chunk.subarray(from, to));
      size += to - from;
      if (size > limit) throw tooLong(file, number + 1, limit);
      if (feed >= 0) limit = yield take();
      from = to + 1;
    }
  }
  if (size > 0) yield take();
}

/** How much of a text is encoded at once, in characters. */
const TEXT_PIECE = 1 << 20;

async function* chunksOf(content: FileContent): AsyncGenerator<Uint8Array> {
  if (content instanceof Uint8Array) yield content;
  else if (typeof content !== 'string') yield* 'getReader' in content ? piecesOf(content) : content;
  else {
    const encoder = new TextEncoder();
    for (let at = 0; at < content.length; ) {
      const isHigh = (content.charCodeAt(at + TEXT_PIECE - 1) & 0xfc00) === 0xd800; // a character is not cut in two
      const end = at + TEXT_PIECE - (isHigh ? 1 : 0);
      yield encoder.encode(content.slice(at, end));
      at = end;
    }
  }
}

/** Not every browser iterates over its streams. */
async function* piecesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel();
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decode(parts: readonly Uint8Array[], size: number, file: string, number: number): string {
  const fail = (detail: string, cause?: unknown): never => {
    throw new MetricError({ file, path: `line ${number}`, code: 'encoding', detail, cause });
  };
  const bytes = parts.length === 1 ? parts[0]! : joined(parts, size);
  if ((number === 1 && isUtf16Mark(bytes)) || bytes.includes(0)) fail('is UTF-16 or no text: save it as UTF-8');
  let text = '';
  try {
    text = UTF8.decode(bytes);
  } catch (cause) {
    fail('has bytes that are not UTF-8', cause);
  }
  if (number === 1 && text.startsWith('\ufeff')) fail('starts with a byte order mark: save it without');
  return text;
}

const isUtf16Mark = ([first, second]: Uint8Array): boolean =>
  (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
