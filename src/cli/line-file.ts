import { open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Image2TextError } from '../errors.js';
import { readLines } from '../platform/lines.js';
import { UsageError } from './errors.js';

/** A file that grows by whole lines, and can be gone on with after a kill at any moment. */
export interface LineFile {
  /** True if an earlier run wrote a line for this key; each such line counts once, so that a key may come several times. */
  claim(key: string): boolean;
  /** Adds lines with one write, and resolves when the system has them. */
  append(lines: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** How to read back what was written. */
export interface LineRule {
  /** The key of a whole line; undefined if it cannot be one of ours. */
  keyOf(line: string): string | undefined;
  /** True if a line that a kill cut off may have begun like this. */
  mayBegin(piece: string): boolean;
}

/** What to do with a file that is there already; without either, it is refused. */
export interface ExistingFlags {
  readonly skipExisting?: boolean;
  readonly overwrite?: boolean;
}

/**
 * Opens a file to add lines to. With `skipExisting` lines that are there stay and are remembered, and a last line that was cut off is
 * removed; with `overwrite` all are. A file with lines that this command did not write is left as it is.
 *
 * @throws UsageError when there is something and no option says what to do, or no folder; Image2TextError for lines of another making.
 */
export async function openLineFile(
  path: string,
  rule: LineRule,
  { skipExisting = false, overwrite = false }: ExistingFlags = {},
): Promise<LineFile> {
  const found = await stat(path).catch(() => undefined);
  const hasContent = found !== undefined && !isStream(found) && !(found.isFile() && found.size === 0);
  if (hasContent && !(found.isFile() && (skipExisting || overwrite))) {
    throw new UsageError(`${path} is there already: --skip-existing goes on with it, --overwrite writes anew`);
  }
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (folder?.isDirectory() !== true) throw new UsageError(`${path}: there is no folder ${dirname(path)}`);
  const { done, size, unended } =
    found?.isFile() === true && !overwrite ? await readBack(path, rule) : { done: new Map(), size: 0, unended: false };
  let handle = found === undefined ? undefined : await open(path, 'a');
  if (found?.isFile() === true && size < found.size) await handle?.truncate(size);
  if (unended) await handle?.appendFile('\n');
  return {
    claim(key) {
      const left = done.get(key) ?? 0;
      if (left > 0) done.set(key, left - 1);
      return left > 0;
    },
    async append(lines) {
      if (lines.length === 0) return;
      handle ??= await open(path, 'a'); // no file before there is something to write
      await handle.appendFile(lines.map((line) => `${line}\n`).join(''));
    },
    close: async () => handle?.close(),
  };
}

/** A pipe or device such as /dev/null can be written to, but not gone on with. */
const isStream = (found: { isFIFO(): boolean; isCharacterDevice(): boolean }): boolean =>
  found.isFIFO() || found.isCharacterDevice();

/**
 * How many lines each key has, how many bytes they are together, and whether the last of them lacks its end of line. A piece at the end
 * that is no whole line must be the beginning of one of ours.
 */
async function readBack(
  path: string,
  rule: LineRule,
): Promise<{ done: Map<string, number>; size: number; unended: boolean }> {
  const done = new Map<string, number>();
  let size = 0;
  let unended = false;
  let count = 0;
  const text = new TextDecoder();
  for await (const { bytes, next, ended } of readLines(path)) {
    count++;
    const line = text.decode(bytes);
    const key = rule.keyOf(line);
    if (key === undefined && (ended || isJsonObject(line) || !rule.mayBegin(line))) {
      const detail = 'this line is of another making; the file was left as it is';
      throw new Image2TextError({ file: path, path: `line ${count}`, code: 'not-our-output', detail });
    }
    if (key === undefined) break; // the line that was cut off is the last
    done.set(key, (done.get(key) ?? 0) + 1);
    size = next;
    unended = !ended;
  }
  return { done, size, unended };
}

/** One that is whole was not cut off. */
function isJsonObject(text: string): boolean {
  try {
    return text.startsWith('{') && typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}
