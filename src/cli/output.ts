import { stat } from 'node:fs/promises';
import { Image2TextError } from '../errors.js';
import type { Answer, Caption } from '../node.js';
import { writeWhole } from '../platform/write-whole.js';
import type { Context } from './context.js';
import { UsageError } from './context.js';
import type { Input, Shard } from './inputs.js';
import { textOf } from './inputs.js';
import { type LineFile, type LineRule, type Lock, lockFile, lockFolders, openLineFile } from './line-files.js';

import { jsonText, plain } from './terminal.js';

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

/** Answers on stdout: alone for one question, else each behind its question. */
export async function showAnswers(
  file: string,
  answers: readonly Answer[],
  format: Format,
  { stdout }: Pick<Context, 'stdout'>,
): Promise<void> {
  const fields = answers.map((answer) => ({ file, ...answerFields(answer) }));
  if (format === 'json') await stdout(jsonText(fields.length === 1 ? fields[0] : fields, 2));
  else if (format === 'jsonl') for (const each of fields) await stdout(jsonText(each));
  else if (answers.length === 1) await stdout(plain(answers[0]!.text));
  else for (const { question, text } of answers) await stdout(`${plain(question)}\t${plain(text)}`);
}

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
    ? {
        keyOf: (line) => {
          const { file, text } = fieldsOf(line);
          return typeof file === 'string' && typeof text === 'string' ? file : undefined;
        },
        mayBegin: beginsLike(() => names.map((name) => `{"file":${jsonText(name)},"text":"`)),
      }
    : {
        keyOf: (line) => /^([^\t]*)\t\[\{"caption":.*\}\]$/.exec(line)?.[1],
        mayBegin: beginsLike(() => names.map((name) => `${plain(name)}\t[{"caption":"`)),
      };

/** The key that `captionRule` finds in the line of an image. */
export const captionKey = (name: string, format: 'jsonl' | 'tsv'): string => (format === 'jsonl' ? name : plain(name));

/** How to read back lines of answers about the images of these names: the key is the question's id, as JSON. */
export const answerRule = (format: 'jsonl' | 'tsv', names: readonly string[]): LineRule => ({
  keyOf: (line) => JSON.stringify(fieldsOf(line)['question_id']),
  mayBegin: beginsLike(() =>
    format === 'jsonl' ? names.map((name) => `{"file":${jsonText(name)},"question_id":`) : ['{"answer":"'],
  ),
});

/**
 * Whether a piece without an end of line is the beginning of a line that begins in one of these ways. A cut may go
 * through a character, which then reads as U+FFFD.
 */
function beginsLike(starts: () => readonly string[]): (piece: string) => boolean {
  return (piece) => {
    const whole = piece.replace(/\ufffd+$/, '');
    return starts().some((start) => start.startsWith(whole.slice(0, start.length)));
  };
}

function fieldsOf(line: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(line)) as Record<string, unknown>;
  } catch {
    return {};
  }
}

// --- Captions in files ---

export interface StoreFlags extends FormatFlags {
  readonly sidecar?: string;
  readonly output?: string;
  readonly skipExisting?: boolean;
  readonly overwrite?: boolean;
  readonly shard?: Shard;
}

