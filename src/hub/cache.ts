/**
 * The cache that Python's huggingface_hub and this library share: where things are in it, whether a blob is what its name says, the named
 * files of a snapshot, and what the errors of the disk mean.
 * `models--owner--name/{refs/REVISION, blobs/ETAG, snapshots/COMMIT/FILE}`, locks under `.locks/models--owner--name/`.
 */

import { createHash, randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import {
  copyFile,
  type FileHandle,
  link,
  lstat,
  lutimes,
  mkdir,
  open,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  symlink,
} from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import * as z from 'zod/mini';
import { HubError, Image2TextError, quote } from '../errors.js';
import { isRunning, openPlainFile, temporaryIn, writeWhole } from '../platform/write-whole.js';
import { wait } from './client.js';
import { checkCommit, checkEtag, checkFileName, checkRepoId, checkRevision, fileLabel, isCommit } from './names.js';

/** The places of one repository. Every part of a path is checked on the way in, whoever sent it. */
export interface RepoPaths {
  /** The whole cache. */
  readonly cache: string;
  /** `models--owner--name`. */
  readonly root: string;
  ref(revision: string): string;
  blob(etag: string): string;
  snapshot(commit: string): string;
  file(commit: string, name: string): string;
  /** Marks of the library that has looked for the file and found that this commit lacks it. */
  absent(commit: string, name: string): string;
  /** Where our locks, notes and temporary files are: nobody takes one of them for a part of the cache. */
  readonly locks: string;
  /** Ours alone: Python locks by other means, so neither may take the other's file for its own. */
  lock(etag: string): string;
  /** Our note that a blob has been hashed and was right. */
  stamp(etag: string): string;
  /** Bytes that have arrived so far. */
  partial(etag: string): string;
}

/** Throws HubError `repo-id` here, and `revision`, `file-name`, `etag-header`, `commit-header` in its functions. */
export function repoPaths(cache: string, repo: string): RepoPaths {
  const folder = ['models', ...checkRepoId(repo).split('/')].join('--');
  const root = join(cache, folder);
  const locks = join(cache, '.locks', folder);
  const blob = (etag: string) => checkEtag(etag, repo);
  const commitFolder = (kind: string, commit: string) => join(root, kind, checkCommit(commit, repo));
  return {
    cache,
    root,
    locks,
    ref: (revision) => join(root, 'refs', ...checkRevision(revision).split('/')),
    blob: (etag) => join(root, 'blobs', blob(etag)),
    snapshot: (commit) => commitFolder('snapshots', commit),
    file: (commit, name) => join(commitFolder('snapshots', commit), ...checkFileName(name).split('/')),
    absent: (commit, name) => join(commitFolder('.no_exist', commit), ...checkFileName(name).split('/')),
    lock: (etag) => join(locks, `${blob(etag)}.node.lock`),
    stamp: (etag) => join(locks, `${blob(etag)}.node.verified`),
    partial: (etag) => join(root, 'blobs', `${blob(etag)}.node.incomplete`),
  };
}

const SPARE_BYTES = 1 << 20;

const codeOf = (error: unknown): string => String((error as { code?: unknown } | null)?.code ?? '');

/** Is this the error of a file that does not exist? */
export function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR';
}

