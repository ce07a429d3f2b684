/** A whole GIT checkpoint from the Hub, in the cache that Python's tools share. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { type ByteSource, fromBytes, type ModelFiles } from '../checkpoint/byte-source.js';
import { HubError } from '../errors.js';
import { type CacheView, cachedCommit, cachedFile, notCached } from './cache.js';
import { isTransient } from './client.js';
import { type DownloadOptions, type HubSession, orCached, storeFile, withSession, writeRef } from './download.js';
import {
  type FileMetadata,
  type FileSelection,
  fileMetadata,
  type RepoFile,
  type RepoInfo,
  repoInfo,
  selectFiles,
  shardNames,
} from './metadata.js';
import { checkFileName, fileLabel, isCommit, resolveUrl } from './names.js';
import { openRemote } from './remote-files.js';

export interface SnapshotOptions extends DownloadOptions {
  /** Exactly these files, instead of those that a GIT checkpoint needs. */
  readonly files?: readonly string[] | undefined;
  /** Is called before weights of so many bytes are fetched, with files whose headers can be read in parts; what it throws ends the download. */
  readonly beforeWeights?: ((files: ModelFiles, bytes: number) => Promise<void>) | undefined;
}

/** Where the checkpoint is: names in `files` are relative to `directory`. */
export interface Snapshot {
  readonly directory: string;
  readonly commit: string;
  readonly files: readonly string[];
}

/**
 * Brings the files of a checkpoint into the cache and returns their folder, `snapshots/COMMIT`. Configuration and vocabulary
 * come first, weights last (safetensors if there are any, else PyTorch's), and the revision's ref is written when all are there.
 * Without network (`localFilesOnly`, HF_HUB_OFFLINE, no server in reach, or a full commit hash whose files are here) the cache answers.
 * Throws HubError, see `downloadFile`; also `no-weights`, `no-config`, `shard-index`.
 */
export function downloadSnapshot(repo: string, options: SnapshotOptions = {}): Promise<Snapshot> {
  return withSession(repo, options, async (session) => {
    const wanted = options.files?.map(checkFileName);
    if (session.offline) return cachedSnapshot(session, wanted);
    if (isCommit(session.revision)) {
      const here = await cachedSnapshot(session, wanted).catch(() => undefined);
      session.signal?.throwIfAborted();
      if (here !== undefined && (wanted !== undefined || hasVocabulary(here.files))) return here;
    }
    const inCache = () => cachedSnapshot(session, wanted);
    return orCached(
      session,
      async () => {
        let info: RepoInfo;
        try {
          info = await repoInfo(session.client, repo, session.revision);
        } catch (error) {
          if (!isTransient(error)) throw error;
          return inCache().catch(() => Promise.reject(error)); // a busy Hub does not stop who has it all
        }
        return fetchSnapshot(session, info, wanted, options.beforeWeights);
      },
      inCache,
    );
  });
}

const hasVocabulary = (files: readonly string[]): boolean =>
  files.includes('vocab.txt') || files.includes('tokenizer.json');

async function fetchSnapshot(
  session: HubSession,
  info: RepoInfo,
  wanted: readonly string[] | undefined,
  beforeWeights: SnapshotOptions['beforeWeights'],
): Promise<Snapshot> {
  const files = wanted === undefined ? await fetchCheckpoint(session, info, beforeWeights) : [...wanted];
  if (wanted !== undefined) await fetchAll(session, info, wanted);
  await writeRef(session, info.commit);
  return { directory: session.paths.snapshot(info.commit), commit: info.commit, files };
}

/** The files of a GIT checkpoint; shards are known once their index is here. */
async function fetchCheckpoint(
  session: HubSession,
  info: RepoInfo,
  beforeWeights: SnapshotOptions['beforeWeights'],
): Promise<string[]> {
  const label = fileLabel(session.repo, session.revision);
  const { small, weights, sharded } = selectFiles(
    info.files.map(({ name }) => name),
    label,
  );
  const first = [...small, weights];
  const ask = (names: readonly string[]): Promise<void> => askBefore(session, info, names, beforeWeights);
  const paths = await fetchAll(session, info, first, async (name) => {
    if (name === weights && !sharded) await ask([name]);
  });
  if (!sharded) return first;
  const shards = await readShardNames(paths.at(-1)!, `${label}/${weights}`);
  let asked = false;
  await fetchAll(session, info, shards, async () => {
    if (!asked) await ask(shards);
    asked = true;
  });
  return [...first, ...shards];
}

