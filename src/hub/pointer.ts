/** The named file of a snapshot, which points to its blob: a relative symbolic link, or a copy where links are not to be had. */
import { randomUUID } from 'node:crypto';
import { copyFile, link, lstat, realpath, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { isMissing, makeFolder, storageError } from './storage.js';
import { hasHash } from './verified.js';

/** Makes `path` show the blob named `etag`, replacing in one step what showed something else. Throws HubError (storage). */
export async function pointTo(blob: string, path: string, etag: string, symlinks: boolean): Promise<void> {
  try {
    if (await alreadyShows(blob, path, etag)) return;
    await makeFolder(dirname(path));
    const temporary = `${path}.${randomUUID()}.tmp`;
    try {
      await connect(blob, temporary, dirname(path), symlinks);
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  } catch (error) {
    throw storageError(error, path);
  }
}

async function alreadyShows(blob: string, path: string, etag: string): Promise<boolean> {
  try {
    const here = await lstat(path);
    if (here.isSymbolicLink()) return (await realpath(path)) === (await realpath(blob));
    const [copy, original] = [await stat(path), await stat(blob)];
    if (copy.ino === original.ino && copy.dev === original.dev) return true;
    return copy.isFile() && copy.size === original.size && (await hasHash(path, etag, copy.size, undefined));
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Windows without the right to make links, and some network drives, refuse symbolic links; some refuse hard ones as well. */
async function connect(blob: string, path: string, folder: string, symlinks: boolean): Promise<void> {
  if (symlinks) {
    try {
      return await symlink(relative(folder, blob), path, 'file');
    } catch {
      // fall through to the copy
    }
  }
  await link(blob, path).catch(() => copyFile(blob, path));
}
