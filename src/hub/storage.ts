/** The disk under the cache: what its errors mean, whether a file will fit, and writing small files in one step. */
import { randomUUID } from 'node:crypto';
import { mkdir, rename, rm, statfs, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HubError, Image2TextError } from '../errors.js';

const SPARE_BYTES = 1 << 20;

const code = (error: unknown): string => String((error as { code?: unknown } | null)?.code ?? '');

/** Is this the error of a file that does not exist? */
export function isMissing(error: unknown): boolean {
  return code(error) === 'ENOENT' || code(error) === 'ENOTDIR';
}

/** A file system's error as HubError `disk-full`, `cache-not-writable` or `cache`; typed errors and aborts pass through. */
export function storageError(error: unknown, path: string): unknown {
  if (error instanceof Image2TextError || !/^E[A-Z0-9]+$/.test(code(error))) return error;
  if (/^(?:ENOSPC|EDQUOT|EFBIG)$/.test(code(error))) {
    return new HubError({ file: path, code: 'disk-full', detail: 'no space is left for the download', cause: error });
  }
  if (/^(?:EACCES|EPERM|EROFS|ENOTDIR|EEXIST|EISDIR)$/.test(code(error))) {
    const detail = `the cache cannot be written here (${code(error)}); choose another with HF_HUB_CACHE or cacheDir`;
    return new HubError({ file: path, code: 'cache-not-writable', detail, cause: error });
  }
  return new HubError({ file: path, code: 'cache', detail: `the cache cannot be used (${code(error)})`, cause: error });
}

/** Makes a folder and those above it. Throws HubError `cache-not-writable`, naming the folder. */
export async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((error) => {
    throw storageError(error, path);
  });
}

/** Bytes that a user may still write to the file system of `folder`; undefined where it does not say. */
export async function freeBytes(folder: string): Promise<number | undefined> {
  const { bavail, bsize } = await statfs(folder).catch(() => ({ bavail: Number.NaN, bsize: 1 }));
  return Number.isNaN(bavail) ? undefined : bavail * bsize;
}

/** Throws HubError `disk-space` unless `needed` bytes fit into `folder`. */
export async function checkSpace(folder: string, needed: number, file: string, free = freeBytes): Promise<void> {
  const available = await free(folder);
  if (available === undefined || available >= needed + SPARE_BYTES) return;
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
  const detail = `it needs ${megabytes(needed)}, and ${folder} has ${megabytes(Math.max(0, available))} left`;
  throw new HubError({ file, code: 'disk-space', detail });
}

/** Writes a small file so that a reader sees the old text or the new one, and never a part. */
export async function writeWhole(path: string, text: string): Promise<void> {
  await makeFolder(dirname(path));
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await writeFile(temporary, text, { flag: 'wx' });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw storageError(error, path);
  }
}
