/**
 * Is a blob in the cache what its name says? Hashing 700 MB at each start would be waste, so a blob that was right is noted with
 * its size, times and inode; whatever changes the file changes those, and it is hashed again.
 */
import type { Stats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { blobHash, isHash, readPieces } from './blob-hash.js';
import type { RepoPaths } from './cache-paths.js';
import { isMissing, storageError, writeWhole } from './storage.js';

/** `size` is what the server declares, where one was asked; `thorough` hashes in spite of the note. */
export interface VerifyOptions {
  readonly size?: number | undefined;
  readonly thorough?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

const note = (stats: Stats): string => [stats.size, stats.mtimeMs, stats.ctimeMs, stats.ino].join(' ');

/** `missing`, `intact`, or `damaged`: another size or other bytes than the name and the server say. Throws HubError (storage). */
export async function checkBlob(
  paths: RepoPaths,
  etag: string,
  { size, thorough, signal }: VerifyOptions = {},
): Promise<'missing' | 'intact' | 'damaged'> {
  const path = paths.blob(etag);
  try {
    const stats = await stat(path);
    if (!stats.isFile() || (size !== undefined && stats.size !== size)) return 'damaged';
    if (!isHash(etag)) return 'intact';
    const noted = thorough ? '' : await readFile(paths.stamp(etag), 'utf8').catch(() => '');
    if (noted === note(stats)) return 'intact';
    if (!(await hasHash(path, etag, stats.size, signal))) return 'damaged';
    await noteVerified(paths, etag, stats);
    return 'intact';
  } catch (error) {
    if (isMissing(error)) return 'missing';
    throw storageError(error, path);
  }
}

/** Does the file have the content that the name promises? */
export async function hasHash(
  path: string,
  etag: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const hash = blobHash(etag, size);
  await readPieces(path, hash.update, signal);
  return hash.matches();
}

/** Remembers that a blob was right. A cache that cannot be written is hashed each time. */
export async function noteVerified(paths: RepoPaths, etag: string, stats?: Stats): Promise<void> {
  try {
    await writeWhole(paths.stamp(etag), note(stats ?? (await stat(paths.blob(etag)))));
  } catch {
    // a read-only cache is a good cache
  }
}
