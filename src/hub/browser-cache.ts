/**
 * The files of a repository for a page: fetched when they are opened, checked, and kept in the browser's Cache API, so that the
 * next visit needs no download and, if it must, no network.
 */
import type { ByteSource, ModelFiles } from '../checkpoint/byte-source.js';
import { HubError } from '../errors.js';
import { type OnLoadEvent, type ProgressReport, progressReport } from '../load-events.js';
import {
  bodyChunks,
  bodyText,
  DEFAULT_LIMITS,
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
import { parseInfo, type RepoFile, type RepoInfo } from './metadata.js';
import {
  checkEndpoint,
  checkFileName,
  checkRepoId,
  checkRevision,
  DEFAULT_ENDPOINT,
  fileLabel,
  infoUrl,
  resolveUrl,
} from './names.js';

export interface BrowserFilesOptions {
  readonly revision?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly token?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnLoadEvent | undefined;
  readonly limits?: Partial<HubLimits> | undefined;
  readonly fetch?: HubFetch | undefined;
  /** The page's `caches` by default; `null` keeps nothing. */
  readonly caches?: Pick<CacheStorage, 'open'> | null | undefined;
  /** Larger files are checked by size alone: SubtleCrypto hashes only what is in memory as one piece. 1 GiB by default. */
  readonly maxHashBytes?: number | undefined;
}

interface Page {
  readonly repo: string;
  readonly revision: string;
  readonly client: HubClient;
  readonly cache: Cache | undefined;
  readonly report: ProgressReport;
  readonly maxHashBytes: number;
}

const CACHE_NAME = 'generative-image2text';
const MAX_INFO_BYTES = 32 << 20;

/**
 * The files of `repo` at a revision, fetched on `open`. A name that the revision lacks opens as undefined.
 * Throws HubError `repo-id`, `revision`, `endpoint` at once; `open` throws `file-name`, `hash-mismatch`, `size-mismatch`,
 * those of `send` and `statusError`, or the signal's reason.
 */
export function fetchModelFiles(repo: string, options: BrowserFilesOptions = {}): ModelFiles {
  checkRepoId(repo);
  const revision = checkRevision(options.revision ?? 'main');
  const client: HubClient = {
    fetch: options.fetch ?? ((address, init) => fetch(address, init)),
    endpoint: checkEndpoint(options.endpoint ?? DEFAULT_ENDPOINT),
    token: options.token,
    signal: options.signal,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    redirects: 'by-browser',
  };
  const report = progressReport(repo, options.onProgress);
  const maxHashBytes = options.maxHashBytes ?? 1 << 30;
  const start = once(async () => {
    const page: Page = { repo, revision, client, cache: await openCache(options.caches), report, maxHashBytes };
    return { page, info: await revisionInfo(page) };
  });
  const opened = new Map<string, () => Promise<Blob>>();
  return {
    label: fileLabel(repo, revision),
    async open(name): Promise<ByteSource | undefined> {
      checkFileName(name);
      const { page, info } = await start();
      const file = info.files.find((entry) => entry.name === name);
      if (file === undefined) return undefined;
      if (!opened.has(name))
        opened.set(
          name,
          once(() => openFile(page, info.commit, file)),
        );
      return opened.get(name)!();
    },
  };
}

/** Runs `make` at the first call and keeps its result; a failure is not kept. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}

/** Pages that are not served securely have no cache, and some browsers forbid it in private windows. */
async function openCache(caches: BrowserFilesOptions['caches']): Promise<Cache | undefined> {
  const storage = caches === undefined ? globalThis.caches : caches;
  return storage?.open(CACHE_NAME).catch(() => undefined);
}

/** A page is not told why a request failed, so a lost connection may mean that there is no network at all. */
const isLost = (error: unknown): boolean => error instanceof HubError && error.code === 'connection-lost';

/** The network first, since a branch may move; the copy of the last visit where there is none. */
async function revisionInfo({ repo, revision, client, cache }: Page): Promise<RepoInfo> {
  const address = infoUrl(client.endpoint, repo, revision);
  const label = fileLabel(repo, revision);
  try {
    const ask = async () => {
      const { response, url } = await get(client, address, label);
      return bodyText(response, url, MAX_INFO_BYTES, client.limits.idleMs, client.signal);
    };
    const text = await withRetries(client, ask, {
      again: (error): error is HubError => isTransient(error) && !isLost(error),
    });
    const info = parseInfo(text, label);
    await cache?.put(address, new Response(text)).catch(() => undefined);
    return info;
  } catch (error) {
    const kept = isAbsent(error) || isLost(error) ? await cache?.match(address) : undefined;
    if (kept === undefined) throw error;
    return parseInfo(await kept.text(), label);
  }
}

async function get(client: HubClient, address: string, label: string): Promise<{ response: Response; url: URL }> {
  const answer = await send(client, 'GET', address);
  if (answer.response.ok) return answer;
  await discard(answer.response);
  throw statusError(answer.response, label, client.endpoint, client.token);
}

/** From the cache if it is there with its whole size, else from the network, and then into the cache. */
async function openFile(page: Page, commit: string, file: RepoFile): Promise<Blob> {
  const { repo, client, cache, report } = page;
  const address = resolveUrl(client.endpoint, repo, commit, file.name);
  report.expect(file.name, file.size ?? 0);
  report.initiate(file.name);
  const kept = await (await cache?.match(address))?.blob();
  const whole = kept !== undefined && (file.size === undefined || kept.size === file.size);
  const blob = whole ? kept : await withRetries(client, () => fetchFile(page, address, file));
  if (!whole) {
    await cache?.put(address, new Response(blob)).catch(() => undefined); // over quota: usable now, fetched again next time
  }
  report.done(file.name);
  return blob;
}

async function fetchFile(page: Page, address: string, { name, size, etag }: RepoFile): Promise<Blob> {
  const { client, report } = page;
  const label = fileLabel(page.repo, page.revision, name);
  const { response, url } = await get(client, address, label);
  report.download(name);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let loaded = 0;
  for await (const chunk of bodyChunks(response, url, client.limits.idleMs, client.signal)) {
    loaded += chunk.length;
    if (size !== undefined && loaded > size) {
      throw new HubError({ file: label, code: 'body-too-long', detail: `more than the declared ${size} bytes came` });
    }
    chunks.push(chunk as Uint8Array<ArrayBuffer>);
    report.advance(name, loaded);
  }
  if (size !== undefined && loaded < size) {
    throw new HubError({ file: label, code: 'short-body', detail: `${loaded} of ${size} bytes came` });
  }
  const blob = new Blob(chunks);
  if (etag !== undefined && blob.size <= page.maxHashBytes) await checkHash(blob, etag, label);
  return blob;
}

/** Large files are named by their sha256, plain ones by git's sha1. A page that is not served securely can compute neither. */
async function checkHash(blob: Blob, etag: string, file: string): Promise<void> {
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) return;
  const [algorithm, content] =
    etag.length === 64 ? ['SHA-256', blob] : ['SHA-1', new Blob([`blob ${blob.size}\0`, blob])];
  const digest = new Uint8Array(await subtle.digest(algorithm, await content.arrayBuffer()));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (found === etag) return;
  const detail = `the bytes that came do not have the hash ${etag.slice(0, 12)}… that was declared`;
  throw new HubError({ file, code: 'hash-mismatch', detail });
}
