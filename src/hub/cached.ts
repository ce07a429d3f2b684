/** What the cache has, whoever wrote it: Python's huggingface_hub, this library, or another. No request is made here. */
import { lstat, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { HubError, quote } from '../errors.js';
import { isHash } from './blob-hash.js';
import { isAbsent } from './failures.js';
import { fileLabel, isCommit } from './names.js';
import { type FileSelection, selectFiles, shardNames } from './repo-files.js';
import type { HubSession } from './session.js';
import { isMissing, storageError } from './storage.js';
import { checkBlob } from './verified.js';

const MAX_INDEX_BYTES = 64 << 20;

/** The error of all that is not here while nothing may be fetched. */
function notCached({ repo, revision, paths }: HubSession, what: string, file?: string): HubError {
  return new HubError({
    file: fileLabel(repo, revision, file),
    code: 'not-cached',
    detail: `${what} is not in the cache ${paths.cache}; download it once while online (HF_HUB_OFFLINE, localFilesOnly unset)`,
  });
}

/** The commit that the cache has for the revision: itself, or what its ref says. Throws HubError `not-cached`. */
export async function cachedCommit(session: HubSession): Promise<string> {
  const { revision, paths } = session;
  if (isCommit(revision)) return revision;
  const text = await readFile(paths.ref(revision), 'utf8').catch(() => '');
  const commit = text.trim();
  if (!isCommit(commit)) throw notCached(session, `revision ${quote(revision)}`);
  return commit;
}

/** The path of a cached file whose bytes are right. Throws HubError `not-cached`, `file-not-found`, `damaged-cache`. */
export async function cachedFile(session: HubSession, commit: string, file: string): Promise<string> {
  const { paths, repo, revision, thorough, client } = session;
  const path = paths.file(commit, file);
  const label = fileLabel(repo, revision, file);
  try {
    if (!(await stat(path)).isFile()) throw notCached(session, 'a file of that name', file);
    if (!(await lstat(path)).isSymbolicLink()) return path; // a plain copy was checked when it was made, and has no hash
    const blob = await realpath(path);
    const etag = basename(blob);
    const own = isHash(etag) && dirname(blob) === (await realpath(dirname(paths.blob(etag))));
    if (!own) return path; // a name that is no hash, or the user's own arrangement
    if ((await checkBlob(paths, etag, { thorough, signal: client.signal })) === 'intact') return path;
  } catch (error) {
    if (!isMissing(error)) throw storageError(error, path);
    if (await exists(paths.absent(commit, file))) {
      const detail = 'this revision of the repository has no such file (so an earlier download noted in the cache)';
      throw new HubError({ file: label, code: 'file-not-found', detail });
    }
    throw notCached(session, 'the file', file);
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
 * What `online` gives; where no server can be reached, what `inCache` gives, and if that is nothing, why the server was not
 * reached.
 */
export async function orCached<T>(online: () => Promise<T>, inCache: () => Promise<T>): Promise<T> {
  try {
    return await online();
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return inCache().catch((second: unknown) => {
      throw second instanceof HubError && second.code === 'not-cached' ? error : second;
    });
  }
}

/** The names directly in a snapshot; empty where there is none. */
async function snapshotNames(session: HubSession, commit: string): Promise<string[]> {
  return readdir(session.paths.snapshot(commit)).catch(() => []);
}

/** Reads the shards' names from an index file. */
export async function readShardNames(path: string, label: string): Promise<string[]> {
  const { size } = await stat(path);
  if (size > MAX_INDEX_BYTES) {
    throw new HubError({ file: label, code: 'shard-index', detail: `${size} bytes are too many for an index` });
  }
  return shardNames(await readFile(path, 'utf8'), label);
}

/** A checkpoint that is wholly in the cache. */
export interface CachedSnapshot {
  readonly directory: string;
  readonly commit: string;
  readonly files: readonly string[];
}

/**
 * The checkpoint (or just the `wanted` files) of the session's revision, every file checked.
 * Throws HubError `not-cached` (naming the first that is missing) or `damaged-cache`.
 */
export async function cachedSnapshot(
  session: HubSession,
  wanted: readonly string[] | undefined,
): Promise<CachedSnapshot> {
  const commit = await cachedCommit(session);
  const directory = session.paths.snapshot(commit);
  const files = [...(wanted ?? (await cachedCheckpoint(session, commit)))];
  for (const file of files) await cachedFile(session, commit, file);
  return { directory, commit, files };
}

async function cachedCheckpoint(session: HubSession, commit: string): Promise<string[]> {
  const names = await snapshotNames(session, commit);
  if (names.length === 0) throw notCached(session, `commit ${commit.slice(0, 12)}`);
  const { small, weights, sharded } = choose(session, names);
  if (!sharded) return [...small, weights];
  const index = await cachedFile(session, commit, weights);
  return [...small, weights, ...(await readShardNames(index, fileLabel(session.repo, session.revision, weights)))];
}

/** In a cache a missing part was not fetched, rather than not published. */
function choose(session: HubSession, names: readonly string[]): FileSelection {
  try {
    return selectFiles(names, session.repo);
  } catch (error) {
    const code = error instanceof HubError ? error.code : '';
    if (code === 'no-weights') throw notCached(session, 'a weight file of this revision');
    if (code === 'no-config') throw notCached(session, 'config.json of this revision');
    throw error;
  }
}
