/** A whole GIT checkpoint from the Hub, in the cache that Python's tools share. */
import { HubError } from '../errors.js';
import { cachedSnapshot, orCached, readShardNames } from './cached.js';
import { storeFile, writeRef } from './download-file.js';
import { type FileMetadata, fileMetadata } from './file-metadata.js';
import { checkFileName, fileLabel, isCommit } from './names.js';
import { selectFiles } from './repo-files.js';
import { type RepoFile, type RepoInfo, repoInfo } from './repo-info.js';
import { type DownloadOptions, type HubSession, withSession } from './session.js';

export interface SnapshotOptions extends DownloadOptions {
  /** Exactly these files, instead of those that a GIT checkpoint needs. */
  readonly files?: readonly string[] | undefined;
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
      session.client.signal?.throwIfAborted();
      if (here !== undefined && (wanted !== undefined || hasVocabulary(here.files))) return here;
    }
    return orCached(
      async () => fetchSnapshot(session, await repoInfo(session.client, repo, session.revision), wanted),
      () => cachedSnapshot(session, wanted),
    );
  });
}

const hasVocabulary = (files: readonly string[]): boolean =>
  files.includes('vocab.txt') || files.includes('tokenizer.json');

async function fetchSnapshot(
  session: HubSession,
  info: RepoInfo,
  wanted: readonly string[] | undefined,
): Promise<Snapshot> {
  const files = wanted === undefined ? await fetchCheckpoint(session, info) : [...wanted];
  if (wanted !== undefined) await fetchAll(session, info, wanted);
  await writeRef(session, info.commit);
  return { directory: session.paths.snapshot(info.commit), commit: info.commit, files };
}

/** The files of a GIT checkpoint; shards are known once their index is here. */
async function fetchCheckpoint(session: HubSession, info: RepoInfo): Promise<string[]> {
  const label = fileLabel(session.repo, session.revision);
  const { small, weights, sharded } = selectFiles(
    info.files.map(({ name }) => name),
    label,
  );
  const first = [...small, weights];
  const paths = await fetchAll(session, info, first);
  if (!sharded) return first;
  const shards = await readShardNames(paths.at(-1)!, `${label}/${weights}`);
  await fetchAll(session, info, shards);
  return [...first, ...shards];
}

/** One after the other, all announced first so that the total is right from the start. */
async function fetchAll(session: HubSession, info: RepoInfo, names: readonly string[]): Promise<string[]> {
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
    paths.push(await storeFile(session, name, await metadataOf(session, info.commit, known.get(name)!)));
  }
  return paths;
}

/** The listing mostly knows already; where it does not, the file itself is asked. */
async function metadataOf(session: HubSession, commit: string, { name, size, etag }: RepoFile): Promise<FileMetadata> {
  if (size !== undefined && etag !== undefined) return { commit, etag, size };
  return fileMetadata(session.client, session.repo, commit, name);
}
