/** Where a command reads and writes: `process`, or streams of a test. */
export interface Terminal {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean | undefined; destroy?(error?: Error): unknown };
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
}

export type OutputStream = NodeJS.WritableStream & {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
};

/** Whoever read our stdout has gone (`image2text … | head`): nothing is left to do, and nothing is wrong. */
export class ReaderGone extends Error {}

/** Writes, and resolves when the text is on its way, so that a slow reader slows us down. */
export function send(stream: OutputStream, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error?: Error | null) => {
      if (error === undefined || error === null) return resolve();
      const gone = ['EPIPE', 'ERR_STREAM_DESTROYED'].includes((error as NodeJS.ErrnoException).code ?? '');
      reject(gone ? new ReaderGone() : error);
    });
  });
}

/** Characters that move a cursor, fake a line or turn the text around. */
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Text from a file, a file name or a model, safe to print on one line: such characters are escaped as in JSON. */
export const plain = (text: string): string =>
  text.replace(UNPRINTABLE, (char) => SHORT[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
