import { createHash } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { constants, readFileSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { Image2TextError } from '../errors.js';
import { IMAGE_ENDING } from '../file-signature.js';
import type { ImageInput, VisualInput } from '../node.js';
import type { Context } from './context.js';
import { UsageError } from './context.js';

/** One image, or video, that the command line names. */
export interface Input<V extends VisualInput = VisualInput> {
  /** What results and messages call it. */
  readonly name: string;
  /** The file on this machine, where it is one; bytes where its name is not UTF-8. */
  readonly path?: string | Buffer;
  read(): Promise<V>;
}

/** Options that say which images a run is about. */
export interface InputFlags {
  readonly recursive?: boolean;
  /** A file with a name on each line, or `-` for stdin. */
  readonly filesFrom?: string;
  readonly shard?: Shard;
}

/** One of `count` parts of the images; `index` counts from 1. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

export interface InputList {
  readonly inputs: readonly Input<ImageInput>[];
  /** More than one was asked for, or a folder or glob, which may hold any number: results are named, and JSON is an array. */
  readonly several: boolean;
  /** How many files of folders were no images, by ending. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** How many folders could not be read. */
  readonly unreadable: number;
}

/**
 * Files, URLs, globs (for shells that leave them), folders and `-` for stdin, in the order given; the files of a folder or glob are
 * sorted by name, whatever the file system's order or the locale.
 *
 * @throws UsageError when a glob or folder holds no image, or nothing is named.
 */
export async function expandInputs(
  names: readonly string[],
  context: Context,
  { recursive = false, filesFrom, shard }: InputFlags = {},
): Promise<InputList> {
  const listed = filesFrom === undefined ? [] : await readNames(filesFrom, context);
  if (names.filter((name) => name === '-').length + (filesFrom === '-' ? 1 : 0) > 1) {
    throw new UsageError('- (stdin) can be read once only');
  }
  if (names.length === 0 && filesFrom === undefined) {
    throw new UsageError('name at least one image, folder or glob, or - for stdin');
  }
  const found: Found = { inputs: [], leftOut: new Map(), unreadable: 0 };
  let several = names.length > 1 || filesFrom !== undefined || shard !== undefined;
  for (const name of names) several = (await expandOne(name, found, context, recursive)) || several;
  for (const name of listed) {
    if (typeof name === 'string') await expandOne(name, found, context, recursive);
    else found.inputs.push(onDisk(name));
  }
  return { ...found, inputs: inShard(found.inputs, shard), several };
}

/**
 * The one image that a command is about.
 *
 * @throws UsageError where there is none or more.
 */
export async function oneImage(name: string | undefined, context: Context): Promise<Input<ImageInput>> {
  const { inputs, several } = await expandInputs(name === undefined ? [] : [name], context);
  if (several) throw new UsageError(`${name}: name one image, not a folder or glob`);
  return inputs[0]!;
}

interface Found {
  readonly inputs: Input<ImageInput>[];
  readonly leftOut: Map<string, number>;
  unreadable: number;
}