/** Where captions are kept, and what of them is there already. */
export interface CaptionStore {
  /** Images that something is missing of, in order. */
  readonly missing: readonly Input[];
  put(input: Input, caption: Caption): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens sidecars and the output file, as far as asked for. An image is done when it is in all of them; only what is missing is written.
 *
 * @throws UsageError that lists everything in the way: files that are there, images that would share a sidecar, another run.
 */
export async function openCaptionStore(
  inputs: readonly Input[],
  flags: StoreFlags,
  context: Pick<Context, 'signal'>,
): Promise<CaptionStore> {
  const { sidecar: ending, output, shard } = flags;
  const format = output === undefined ? undefined : fileFormat(output, flags);
  const locks: Lock[] = [];
  const close = async (lines?: LineFile): Promise<void> => {
    await lines?.close();
    for (const lock of locks) await lock.release();
  };
  try {
    const sidecars = ending === undefined ? undefined : planSidecars(inputs, ending);
    if (output !== undefined) locks.push(await lockFile(output));
    if (sidecars !== undefined) locks.push(await lockFolders([...sidecars.values()], ending!, shard));
    const there = sidecars === undefined ? new Set<Input>() : await findExisting(sidecars, flags, context);
    const rule =
      format &&
      captionRule(
        format,
        inputs.map(({ name }) => name),
      );
    const lines = rule && (await openLineFile(output!, rule, flags));
    const needed = new Map<Input, Need>();
    for (const input of inputs) {
      const need = {
        sidecar: there.has(input) ? undefined : sidecars?.get(input),
        line: lines !== undefined && !lines.claim(captionKey(input.name, format!)),
      };
      if (need.sidecar !== undefined || need.line) needed.set(input, need);
    }
    return {
      missing: [...needed.keys()],
      async put(input, caption) {
        const { sidecar, line } = needed.get(input)!;
        if (sidecar !== undefined) await writeSidecar(sidecar, caption.text);
        if (line) await lines!.append([captionLine(input.name, caption, format!)]);
      },
      close: () => close(lines),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Need {
  readonly sidecar: string | Buffer | undefined;
  readonly line: boolean;
}

/** A caption as one line of a file. */
export const captionLine = (name: string, caption: Caption, format: 'jsonl' | 'tsv'): string =>
  format === 'tsv' ? captionTsv(name, caption.text) : jsonText({ file: name, ...captionFields(caption) });

/** Endings that a sidecar never has. */
const IMAGE_OR_VIDEO =
  /\.(a?png|jpe?g|jpe|jfif|pjpe?g?|webp|gif|bmp|dib|tiff?|avif|hei[cf]|hif|jxl|jp2|j2k|svg|ico|psd|qoi|p[bgnp]m|tga|exr|dng|cr2|nef|mp4|m4v|mov|mkv|webm|avi|mpe?g)$/i;

/**
 * The sidecar of every image: `photo.jpg` with `.txt` gives `photo.txt`.
 *
 * @throws UsageError for an ending that cannot be, and a list of images that are no files or that would share a sidecar.
 */
export function planSidecars(inputs: readonly Input[], ending: string): Map<Input, string | Buffer> {
  if (!/^\.[^/\\]*[^/\\.]$/.test(ending)) throw new UsageError(`--sidecar ${ending}: expected an ending such as .txt`);
  if (IMAGE_OR_VIDEO.test(ending)) {
    throw new UsageError(
      `--sidecar ${ending}: images have this ending, and could be overwritten; expected one such as .txt`,
    );
  }
  const owners = new Map<string, Input>();
  const paths = new Map<Input, string | Buffer>();
  const clashes: string[] = [];
  const images = new Set(inputs.flatMap(({ path }) => (path === undefined ? [] : [pathText(path)])));
  for (const input of inputs) {
    if (input.path === undefined) {
      clashes.push(`${input.name} is no file with a folder to write to`);
      continue;
    }
    const path = sidecarOf(input.path, ending);
    const owner = owners.get(pathText(path));
    if (owner !== undefined) clashes.push(`${owner.name} and ${input.name} would both write ${pathText(path)}`);
    if (images.has(pathText(path))) clashes.push(`${input.name} would overwrite the image ${pathText(path)}`);
    owners.set(pathText(path), input);
    paths.set(input, path);
  }
  if (clashes.length > 0) throw new UsageError(`--sidecar ${ending}: ${clashes[0]}`, clashes.slice(1));
  return paths;
}

const pathText = (path: string | Buffer): string => (typeof path === 'string' ? path : textOf(path));

const sidecarOf = (path: string | Buffer, ending: string): string | Buffer => {
  const swap = (text: string, end: string): string => text.replace(/(?<=[^/\\])\.[^./\\]*$/, '') + end;
  return typeof path === 'string'
    ? swap(path, ending)
    : Buffer.from(swap(path.toString('latin1'), Buffer.from(ending).toString('latin1')), 'latin1');
};

/** How many files are looked for at once. */
const STATS_AT_ONCE = 64;

/**
 * Which images have their sidecar already, where the run goes on with them.
 *
 * @throws UsageError that lists them where it does not say what to do with them.
 */
async function findExisting(
  sidecars: ReadonlyMap<Input, string | Buffer>,
  { sidecar, skipExisting = false, overwrite = false }: StoreFlags,
  { signal }: Pick<Context, 'signal'>,
): Promise<Set<Input>> {
  const there = new Set<Input>();
  if (overwrite) return there;
  const all = [...sidecars];
  const clashes: string[] = [];
  for (let n = 0; n < all.length; n += STATS_AT_ONCE) {
    signal.throwIfAborted();
    const some = all.slice(n, n + STATS_AT_ONCE);
    const stats = await Promise.all(some.map(([, path]) => stat(path).catch(() => undefined)));
    for (const [k, found] of stats.entries()) {
      const [input, path] = some[k]!;
      if (found === undefined || (skipExisting && !found.isFile())) continue;
      if (skipExisting) there.add(input);
      else clashes.push(pathText(path));
    }
  }
  if (clashes.length === 0) return there;
  const what = clashes.length === 1 ? `${clashes[0]} is there already` : `${clashes.length} files are there already`;
  throw new UsageError(
    `--sidecar ${sidecar}: ${what}: --skip-existing leaves ${clashes.length === 1 ? 'it' : 'them'}, --overwrite writes anew`,
    clashes.length === 1 ? [] : clashes,
  );
}

/** Failures of a file system that the next image meets too. */
const FULL = ['ENOSPC', 'EDQUOT', 'EROFS', 'EIO'];

/** @throws Image2TextError where this file cannot be written; the system's error where none can. */
async function writeSidecar(path: string | Buffer, text: string): Promise<void> {
  try {
    await writeWhole(path, `${text}\n`);
  } catch (cause) {
    const { code = '', message } = cause as NodeJS.ErrnoException;
    if (code === '' || FULL.includes(code)) throw cause;
    throw new Image2TextError({ file: pathText(path), code: 'cannot-write', detail: message, cause });
  }
}
