import { open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Image2TextError } from '../errors.js';
import { readLines } from './lines.js';
import { UsageError } from './report.js';

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

/**
 * Opens a file to add lines to. One with lines in it is gone on with if `resume` says so: whole lines stay and are remembered, a
 * last line that was cut off is removed. A file whose lines are not of our making is left as it is.
 *
 * @throws UsageError when there is something and `resume` does not say to go on, or no folder; Image2TextError for lines of another making.
 */
export async function openLineFile(path: string, code: LineRule, resume: boolean): Promise<LineFile> {
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined && !resume && !(found.isFile() && found.size === 0) && !isStream(found)) {
    throw new UsageError(`${path} is there already: remove it, or go on with it by --skip-existing`);
  }
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (folder?.isDirectory() !== true) throw new UsageError(`${path}: there is no folder ${dirname(path)}`);
  const { done, whole } = found?.isFile() === true ? await readBack(path, code) : { done: new Map(), whole: 0 };
  let handle = found === undefined ? undefined : await open(path, 'a');
  if (found?.isFile() === true && whole < found.size) await handle?.truncate(whole);
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

/** How many lines each key has, and how many bytes the whole lines are. */
async function readBack(path: string, code: LineRule): Promise<{ done: Map<string, number>; whole: number }> {
  const done = new Map<string, number>();
  let whole = 0;
  let count = 0;
  const text = new TextDecoder();
  for await (const { bytes, next, ended } of readLines(path)) {
    count++;
    const line = text.decode(bytes);
    const key = ended ? code.keyOf(line) : undefined;
    if (ended ? key === undefined : !code.mayBegin(line)) {
      const detail = 'this line is of another making; the file was left as it is';
      throw new Image2TextError({ file: path, path: `line ${count}`, code: 'not-our-output', detail });
    }
    if (key === undefined) break; // the line that was cut off is the last
    done.set(key, (done.get(key) ?? 0) + 1);
    whole = next;
  }
  return { done, whole };
}
