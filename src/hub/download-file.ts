/** One file of a repository into the cache: looked for, locked, fetched, verified, named, pointed to; in this order. */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HubError } from '../errors.js';
import { resolveUrl } from './address.js';
import { cachedCommit, cachedFile, orCached } from './cached.js';
import { fetchBlob } from './fetch-blob.js';
import { type FileMetadata, fileMetadata } from './file-metadata.js';
import { acquireLock, type Lock } from './lock.js';
import { checkFileName, fileLabel, isCommit } from './names.js';
import { openPartial, type PartialFile } from './partial-file.js';
import { pointTo } from './pointer.js';
import { type DownloadOptions, type HubSession, withSession } from './session.js';
import { checkSpace, makeFolder, writeWhole } from './storage.js';
import { checkBlob, noteVerified } from './verified.js';

/**
 * Downloads `file` of `repo`, or finds it in the cache, and returns its path in the snapshot of its commit. Only a file whose
 * size and hash are right is ever there. Offline it comes from the cache.
 * Throws HubError with `rule` (`file-not-found`, `unauthorized`, `hash-mismatch`, `disk-space`, `not-cached`, …), or the
 * signal's reason.
 */
export function downloadFile(repo: string, file: string, options: DownloadOptions = {}): Promise<string> {
  return withSession(repo, options, async (session) => {
    checkFileName(file);
    const inCache = async () => cachedFile(session, await cachedCommit(session), file);
    if (session.offline) return inCache();
    if (isCommit(session.revision)) {
      const here = await inCache().catch(() => undefined);
      if (here !== undefined) return here;
    }
    return orCached(() => downloadOnline(session, file), inCache);
  });
}

async function downloadOnline(session: HubSession, file: string): Promise<string> {
  const metadata = await fileMetadata(session.client, session.repo, session.revision, file);
  const path = await storeFile(session, file, metadata);
  await writeRef(session, metadata.commit);
  return path;
}

/** Notes which commit the revision stands for today; nothing is written where that is known already. */
export async function writeRef({ revision, paths }: HubSession, commit: string): Promise<void> {
  if (isCommit(revision)) return;
  const known = await readFile(paths.ref(revision), 'utf8').catch(() => '');
  if (known !== commit) await writeWhole(paths.ref(revision), commit);
}

/** Makes sure that the file is in the cache, and returns its path there. */
export async function storeFile(session: HubSession, file: string, metadata: FileMetadata): Promise<string> {
  const { paths, report } = session;
  const path = paths.file(metadata.commit, file);
  report.expect(file, metadata.size);
  report.initiate(file);
  while (!(await isStored(session, metadata))) await storeLocked(session, file, metadata);
  await pointTo(paths.blob(metadata.etag), path, metadata.etag, session.symlinks);
  report.done(file);
  return path;
}

async function isStored({ paths, thorough, client }: HubSession, { etag, size }: FileMetadata): Promise<boolean> {
  return (await checkBlob(paths, etag, { size, thorough, signal: client.signal })) === 'intact';
}

/** Fetches a blob, unless another process has done so while we waited for its lock. */
async function storeLocked(session: HubSession, file: string, metadata: FileMetadata): Promise<void> {
  const { paths, client } = session;
  await makeFolder(dirname(paths.blob(metadata.etag)));
  const lock = await acquireLock(paths.lock(metadata.etag), { signal: client.signal });
  try {
    if (!(await isStored(session, metadata))) await storeBlob(session, file, metadata, lock);
  } finally {
    await lock.release();
  }
}

/** A beginning that an earlier process left, and that turns out wrong, is given one new start. */
async function storeBlob(session: HubSession, file: string, metadata: FileMetadata, lock: Lock): Promise<void> {
  const { paths, client } = session;
  const { etag, size } = metadata;
  const label = fileLabel(session.repo, session.revision, file);
  const partial = await openPartial(paths.partial(etag), etag, size, client.signal);
  let keep = true;
  try {
    await checkSpace(dirname(paths.blob(etag)), size - partial.position, label, session.freeBytes);
    for (let fresh = partial.position === 0; ; fresh = true) {
      await fill(session, file, metadata, partial);
      if (partial.matches()) break;
      if (fresh) throw mismatch(label, etag);
      await partial.restart();
    }
    if (!(await lock.isHeld())) return; // taken over while this process slept: look again who has what
    await partial.publish(paths.blob(etag));
    await noteVerified(paths, etag);
  } catch (error) {
    keep = !(error instanceof HubError && SPOILT.has(error.code));
    throw error;
  } finally {
    await partial.close(keep && partial.position > 0);
  }
}

function fill(session: HubSession, file: string, metadata: FileMetadata, partial: PartialFile): Promise<void> {
  const label = fileLabel(session.repo, session.revision, file);
  const address = resolveUrl(session.client.endpoint, session.repo, metadata.commit, file);
  session.report.download(file);
  session.report.advance(file, partial.position);
  return fetchBlob(session.client, { label, address, size: metadata.size }, partial, (position) =>
    session.report.advance(file, position),
  );
}

const mismatch = (label: string, etag: string): HubError =>
  new HubError({
    file: label,
    code: 'hash-mismatch',
    detail: `the bytes that came do not have the ${etag.length === 64 ? 'sha256' : 'git hash'} ${etag.slice(0, 12)}… that was declared`,
  });

/** After a broken connection or an abort the bytes serve the next try; after these they serve nobody. */
const SPOILT = new Set(['body-too-long', 'size-mismatch', 'hash-mismatch', 'disk-full', 'disk-space']);