/** Adds what a name stands for; true where that may be any number of images. */
async function expandOne(name: string, found: Found, context: Context, recursive: boolean): Promise<boolean> {
  const add = (input: Input<ImageInput>): false => {
    found.inputs.push(input);
    return false;
  };
  if (name === '-') return add({ name: 'stdin', read: once(async () => fileOf(await readStdin(context), 'stdin')) });
  if (/^(https?|data|file):/i.test(name)) return add({ name, read: async () => name });
  const path = pathOf(name);
  const stats = await stat(path).catch(() => undefined);
  const before = found.inputs.length;
  if (stats?.isDirectory() === true) await addFolder(path, found, context, recursive);
  else if (stats === undefined && typeof path === 'string' && /[*?[{]/.test(path)) {
    for (const one of await globSorted(path)) found.inputs.push(onDisk(one));
  } else if (stats?.isFIFO() === true || stats?.isCharacterDevice() === true) return add(pipe(name, context));
  else return add(onDisk(path));
  if (found.inputs.length === before) {
    const others = describeLeftOut(found);
    throw new UsageError(`${name}: no image there${others === undefined ? '' : ` (${others})`}`);
  }
  return true;
}

/** Bytes under a name, which messages about them then use. */
export const fileOf = (bytes: Uint8Array, name: string): File => new File([bytes as Uint8Array<ArrayBuffer>], name);

/** A file; one whose name is not UTF-8 is read here, since a name of the library is text. */
function onDisk(path: string | Buffer): Input<ImageInput> {
  const name = typeof path === 'string' ? path : textOf(path);
  return { name, path, read: async () => (typeof path === 'string' ? path : fileOf(await readFile(path), name)) };
}

/** A shell's `<(…)`, a named pipe, a device: read by the library, but once, however often a batch is tried. */
const pipe = (name: string, { signal }: Context): Input<ImageInput> => ({
  name,
  read: once(async () => {
    const { openImage } = await import('../node.js');
    return fileOf((await openImage(name, signal)).bytes, name);
  }),
});

/** What can be read once only is kept for whoever asks again. */
const once = <T>(read: () => Promise<T>): (() => Promise<T>) => {
  let kept: Promise<T> | undefined;
  return () => (kept ??= read());
};

async function globSorted(pattern: string): Promise<(string | Buffer)[]> {
  const { glob } = await import('tinyglobby');
  const files = await glob(pattern.replaceAll('\\', '/'), {
    expandDirectories: false,
    absolute: pattern.startsWith('/'),
  });
  const found = files.sort();
  if (!found.some((path) => path.includes(REPLACEMENT))) return found;
  const paths = new Map<string, string | Buffer>(); // two names that are not UTF-8 can have come as one text
  for (const text of found) {
    for (const path of await existing(text)) paths.set(typeof path === 'string' ? path : textOf(path), path);
  }
  return [...paths.values()];
}

/** What stands in a text for each byte that is not UTF-8. */
const REPLACEMENT = '\ufffd';

/** The paths whose names are read as a path: itself where it is there, else those with bytes that are not UTF-8. */
async function existing(path: string): Promise<(string | Buffer)[]> {
  if (!path.includes(REPLACEMENT) || (await stat(path).catch(() => undefined))) return [path];
  let found: (string | Buffer)[] = [path.startsWith('/') ? '/' : '.'];
  for (const part of path.split('/').filter((name) => name !== '' && name !== '.')) {
    const next: (string | Buffer)[] = [];
    for (const folder of found) {
      if (!part.includes(REPLACEMENT)) next.push(below(folder, Buffer.from(part)));
      else {
        const names = await readdir(folder, { encoding: 'buffer' }).catch(() => []);
        next.push(...names.filter((name) => name.toString() === part).map((name) => below(folder, name)));
      }
    }
    found = next;
  }
  return path.startsWith('.') || path.startsWith('/') ? found : found.map(withoutDot);
}

const withoutDot = (path: string | Buffer): string | Buffer =>
  typeof path === 'string'
    ? path.replace(/^\.\//, '')
    : path.subarray(0, 2).toString() === './'
      ? path.subarray(2)
      : path;

/** The names of a file or of stdin: lines, or what `find -print0` writes. Bytes where a name is not UTF-8. */
async function readNames(file: string, context: Context): Promise<(string | Buffer)[]> {
  const bytes = file === '-' ? Buffer.from(await readStdin(context)) : await readFile(file);
  const end = bytes.includes(0) ? 0 : LINE_FEED;
  const names: (string | Buffer)[] = [];
  for (let from = 0; from < bytes.length; ) {
    const found = bytes.indexOf(end, from);
    const to = found < 0 ? bytes.length : found;
    const crlf = end === LINE_FEED && bytes[to - 1] === CARRIAGE_RETURN;
    const name = bytes.subarray(from, crlf ? to - 1 : to);
    if (name.length > 0) names.push(asText(name) ?? Buffer.from(name));
    from = to + 1;
  }
  return names;
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * The images of one shard. Which shard an image is in depends on its name alone, so that machines that list a folder at different times
 * agree, and each image is in exactly one of them.
 */
export function inShard<I extends { readonly name: string }>(
  inputs: readonly I[],
  shard: Shard | undefined,
): readonly I[] {
  if (shard === undefined) return inputs;
  return inputs.filter(({ name }) => {
    const hash = createHash('sha256').update(name).digest().readUInt32BE(0);
    return hash % shard.count === shard.index - 1;
  });
}

// --- Folders ---

/** Endings that datasets have beside their images by the thousand, and that are not worth a look. */
const TEXT_ENDING = /\.(txt|caption|tags|json|jsonl|ndjson|tsv|csv|md|html?|xml|ya?ml|toml|log|lock|part|np[yz])$/i;

/** The entries of a folder, names as bytes. */
export type ListFolder = (folder: string | Buffer) => Promise<readonly Entry[]>;
export type Entry = Pick<Dirent<Buffer>, 'name' | 'isFile' | 'isDirectory' | 'isSymbolicLink'>;

const listFolder: ListFolder = (folder) => readdir(folder, { withFileTypes: true, encoding: 'buffer' });

/**
 * Adds the images of a folder, sorted by name; `recursive`: with those of all folders below it. Hidden files and folders are left out, and
 * linked folders are not followed below the first, so that a link to a parent cannot go on for ever. What is an image by its ending, or
 * by its first bytes, is one. A folder below that cannot be read is reported and left out.
 */
export async function addFolder(
  folder: string | Buffer,
  found: Found,
  context: Pick<Context, 'report' | 'signal'>,
  recursive: boolean,
  list: ListFolder = listFolder,
): Promise<void> {
  const images: Input<ImageInput>[] = [];
  const folders: (string | Buffer)[] = [typeof folder === 'string' ? folder.replace(/(?<=.)[\\/]+$/, '') : folder];
  for (const at of folders) {
    context.signal.throwIfAborted();
    const entries = await list(at).catch((error: unknown) => {
      if (at === folders[0]) throw error;
      context.report(error);
      found.unreadable++;
      return [];
    });
    for (const entry of entries) {
      if (entry.name[0] === DOT) continue;
      const path = below(at, entry.name);
      if (entry.isDirectory()) {
        if (recursive) folders.push(path);
      } else if (await isImageFile(path, entry)) images.push(onDisk(path));
      else countEnding(found.leftOut, textOf(entry.name));
    }
  }
  images.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const image of images) found.inputs.push(image);
}

const DOT = 0x2e;

/** Text where the name is UTF-8, else bytes. */
function below(folder: string | Buffer, name: Buffer): string | Buffer {
  const text = asText(name);
  if (typeof folder === 'string' && text !== undefined)
    return /[\\/]$/.test(folder) ? folder + text : `${folder}/${text}`;
  return Buffer.concat([Buffer.from(folder as string), Buffer.from('/'), name]);
}

/** A dangling link counts as a file: that it cannot be read is to be said, not passed over. */
async function isImageFile(path: string | Buffer, entry: Entry): Promise<boolean> {
  const name = textOf(entry.name);
  if (entry.isSymbolicLink()) {
    const target = await stat(path).catch(() => undefined);
    if (target === undefined) return IMAGE_ENDING.test(name);
    if (!target.isFile()) return false;
  } else if (!entry.isFile()) return false;
  if (IMAGE_ENDING.test(name)) return true; // without a look into it, so that a damaged one is reported
  return !TEXT_ENDING.test(name) && (await beginsAsImage(path));
}

async function beginsAsImage(path: string | Buffer): Promise<boolean> {
  const { formatOf } = await import('../image/image-file.js');
  try {
    const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      const { bytesRead, buffer } = await file.read(new Uint8Array(512), 0, 512, 0);
      formatOf(buffer.subarray(0, bytesRead));
      return true;
    } finally {
      await file.close();
    }
  } catch {
    return false;
  }
}

function countEnding(counts: Map<string, number>, name: string): void {
  const ending = /(?<=.)\.[^.]{1,10}$/.exec(name)?.[0].toLowerCase() ?? 'without an ending';
  counts.set(ending, (counts.get(ending) ?? 0) + 1);
}

/** Says on stderr what folders had besides images, unless it should be quiet. */
export function reportLeftOut(list: InputList, { quiet }: { readonly quiet?: boolean }, { stderr }: Context): void {
  const leftOut = describeLeftOut(list);
  if (leftOut !== undefined && quiet !== true) stderr(leftOut);
}

/** `4 files left out: 2 .heic, 1 .pdf, 1 without an ending`; undefined where none was. */
function describeLeftOut({ leftOut }: Pick<InputList, 'leftOut'>): string | undefined {
  const counts = [...leftOut].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return undefined;
  const shown = counts.slice(0, MOST_ENDINGS).map(([ending, count]) => `${count} ${ending}`);
  const rest = counts.slice(MOST_ENDINGS).reduce((sum, [, count]) => sum + count, 0);
  return `${total === 1 ? '1 file' : `${total} files`} left out: ${[...shown, ...(rest > 0 ? [`${rest} others`] : [])].join(', ')}`;
}

const MOST_ENDINGS = 8;

// --- Names ---

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text of bytes that are UTF-8, else undefined. */
function asText(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * A file name as text. A byte that is not UTF-8 becomes U+DC00 and its value, as Python's `surrogateescape` has it: names stay different
 * from each other, JSON holds them as `\udcff`, and Python's `os.fsencode` gives the bytes back.
 */
export function textOf(bytes: Uint8Array): string {
  const whole = asText(bytes);
  if (whole !== undefined) return whole;
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at]!;
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    const char = asText(bytes.subarray(at, at + length));
    text += char ?? String.fromCharCode(0xdc00 + first);
    at += char === undefined ? 1 : length;
  }
  return text;
}

const ESCAPED = /[\udc80-\udcff]/u;

/** Whether a name is the text of bytes that are not UTF-8, as `textOf` makes it. */
export const isEscaped = (name: string): boolean => ESCAPED.test(name);

/** The other way round: a name as text, or its bytes where they are not UTF-8. */
export function pathOf(name: string): string | Buffer {
  if (!isEscaped(name)) return name;
  const pieces = Array.from(name, (char) => {
    const code = char.codePointAt(0)!;
    return code >= 0xdc80 && code <= 0xdcff ? Buffer.of(code - 0xdc00) : Buffer.from(char);
  });
  return Buffer.concat(pieces);
}

/**
 * The arguments of this process. Node replaces bytes that are not UTF-8; where it did, Linux has them, and they become text as `textOf`
 * makes it. Elsewhere the name stays as Node has it, and is not found.
 */
export function commandLine(
  argv: readonly string[] = process.argv.slice(2),
  file = '/proc/self/cmdline',
): readonly string[] {
  if (!argv.some((value) => value.includes(REPLACEMENT))) return argv;
  try {
    const bytes = readFileSync(file);
    const given: string[] = [];
    for (let from = 0, to = bytes.indexOf(0); to >= 0; from = to + 1, to = bytes.indexOf(0, from)) {
      given.push(textOf(bytes.subarray(from, to)));
    }
    return given.slice(-argv.length);
  } catch {
    return argv;
  }
}

// --- Standard input ---

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

/** Largest file with texts. */
const MOST_TEXT_BYTES = 64 * 2 ** 20;

/**
 * Texts from a file, one on each line, or from the command line, with commas between them.
 *
 * @throws UsageError where there is none; Image2TextError for a file that is not UTF-8.
 */
export async function readTexts(given: string, flag: string): Promise<string[]> {
  if (given.trim() === '') throw new UsageError(`${flag} is empty: name a file, or texts with commas between them`);
  const found = await stat(given).catch(() => undefined);
  const isFile = found?.isFile() === true;
  if (!isFile && /[/\\]|\.\w+$/.test(given)) throw new UsageError(`${flag} ${given}: there is no such file`);
  if (isFile && found.size > MOST_TEXT_BYTES)
    throw new UsageError(`${flag} ${given}: more than ${MOST_TEXT_BYTES} bytes`);
  const bytes = isFile ? await readFile(given) : Buffer.from(given.replaceAll(',', '\n'));
  const text = asText(bytes);
  if (text === undefined) {
    throw new Image2TextError({ file: given, code: 'not-utf8', detail: 'expected text in UTF-8, one on each line' });
  }
  const texts = textLines(text);
  if (texts.length === 0) throw new UsageError(`${flag} ${given}: no text there`);
  return texts;
}
