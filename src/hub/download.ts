/** One file of a repository into the cache: looked for, locked, fetched, verified, named, pointed to; in this order. */
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HubError, quote } from '../errors.js';
import { type OnLoadEvent, type ProgressReport, progressReport } from '../load-events.js';
import { sweepTemporaries } from '../platform/write-whole.js';
import {
  acquireLock,
  type BlobHash,
  blobHash,
  type CacheView,
  cachedCommit,
  cachedFile,
  checkBlob,
  checkSpace,
  copyAdvice,
  freeBytes,
  isHash,
  isMissing,
  type Lock,
  makeFolder,
  noteVerified,
  openPlain,
  pointTo,
  readPieces,
  readSmall,
  repoPaths,
  storageError,
  writeSmall,
} from './cache.js';
import {
  bodyChunks,
  discard,
  type HubClient,
  type HubFetch,
  type HubLimits,
  isAbsent,
  isTransient,
  send,
  statusError,
  withRetries,
} from './client.js';
import {
  type EnvironmentVariables,
  endpointFrom,
  expandPath,
  hubCache,
  isOffline,
  limitsFrom,
  symlinksDisabled,
  tokenFrom,
} from './environment.js';
import { type FileMetadata, fileMetadata } from './metadata.js';
import { checkFileName, checkRepoId, checkRevision, fileLabel, isCommit, resolveUrl } from './names.js';
import { nodeTransport } from './node-transport.js';

/** Options of all downloads. What is not given comes from the environment (see `environment.ts`). */
export interface DownloadOptions {
  /** Branch, tag or commit; `main` by default. A full commit that is in the cache needs no network. */
  readonly revision?: string | undefined;
  /** The cache folder (`…/huggingface/hub`); `~` and `$NAME` are expanded as in the variables. */
  readonly cacheDir?: string | undefined;
  /** `false` sends none, even if the environment has one. */
  readonly token?: string | false | undefined;
  /** Another Hub or a mirror. */
  readonly endpoint?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnLoadEvent | undefined;
  /** Use what the cache has, without any request. */
  readonly localFilesOnly?: boolean | undefined;
  /** Hash every cached file again, also those known to be unchanged since they were right. */
  readonly verify?: boolean | undefined;
  readonly limits?: Partial<HubLimits> | undefined;
  /** Instead of `process.env`. */
  readonly env?: EnvironmentVariables | undefined;
  /** Instead of our own transport; then the proxy variables are its business. */
  readonly fetch?: HubFetch | undefined;
  /** How many bytes a folder can take; the file system says by default. */
  readonly freeBytes?: ((folder: string) => Promise<number | undefined>) | undefined;
}

/** What all steps of one call share. */
export interface HubSession extends CacheView {
  readonly client: HubClient;
  readonly offline: boolean;
  readonly symlinks: boolean;
  readonly report: ProgressReport;
  readonly freeBytes: (folder: string) => Promise<number | undefined>;
  /** Closes kept connections. */
  close(): void;
}

/** Throws HubError `repo-id`, `revision`, `endpoint`, `token`. */
export async function openSession(repo: string, options: DownloadOptions): Promise<HubSession> {
  const env = options.env ?? process.env;
  checkRepoId(repo);
  const revision = checkRevision(options.revision ?? 'main');
  const endpoint = endpointFrom(env, options.endpoint);
  const token = await tokenFrom(env, options.token);
  const transport = options.fetch === undefined ? nodeTransport(env) : { fetch: options.fetch, close: () => undefined };
  return {
    repo,
    revision,
    client: {
      fetch: transport.fetch,
      endpoint,
      token,
      signal: options.signal,
      limits: limitsFrom(env, options.limits),
      redirects: 'by-hand',
    },
    paths: repoPaths(options.cacheDir === undefined ? hubCache(env) : expandPath(options.cacheDir, env), repo),
    signal: options.signal,
    offline: options.localFilesOnly === true || isOffline(env),
    symlinks: !symlinksDisabled(env),
    thorough: options.verify === true,
    report: progressReport(repo, options.onProgress),
    freeBytes: options.freeBytes ?? freeBytes,
    close: transport.close,
  };
}

/** Runs `body` with a session, and closes it whatever happens. */
export async function withSession<T>(
  repo: string,
  options: DownloadOptions,
  body: (session: HubSession) => Promise<T>,
): Promise<T> {
  const session = await openSession(repo, options);
  try {
    session.signal?.throwIfAborted();
    return await body(session);
  } finally {
    session.close();
  }
}

/**
 * Downloads `file` of `repo`, or finds it in the cache, and returns its path in the snapshot of its commit. Only a file whose
 * size and hash are right is ever there. Offline it comes from the cache.
 * Throws HubError with `code` (`file-not-found`, `unauthorized`, `hash-mismatch`, `disk-space`, `not-cached`, …), or the
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
    return orCached(session, () => downloadOnline(session, file), inCache);
  });
}

/**
 * What `online` gives; where no server can be reached, what `inCache` gives, and if that is nothing, why the server was not
 * reached.
 */
