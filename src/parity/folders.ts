import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { OptionError } from '../errors.js';

/** A folder that may hold cases. */
export interface Folder {
  readonly path: string;
  /** How rows name it: its path below the folder that was given, or that folder's own name. */
  readonly label: string;
  /** Names of its files, sorted. */
  readonly files: readonly string[];
}

/** Far deeper than anyone sorts test cases; stops a loop that the file system itself makes. */
const MAX_DEPTH = 16;

/**
 * The folder and all below it, in order of their names; hidden ones, `node_modules` and symbolic links to folders are left out.
 *
 * @throws OptionError when the path is not a folder.
 */
export async function* walkFolders(directory: string): AsyncGenerator<Folder> {
  const root = resolve(directory);
  const found = await stat(root).catch(() => undefined);
  if (found?.isDirectory() !== true) {
    const detail = found === undefined ? 'there is no such folder' : 'this is not a folder';
    throw new OptionError({ file: directory, code: 'not-a-folder', detail });
  }
  yield* walk(root, '', basename(root), 0);
}

async function* walk(path: string, below: string, root: string, depth: number): AsyncGenerator<Folder> {
  const entries = await readdir(path, { withFileTypes: true }).catch((cause: Error) => {
    throw new OptionError({ file: path, code: 'unreadable-folder', detail: cause.message, cause });
  });
  const names = (wanted: boolean) =>
    entries
      .filter((entry) => entry.isDirectory() === wanted)
      .map(({ name }) => name)
      .sort();
  yield { path, label: below === '' ? root : below, files: names(false) };
  if (depth === MAX_DEPTH) return;
  for (const name of names(true)) {
    if (name.startsWith('.') || name === 'node_modules') continue;
    yield* walk(join(path, name), below === '' ? name : `${below}/${name}`, root, depth + 1);
  }
}
