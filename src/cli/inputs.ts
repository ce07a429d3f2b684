import { stat } from 'node:fs/promises';
import type { ImageInput } from '../node.js';
import type { Context } from './context.js';
import { imagesBelow } from './folder.js';
import { UsageError } from './report.js';
import { readStdin } from './stdin.js';

/** One image that the command line names. */
export interface Input {
  /** What results and messages call it. */
  readonly name: string;
  /** The file on this machine, where it is one. */
  readonly path?: string;
  read(): Promise<ImageInput>;
}

export interface InputList {
  readonly inputs: readonly Input[];
  /** More than one was asked for, or a folder or glob, which may hold any number: results are named, and JSON is an array. */
  readonly several: boolean;
}

/**
 * Files, URLs, globs (for shells that leave them), folders and `-` for stdin, in the order given; the files of a folder or glob are
 * sorted by name, whatever the file system's order or the locale.
 *
 * @throws UsageError when a glob or folder holds no image, or nothing is named.
 */
export async function expandInputs(names: readonly string[], context: Context, recursive = false): Promise<InputList> {
  if (names.filter((name) => name === '-').length > 1) throw new UsageError('- (stdin) can be read once only');
  const lists: InputList[] = [];
  for (const name of names) lists.push(await expandOne(name, context, recursive));
  if (lists.length === 0) throw new UsageError('name at least one image, folder or glob, or - for stdin');
  return {
    inputs: lists.flatMap(({ inputs }) => inputs),
    several: lists.length > 1 || lists.some(({ several }) => several),
  };
}

async function expandOne(name: string, context: Context, recursive: boolean): Promise<InputList> {
  if (name === '-') return one({ name: 'stdin', read: once(async () => fileOf(await readStdin(context), 'stdin')) });
  if (/^(https?|data|file):/i.test(name)) return one({ name, read: async () => name });
  const found = await stat(name).catch(() => undefined);
  if (found?.isDirectory() === true) return many(name, await imagesBelow(name, recursive));
  if (found === undefined && /[*?[{]/.test(name)) return many(name, await globSorted(name));
  if (found?.isFIFO() === true || found?.isCharacterDevice() === true) return one(pipe(name, context));
  return one(onDisk(name));
}

/** Bytes under a name, which messages about them then use. */
export const fileOf = (bytes: Uint8Array, name: string): File => new File([bytes as Uint8Array<ArrayBuffer>], name);

const onDisk = (path: string): Input => ({ name: path, path, read: async () => path });

/** A shell's `<(…)`, a named pipe, a device: read by the library, but once, however often a batch is tried. */
const pipe = (name: string, { signal }: Context): Input => ({
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

const one = (input: Input): InputList => ({ inputs: [input], several: false });

function many(name: string, files: readonly string[]): InputList {
  if (files.length === 0) throw new UsageError(`${name}: no image there (png, jpg, webp, gif)`);
  return { inputs: files.map(onDisk), several: true };
}

async function globSorted(pattern: string): Promise<string[]> {
  const { glob } = await import('tinyglobby');
  const files = await glob(pattern.replaceAll('\\', '/'), {
    expandDirectories: false,
    absolute: pattern.startsWith('/'),
  });
  return files.sort();
}