export async function orCached<T>(view: CacheView, online: () => Promise<T>, inCache: () => Promise<T>): Promise<T> {
  try {
    return await online();
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return inCache().catch((second: unknown) => {
      if (!(second instanceof HubError) || second.code !== 'not-cached') throw second;
      const { file, code, detail } = error;
      throw new HubError({ file, code, detail: `${detail}; or ${copyAdvice(view.paths)}`, cause: error });
    });
  }
}

async function downloadOnline(session: HubSession, file: string): Promise<string> {
  const metadata = await fileMetadata(session.client, session.repo, session.revision, file);
  const path = await storeFile(session, file, metadata);
  await writeRef(session, metadata.commit);
  return path;
}

/** Notes which commit the revision stands for today; nothing is written where that is known already. */
export async function writeRef({ revision, paths }: CacheView, commit: string): Promise<void> {
  if (isCommit(revision)) return;
  const known = await readSmall(paths.ref(revision)).catch(() => '');
  if (known !== commit) await writeSmall(paths, paths.ref(revision), commit);
}

/** Makes sure that the file is in the cache, and returns its path there. */
export async function storeFile(session: HubSession, file: string, metadata: FileMetadata): Promise<string> {
  const { paths, report } = session;
  const path = paths.file(metadata.commit, file);
  report.expect(file, metadata.size);
  report.initiate(file);
  while (!(await isStored(session, metadata))) await storeLocked(session, file, metadata);
  await pointTo(paths, metadata.etag, path, session.symlinks);
  report.done(file);
  return path;
}

async function isStored({ paths, thorough, signal }: CacheView, { etag, size }: FileMetadata): Promise<boolean> {
  return (await checkBlob(paths, etag, { size, thorough, signal })) === 'intact';
}

/** Fetches a blob, unless another process has done so while we waited for its lock. */
async function storeLocked(session: HubSession, file: string, metadata: FileMetadata): Promise<void> {
  const { paths, signal } = session;
  await makeFolder(dirname(paths.blob(metadata.etag)));
  const lock = await acquireLock(paths.lock(metadata.etag), { signal });
  try {
    await sweepTemporaries(paths.locks);
    if (!(await isStored(session, metadata))) await storeBlob(session, file, metadata, lock);
  } finally {
    await lock.release();
  }
}

