import type { Context } from './context.js';
import { UsageError } from './report.js';

/** Most bytes of an image or a list of texts from stdin. */
const MOST_BYTES = 256 * 2 ** 20;

/**
 * All of stdin.
 *
 * @throws UsageError when it is too long; the signal's reason.
 */
export async function readStdin({ terminal: { stdin }, signal }: Context): Promise<Uint8Array> {
  const stop = (): unknown => stdin.destroy?.(signal.reason as Error);
  signal.addEventListener('abort', stop);
  try {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of stdin) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > MOST_BYTES) throw new UsageError(`stdin: more than ${MOST_BYTES} bytes`);
      chunks.push(bytes);
    }
    return new Uint8Array(Buffer.concat(chunks));
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** The lines of stdin that are not blank. */
export const readStdinLines = async (context: Context): Promise<string[]> =>
  textLines(new TextDecoder().decode(await readStdin(context)));

/** Lines that are not blank, without the spaces around them; a byte order mark at the start does not count. */
export const textLines = (text: string): string[] =>
  text
    .replace(/^\ufeff/, '')
    .split(/\r\n|\n|\r/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
