import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as z from 'zod/mini';
import { HubError, Image2TextError } from '../errors.js';
import { acquireLock } from '../hub/cache.js';
import type { ImageInput } from '../node.js';
import { indexTsv, readBase64, readLines, readValue, type TsvRow } from '../platform/tables.js';
import { sweepTemporaries } from '../platform/write-whole.js';
import { UsageError } from './context.js';
import { fileOf, type Input, type Shard } from './inputs.js';

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
  if (found === undefined && (await lstat(path).catch(() => undefined)) !== undefined)
    throw new UsageError(`${path} is a link that leads nowhere`);
  if (found !== undefined && !found.isFile() && !isStream(found))
    throw new UsageError(`${path} is ${found.isDirectory() ? 'a folder' : 'no file'}: lines go into a file`);
  if (found?.isFile() === true && found.size > 0 && !skipExisting && !overwrite) {
    throw new UsageError(`${path} is there already: --skip-existing goes on with it, --overwrite writes anew`);
  }
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (folder?.isDirectory() !== true) throw new UsageError(`${path}: there is no folder ${dirname(path)}`);
  const { done, size, unended } =
    found?.isFile() === true && !overwrite ? await readBack(path, rule) : { done: new Map(), size: 0, unended: false };
  let handle = found?.isFIFO() === true ? await openPipe(path) : found && (await open(path, 'a'));
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
      handle ??= await open(path, 'ax'); // no file before there is something to write; and then ours, not one that a link leads to
      await handle.appendFile(lines.map((line) => `${line}\n`).join(''));
    },
    close: async () => handle?.close(),
  };
}

/** Opens a pipe that has its reader; without one it would wait for ever. @throws UsageError */
async function openPipe(path: string): Promise<FileHandle> {
  const probe = await open(path, constants.O_WRONLY | (constants.O_NONBLOCK ?? 0)).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
    throw new UsageError(`${path} is a pipe that nobody reads: start its reader first`);
  });
  try {
    return await open(path, 'a'); // waits where it is full; the reader stays because the probe is open
  } finally {
    await probe.close();
  }
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

/** What a run holds on its outputs, so that no other run writes them. */
export interface Lock {
  release(): Promise<void>;
}

const lockName = (what: string): string => `.i2t-${createHash('sha256').update(what).digest('hex').slice(0, 12)}`;

/**
 * Locks a file that lines are added to, by a hidden file beside it.
 *
 * @throws UsageError that says who holds it.
 */
export const lockFile = (path: string): Promise<Lock> =>
  acquire(join(dirname(path), `${lockName(basename(path))}.lock`), path);

/** The folder of a file, or the nearest one above it whose path is text: a lock has a path that messages can name. */
function lockedFolder(file: string | Buffer): string {
  if (typeof file === 'string') return dirname(file);
  for (let end = file.lastIndexOf('/'); end > 0; end = file.lastIndexOf('/', end - 1)) {
    const folder = file.subarray(0, end);
    if (isUtf8(folder)) return folder.toString();
  }
  return file[0] === SLASH ? '/' : '.';
}

const SLASH = 0x2f;

/**
 * Locks the sidecars of this ending in the folders of these files. Shards of the same number of parts may run beside each other.
 *
 * @throws UsageError that says who holds one of them.
 */
export async function lockFolders(
  files: readonly (string | Buffer)[],
  ending: string,
  shard: Shard | undefined,
): Promise<Lock> {
  const folders = new Set(files.map(lockedFolder));
  const name = lockName(`*${ending}`);
  const part = (run: Shard | undefined): string => (run === undefined ? '' : `-${run.index}-of-${run.count}`);
  const locks: Lock[] = [];
  const release = async (): Promise<void> => {
    for (const lock of locks.splice(0)) await lock.release();
  };
  try {
    for (const folder of [...folders].sort()) {
      await sweepTemporaries(folder);
      const what = `the ${ending} files in ${folder}`;
      locks.push(await acquire(join(folder, `${name}${part(shard)}.lock`), what));
      for (const other of await readdir(folder)) {
        if (!other.startsWith(name) || !other.endsWith('.lock') || other === `${name}${part(shard)}.lock`) continue;
        if (shard !== undefined && other.endsWith(`-of-${shard.count}.lock`)) continue;
        await (await acquire(join(folder, other), what)).release(); // refused while its run is alive
      }
    }
    return { release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** A folder that is not there or cannot be written has nothing to protect: what is written there is reported file by file. */
async function acquire(path: string, what: string): Promise<Lock> {
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (folder?.isDirectory() !== true) return { release: async () => {} };
  const onBusy = (holder: string): never => {
    throw new UsageError(`${what}: another run writes there: ${holder}`);
  };
  try {
    return await acquireLock(path, { onBusy });
  } catch (error) {
    if (error instanceof HubError && error.code !== 'not-a-plain-file') return { release: async () => {} };
    throw error;
  }
}

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
  const parsed = z.safeParse(questionsSchema, parseJson((await readValue(row)).toString('utf8')));
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    return fail(path.length === 0 ? message : `entry ${String(path[0])}: ${message}`);
  }
  return parsed.data.map(({ question, question_id: id }) => ({ question, id }));
}

const NO_TEXT = 'no text in "question"';
const questionsSchema = z.array(
  z.object(
    {
      question: z.string(NO_TEXT).check(z.regex(/\S/, NO_TEXT)),
      question_id: z.union([z.string(), z.number()], 'no text or number in "question_id"'),
    },
    NO_TEXT,
  ),
  'the second column is not a JSON list',
);

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