/** A beginning that an earlier process left, and that turns out wrong, is given one new start. */
async function storeBlob(session: HubSession, file: string, metadata: FileMetadata, lock: Lock): Promise<void> {
  const { paths, signal } = session;
  const { etag, size } = metadata;
  const label = fileLabel(session.repo, session.revision, file);
  const partial = await openPartial(paths.partial(etag), etag, size, signal);
  let keep = true;
  try {
    await checkSpace(dirname(paths.blob(etag)), size - partial.position, label, session.freeBytes);
    for (let fresh = partial.position === 0; ; fresh = true) {
      await fill(session, file, metadata, partial);
      if (partial.matches()) break;
      if (fresh) throw mismatch(label, etag);
      await partial.restart();
    }
    if (!(await lock.isHeld())) return; // reclaimed by another while this process slept: look again who has what
    await partial.publish(paths.blob(etag));
    await noteVerified(paths, etag);
  } catch (error) {
    keep = !(error instanceof HubError && USELESS_AFTER.has(error.code));
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
const USELESS_AFTER = new Set(['body-too-long', 'size-mismatch', 'hash-mismatch', 'disk-full', 'disk-space']);

/** What is fetched: how to name it in messages, where it is, and how long it is. */
export interface BlobRequest {
  readonly label: string;
  readonly address: string;
  readonly size: number;
}

/**
 * Fetches until `partial` holds `size` bytes: each request asks for what is missing; an answer that is not exactly that starts
 * from byte 0. Nothing past `size` is ever written.
 * Throws HubError `size-mismatch`, `body-too-long`, `short-body`, `range-refused`, those of `statusError` and of `send`.
 */
export async function fetchBlob(
  client: HubClient,
  request: BlobRequest,
  partial: PartialFile,
  onBytes: (position: number) => void,
): Promise<void> {
  let seen: string | undefined; // the strong etag of the storage itself, which is not the Hub's name for the content
  const attempt = async () => {
    const { response, url } = await send(client, 'GET', request.address, {
      'accept-encoding': 'identity',
      ...(partial.position > 0 ? { range: `bytes=${partial.position}-` } : {}),
      ...(partial.position > 0 && seen !== undefined ? { 'if-range': seen } : {}),
    });
    try {
      await acceptAnswer(client, request, partial, response, seen);
    } catch (error) {
      await discard(response);
      throw error;
    }
    seen = strongEtag(response);
    for await (const chunk of bodyChunks(response, url, client.limits.idleMs, client.signal)) {
      if (partial.position + chunk.length > request.size) {
        throw new HubError({
          file: request.label,
          code: 'body-too-long',
          detail: `the server sent more than the declared ${request.size} bytes`,
        });
      }
      await partial.write(chunk);
      onBytes(partial.position);
    }
    if (partial.position < request.size) {
      const detail = `the body ended after ${partial.position} of ${request.size} bytes`;
      throw new HubError({ file: request.label, code: 'short-body', detail });
    }
  };
  if (partial.position === request.size) return;
  await withRetries(client, attempt, {
    again: (error): error is HubError => isTransient(error) || isAbsent(error),
    arrived: () => partial.position,
  });
}

const strongEtag = (response: Response): string | undefined => {
  const etag = response.headers.get('etag');
  return etag?.startsWith('"') ? etag : undefined;
};

/** Checks the headers of an answer against what was asked, and empties the partial file where it cannot be continued. */
async function acceptAnswer(
  client: HubClient,
  { label, size }: BlobRequest,
  partial: PartialFile,
  response: Response,
  seen: string | undefined,
): Promise<void> {
  const { status, headers } = response;
  const encoded = !/^(?:identity)?$/i.test(headers.get('content-encoding') ?? '');
  if (status === 200) {
    const length = headers.get('content-length');
    if (length !== null && !encoded && Number(length) !== size) {
      const detail = `the server sends ${quote(length)} bytes, but declared ${size}`;
      throw new HubError({ file: label, code: 'size-mismatch', detail });
    }
    if (partial.position > 0) await partial.restart();
    return;
  }
  if (status === 206 || status === 416) {
    const same = seen === undefined || (strongEtag(response) ?? seen) === seen;
    const range = headers.get('content-range') ?? '';
    if (status === 206 && !encoded && same && partial.position > 0 && continues(range, partial.position, size)) return;
    await partial.restart();
    const detail = `the server cannot continue the download (${status}, Content-Range ${quote(range)})`;
    throw new HubError({ file: label, code: 'range-refused', detail });
  }
  throw statusError(response, label, client.endpoint, client.token);
}

function continues(range: string, position: number, size: number): boolean {
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? [];
  if (first === undefined || last === undefined) return false;
  return Number(first) === position && Number(last) < size && (total === '*' || Number(total) === size);
}

/** The bytes of a blob that have arrived so far, and their hash. */
export interface PartialFile {
  /** Bytes that are here: where the next chunk goes. */
  readonly position: number;
  write(chunk: Uint8Array): Promise<void>;
  /** Forgets all bytes. */
  restart(): Promise<void>;
  /** Are all bytes together what the name of the blob promises? Call it once, at the end. */
  matches(): boolean;
  /** Brings the bytes to the disk and gives the file its final name, in one step. */
  publish(path: string): Promise<void>;
  /** Closes the file and keeps it for later, or removes it. */
  close(keep: boolean): Promise<void>;
}

/** Opens the partial file, or creates it. Throws as `openPlain`. */
const openOrCreate = (path: string): Promise<FileHandle> =>
  openPlain(path, constants.O_RDWR).catch((error) => {
    if (!isMissing(error)) throw error;
    return open(path, 'wx+', 0o644);
  });

/**
 * The partial file of a blob. A process that was killed leaves a good beginning behind; the next one hashes it and goes on from there.
 * Bytes are written at their own place, so that even two writers write the same file. What cannot be judged by a hash in the end is not
 * continued. Throws HubError `not-a-plain-file` and those of `storageError`.
 */
export async function openPartial(
  path: string,
  etag: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<PartialFile> {
  const guard = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      throw storageError(error, path);
    });
  const file = await guard(openOrCreate(path));
  let position = 0;
  let hash: BlobHash = blobHash(etag, size);
  let isOpen = true;

  const partial: PartialFile = {
    get position() {
      return position;
    },
    async write(chunk) {
      for (let done = 0; done < chunk.length; ) {
        const rest = chunk.length - done;
        done += (await guard(file.write(chunk, done, rest, position + done))).bytesWritten;
      }
      hash.update(chunk);
      position += chunk.length;
    },
    async restart() {
      await guard(file.truncate(0));
      [position, hash] = [0, blobHash(etag, size)];
    },
    matches: () => hash.matches(),
    async publish(to) {
      await guard(file.sync());
      await partial.close(true);
      await guard(rename(path, to));
    },
    async close(keep) {
      if (isOpen) await file.close();
      isOpen = false;
      if (!keep) await rm(path, { force: true });
    },
  };

  try {
    const stats = await guard(file.stat());
    if (stats.size > size || (stats.size > 0 && !isHash(etag))) await partial.restart();
    else if (stats.size > 0) {
      await readPieces(
        file,
        (piece) => {
          hash.update(piece);
          position += piece.length;
        },
        signal,
      );
    }
    return partial;
  } catch (error) {
    await partial.close(true);
    throw storageError(error, path);
  }
}