/** A file system's error as HubError `disk-full`, `cache-not-writable` or `cache`; typed errors and aborts pass through. */
export function storageError(error: unknown, path: string): unknown {
  if (error instanceof Image2TextError || !/^E[A-Z0-9]+$/.test(codeOf(error))) return error;
  if (/^(?:ENOSPC|EDQUOT|EFBIG)$/.test(codeOf(error))) {
    return new HubError({ file: path, code: 'disk-full', detail: 'no space is left for the download', cause: error });
  }
  if (/^(?:EACCES|EPERM|EROFS|ENOTDIR|EEXIST|EISDIR)$/.test(codeOf(error))) {
    const detail = `the cache cannot be written here (${codeOf(error)}); choose another with HF_HUB_CACHE or cacheDir`;
    return new HubError({ file: path, code: 'cache-not-writable', detail, cause: error });
  }
  return new HubError({
    file: path,
    code: 'cache',
    detail: `the cache cannot be used (${codeOf(error)})`,
    cause: error,
  });
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
export async function writeSmall(paths: RepoPaths, path: string, text: string): Promise<void> {
  for (const folder of [dirname(path), paths.locks]) await makeFolder(folder);
  await writeWhole(path, text, paths.locks).catch((error) => {
    throw storageError(error, path);
  });
}

/** Opens what must be a plain file of the cache. Throws as `openPlain` of write-whole.ts, and HubError `not-a-plain-file`. */
export const openPlain = (path: string, flags = constants.O_RDONLY): Promise<FileHandle> =>
  openPlainFile(path, flags, (what, cause) => {
    const detail = `here is ${what} where a file of the cache belongs; it was left as it is: remove it`;
    return new HubError({ file: path, code: 'not-a-plain-file', detail, cause });
  });

const MAX_NOTE_BYTES = 1 << 16;

/** The text of a small plain file. Throws as `openPlain`. */
export async function readSmall(path: string): Promise<string> {
  const file = await openPlain(path);
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_NOTE_BYTES), 0, MAX_NOTE_BYTES, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

/** A hash that grows with the bytes. */
export interface BlobHash {
  update(bytes: Uint8Array): void;
  /** Does the hash of all bytes equal the name? True for a name that is no hash. Call it once. */
  matches(): boolean;
}

const READ_BYTES = 1 << 20;

/** Is the name a hash of the content? */
export function isHash(etag: string): boolean {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(etag);
}

/** The hash for a blob of that name and size (git hashes the size too). */
export function blobHash(etag: string, size: number): BlobHash {
  if (!isHash(etag)) return { update: () => undefined, matches: () => true };
  const hash = etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
  return {
    update: (bytes) => void hash.update(bytes),
    matches: () => hash.digest('hex') === etag,
  };
}

/** Reads a file in pieces, from its start. Throws as `node:fs` does, or the signal's reason. */
export async function readPieces(
  file: FileHandle,
  take: (piece: Uint8Array) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const buffer = new Uint8Array(READ_BYTES);
  for (let position = 0; ; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return;
    take(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}

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
    const noted = thorough ? '' : await readSmall(paths.stamp(etag)).catch(() => '');
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
  const file = await openPlain(path);
  try {
    await readPieces(file, hash.update, signal);
  } finally {
    await file.close();
  }
  return hash.matches();
}

/** Remembers that a blob was right. A cache that cannot be written is hashed each time. */
export async function noteVerified(paths: RepoPaths, etag: string, stats?: Stats): Promise<void> {
  try {
    await writeSmall(paths, paths.stamp(etag), note(stats ?? (await stat(paths.blob(etag)))));
  } catch {
    // a read-only cache is a good cache
  }
}

/** Makes `path` show the blob named `etag`, replacing in one step what showed something else. Throws HubError (storage). */
export async function pointTo(paths: RepoPaths, etag: string, path: string, symlinks: boolean): Promise<void> {
  const blob = paths.blob(etag);
  try {
    if (await alreadyShows(blob, path, etag)) return;
    for (const folder of [dirname(path), paths.locks]) await makeFolder(folder);
    const temporary = temporaryIn(paths.locks);
    try {
      await connect(blob, temporary, symlinks ? relative(dirname(path), blob) : undefined);
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
async function connect(blob: string, path: string, target: string | undefined): Promise<void> {
  if (target !== undefined) {
    try {
      return await symlink(target, path, 'file');
    } catch {
      // fall through to the copy
    }
  }
  await link(blob, path).catch(() => copyFile(blob, path, constants.COPYFILE_EXCL));
}

/** A revision as the cache may have it; `thorough` hashes what was hashed before. */
export interface CacheView {
  readonly repo: string;
  readonly revision: string;
  readonly paths: RepoPaths;
  readonly thorough?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The error of all that is not here while nothing may be fetched. */
export function notCached(view: CacheView, what: string, file?: string): HubError {
  const detail = `${what} is not in the cache; download it once while online, or ${copyAdvice(view.paths)}`;
  return new HubError({ file: fileLabel(view.repo, view.revision, file), code: 'not-cached', detail });
}

/** How a model comes to a machine without network. */
export const copyAdvice = ({ cache, root }: RepoPaths): string =>
  `copy ${basename(root)} from ~/.cache/huggingface/hub of a machine that has it into ${cache}`;

/** The commit that the cache has for the revision: itself, or what its ref says. Throws HubError `not-cached`. */
export async function cachedCommit(view: CacheView): Promise<string> {
  const { revision, paths } = view;
  if (isCommit(revision)) return revision;
  const commit = (await readSmall(paths.ref(revision)).catch(() => '')).trim();
  if (!isCommit(commit)) throw notCached(view, `revision ${quote(revision)}`);
  return commit;
}

/** The path of a cached file whose bytes are right. Throws HubError `not-cached`, `file-not-found`, `damaged-cache`. */
export async function cachedFile(view: CacheView, commit: string, file: string): Promise<string> {
  const { paths, repo, revision } = view;
  const path = paths.file(commit, file);
  const label = fileLabel(repo, revision, file);
  try {
    if (!(await stat(path)).isFile()) throw notCached(view, 'a file of that name', file);
    if (!(await lstat(path)).isSymbolicLink()) return path; // a plain copy was checked when it was made, and has no hash
    const blob = await realpath(path);
    const etag = basename(blob);
    const own = isHash(etag) && dirname(blob) === (await realpath(dirname(paths.blob(etag))));
    if (!own) return path; // a name that is no hash, or the user's own arrangement
    if ((await checkBlob(paths, etag, view)) === 'intact') return path;
  } catch (error) {
    if (!isMissing(error)) throw storageError(error, path);
    if (await exists(paths.absent(commit, file))) {
      const detail = 'this revision of the repository has no such file (so an earlier download noted in the cache)';
      throw new HubError({ file: label, code: 'file-not-found', detail });
    }
    throw notCached(view, 'the file', file);
  }
  const detail = `its bytes in the cache are damaged (${path}); go online once to fetch it again`;
  throw new HubError({ file: label, code: 'damaged-cache', detail });
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/**
 * A lock that processes share: a file that only one can create. Its holder's heartbeat touches it; a lock whose process is gone (same
 * machine), or that nobody has touched for a minute, is reclaimed.
 */

/** A lock that is ours. */
export interface Lock {
  /** Was it not reclaimed meanwhile (a sleeping laptop, a blocked process)? */
  isHeld(): Promise<boolean>;
  release(): Promise<void>;
}

export interface LockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Without a heartbeat for so long, a lock counts as left behind. */
  readonly staleMs?: number;
  /** Pause between two looks at a lock of somebody else. */
  readonly pollMs?: number;
  /** Is called each time that somebody else is found to hold it, with `process 12 on HOST`; what it throws ends the wait. */
  readonly onBusy?: (holder: string) => void;
}

const UNWRITTEN_MS = 5_000; // a holder that was killed between creating its file and writing into it

/** Waits for the lock at `path` as long as its holder lives. Throws HubError as `storageError`, or the signal's reason. */
export async function acquireLock(
  path: string,
  { signal, staleMs = 60_000, pollMs = 100, onBusy }: LockOptions = {},
): Promise<Lock> {
  await makeFolder(dirname(path));
  const mine = JSON.stringify({ pid: process.pid, host: hostname(), id: randomUUID() });
  const isHeld = async () => (await readSmall(path).catch(() => '')) === mine;
  // A process that stood still between creating its file and writing into it may have been taken for a dead one.
  while (!((await create(path, mine)) && (await isHeld()))) {
    signal?.throwIfAborted();
    const theirs = await leftBehind(path, staleMs);
    if (theirs === undefined) {
      onBusy?.(await holderOf(path));
      await wait(pollMs, signal);
    } else if (await takeOver(path, theirs, mine, staleMs)) break;
    else await wait(pollMs, signal);
  }
  const touch = () => void lutimes(path, new Date(), new Date()).catch(() => undefined);
  const heartbeat = setInterval(touch, staleMs / 6);
  heartbeat.unref();
  return {
    isHeld,
    async release() {
      clearInterval(heartbeat);
      if (await isHeld()) await rm(path, { force: true });
    },
  };
}

async function holderOf(path: string): Promise<string> {
  const [, pid, host] = /^\{"pid":(\d+),"host":"([^"]*)"/.exec(await readSmall(path).catch(() => '')) ?? [];
  return pid === undefined ? 'another process' : `process ${pid} on ${host}`;
}

async function create(path: string, text: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    await file.writeFile(text).finally(() => file.close());
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EEXIST') return false;
    throw storageError(error, path);
  }
}

/** The text of a lock that nobody holds any more; undefined while it is held, or gone. */
async function leftBehind(path: string, staleMs: number): Promise<string | undefined> {
  try {
    const stats = await lstat(path);
    if (!stats.isFile()) {
      const detail = 'here is a link or a device where a lock belongs; it was left as it is: remove it';
      throw new HubError({ file: path, code: 'not-a-plain-file', detail });
    }
    const text = await readSmall(path);
    const age = Date.now() - stats.mtimeMs;
    const dead = text === '' ? age > UNWRITTEN_MS : isDead(text);
    return dead || age > staleMs ? text : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw storageError(error, path);
  }
}

const ownerSchema = z.object({ pid: z.int(), host: z.string() });

function isDead(text: string): boolean {
  try {
    const owner = z.safeParse(ownerSchema, JSON.parse(text)).data;
    return owner?.host === hostname() && !isRunning(owner.pid);
  } catch {
    return false;
  }
}

/**
 * Puts our lock in the place of a dead one whose text is `expected`. Of several that want to, one can create the mark that is named after it, and the
 * mark itself becomes the lock. Whoever stood still for so long that its mark was taken for a dead one finds it gone.
 * Resolves to whether it is ours: its text says so.
 */
async function takeOver(path: string, expected: string, mine: string, staleMs: number): Promise<boolean> {
  const name = createHash('sha256')
    .update(`${basename(path)}\n${expected}`)
    .digest('hex')
    .slice(0, 16);
  const mark = join(dirname(path), `.i2t-${name}.lock`);
  if (!(await create(mark, mine))) {
    const left = await leftBehind(mark, staleMs); // its process was killed in between
    if (left !== undefined) await rm(mark, { force: true });
    return false;
  }
  try {
    if ((await readSmall(path)) === expected) await rename(mark, path);
  } catch (error) {
    if (!isMissing(error)) throw storageError(error, path);
  }
  const textAt = (file: string) => readSmall(file).catch(() => '');
  if ((await textAt(mark)) === mine) await rm(mark, { force: true });
  return (await textAt(path)) === mine;
}