/** Calls `beforeWeights` for weights that the cache lacks, with the small files of the cache and the weights as the server has them. */
async function askBefore(
  { client, paths, repo, signal }: HubSession,
  { commit, files }: RepoInfo,
  weights: readonly string[],
  beforeWeights: SnapshotOptions['beforeWeights'],
): Promise<void> {
  if (beforeWeights === undefined) return;
  const here = await Promise.all(weights.map((name) => stat(paths.file(commit, name)).catch(() => undefined)));
  if (here.every((found) => found !== undefined)) return;
  const bytes = files.reduce((sum, { name, size }) => sum + (weights.includes(name) ? (size ?? 0) : 0), 0);
  const { fetch, token, limits } = client;
  const open = async (name: string): Promise<ByteSource | undefined> => {
    if (weights.includes(name))
      return openRemote(resolveUrl(client.endpoint, repo, commit, name), {
        fetch,
        token,
        signal,
        limits,
        redirects: 'by-hand',
      });
    const path = paths.file(commit, checkFileName(name));
    return readFile(path).then(
      (content) => fromBytes(new Uint8Array(content)),
      () => undefined,
    );
  };
  await beforeWeights({ label: repo, open }, bytes);
}

/** One after the other, all announced first so that the total is right from the start. */
async function fetchAll(
  session: HubSession,
  info: RepoInfo,
  names: readonly string[],
  before?: (name: string) => Promise<void>,
): Promise<string[]> {
  const known = new Map(info.files.map((file) => [file.name, file]));
  for (const name of names) {
    if (!known.has(name)) {
      const file = fileLabel(session.repo, session.revision, name);
      throw new HubError({ file, code: 'file-not-found', detail: 'this revision of the repository has no such file' });
    }
    session.report.expect(name, known.get(name)?.size ?? 0);
  }
  const paths: string[] = [];
  for (const name of names) {
    await before?.(name);
    paths.push(await storeFile(session, name, await metadataOf(session, info.commit, known.get(name)!)));
  }
  return paths;
}

/** The listing mostly knows already; where it does not, the file itself is asked. */
async function metadataOf(session: HubSession, commit: string, { name, size, etag }: RepoFile): Promise<FileMetadata> {
  if (size !== undefined && etag !== undefined) return { commit, etag, size };
  return fileMetadata(session.client, session.repo, commit, name);
}

const MAX_INDEX_BYTES = 64 << 20;

/** Reads the shards' names from an index file. */
async function readShardNames(path: string, label: string): Promise<string[]> {
  const { size } = await stat(path);
  if (size > MAX_INDEX_BYTES) {
    throw new HubError({ file: label, code: 'shard-index', detail: `${size} bytes are too many for an index` });
  }
  return shardNames(await readFile(path, 'utf8'), label);
}

/**
 * The checkpoint (or just the `wanted` files) of the session's revision, every file checked.
 * Throws HubError `not-cached` (naming the first that is missing) or `damaged-cache`.
 */
async function cachedSnapshot(view: CacheView, wanted: readonly string[] | undefined): Promise<Snapshot> {
  const commit = await cachedCommit(view);
  const directory = view.paths.snapshot(commit);
  const files = [...(wanted ?? (await cachedCheckpoint(view, commit)))];
  for (const file of files) await cachedFile(view, commit, file);
  return { directory, commit, files };
}

async function cachedCheckpoint(view: CacheView, commit: string): Promise<string[]> {
  const names = await readdir(view.paths.snapshot(commit)).catch(() => []);
  if (names.length === 0) throw notCached(view, `commit ${commit.slice(0, 12)}`);
  const { small, weights, sharded } = choose(view, names);
  if (!sharded) return [...small, weights];
  const index = await cachedFile(view, commit, weights);
  return [...small, weights, ...(await readShardNames(index, fileLabel(view.repo, view.revision, weights)))];
}

/** In a cache a missing part was not fetched, rather than not published. */
function choose(view: CacheView, names: readonly string[]): FileSelection {
  try {
    return selectFiles(names, view.repo);
  } catch (error) {
    const code = error instanceof HubError ? error.code : '';
    if (code === 'no-weights') throw notCached(view, 'a weight file of this revision');
    if (code === 'no-config') throw notCached(view, 'config.json of this revision');
    throw error;
  }
}
