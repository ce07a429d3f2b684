/**
 * The files of a repository for a page: fetched in parts as they are read, checked, and kept by the hash of their contents in the
 * browser's Cache API, so that the next visit, or the next revision with the same weights, needs no download and, if it must, no network.
 */
import { type ByteSource, fromBytes, type ModelFiles } from '../checkpoint/byte-source.js';
import { HubError } from '../errors.js';
import { type OnLoadEvent, type ProgressReport, progressReport } from '../load-events.js';
import {
  bodyChunks,
  bodyInto,
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
import { type CopyPlace, convertedFrom, copyOf, openCopy, weightContents, wholeCopy } from './converted-copy.js';
import { LOADED_FILES, MAX_INFO_BYTES, parseInfo, type RepoFile, type RepoInfo, weightFiles } from './metadata.js';
import {
  checkEndpoint,
  checkFileName,
  checkPinned,
  checkRepoId,
  checkRevision,
  DEFAULT_ENDPOINT,
  fileLabel,
  infoUrl,
  resolveUrl,
} from './names.js';
import { alone, CHECKED, lockManager, openStore, partKey, type Store } from './page-store.js';
import { PART_BYTES, PARTS_AHEAD, partCount, partedSource, partLength } from './remote-files.js';
import { type Sha256, sha256 } from './sha256.js';

export interface BrowserFilesOptions {
  readonly revision?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly token?: string | undefined;
  /** An abort stops the download; what has come stays in the cache, and the next download goes on from there. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnLoadEvent | undefined;
  readonly limits?: Partial<HubLimits> | undefined;
  readonly fetch?: HubFetch | undefined;
  /** The page's `caches` by default; `null` keeps nothing. */
  readonly caches?: Pick<CacheStorage, 'open'> | null | undefined;
  /** Keeps tabs from fetching the same part at once: `navigator.locks` by default, `null` for none. */
  readonly locks?: Pick<LockManager, 'request'> | null | undefined;
}

interface Page {
  readonly repo: string;
  readonly revision: string;
  readonly client: HubClient;
  readonly store: Store;
  readonly report: ProgressReport;
  readonly locks: Pick<LockManager, 'request'> | undefined;
}

/** Files of the Hub that a page keeps. */
export interface CachedFiles extends ModelFiles {
  /** The same files; the weights as an earlier visit has kept them in `format` (any name), where it has. */
  inFormat(format: string): ConvertedFiles;
}

/** Files of the Hub with weights in a format of the page's own: as `model.safetensors`, where they are kept. */
export interface ConvertedFiles extends ModelFiles {
  /** Where `keepConverted` keeps them, if something is to be done there. */
  placeForCopy(): Promise<CopyPlace | undefined>;
}

/**
 * The files of `repo` at a revision, fetched as they are read. A name that the revision lacks opens as undefined.
 * Throws HubError `repo-id`, `revision`, `endpoint` at once; `open` and reading throw `file-name`, `short-body`, `size-mismatch`,
 * `hash-mismatch` (when the last part of a file has come), those of `send` and `statusError`, or the signal's reason.
 */
export function fetchModelFiles(repo: string, options: BrowserFilesOptions = {}): CachedFiles {
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
  const filesIn = (format?: string): ConvertedFiles => filesOf(repo, revision, client, options, format);
  const { label, open } = filesIn();
  return { label, open, inFormat: filesIn };
}

function filesOf(
  repo: string,
  revision: string,
  client: HubClient,
  options: BrowserFilesOptions,
  format: string | undefined,
): ConvertedFiles {
  const start = once(async () => {
    const store = await openStore(options.caches);
    const report = progressReport(repo, options.onProgress);
    const page: Page = { repo, revision, client, store, report, locks: lockManager(options.locks) };
    const info = await revisionInfo(page);
    const finish = async () => {
      report.settle();
      await replaceRevision(page, info);
    };
    const weights = new Set(weightFiles(info.files.map(({ name }) => name)));
    const finishOne = async (name: string) => {
      weights.delete(name);
      if (weights.size === 0) await finish();
    };
    const contents = format === undefined ? undefined : weightContents(info.files);
    const copy = contents === undefined ? '' : copyOf(contents, format!);
    const note = contents === undefined ? undefined : await wholeCopy(store, copy);
    const converted =
      note === undefined ? undefined : openCopy(store, copy, note, countParts(report, note.size, finish));
    for (const { name, size } of info.files) {
      const isRead = LOADED_FILES.has(name) || (converted === undefined && weights.has(name));
      if (isRead) report.expect(name, size ?? 0); // so that the total is right from the start
    }
    return { page, info, finishOne, contents, note, converted };
  });
  const opened = new Map<string, Promise<ByteSource>>();
  return {
    label: fileLabel(repo, revision),
    async open(name): Promise<ByteSource | undefined> {
      checkFileName(name);
      const { page, info, finishOne, converted } = await start();
      if (converted !== undefined && name === CONVERTED) {
        page.report.initiate(name);
        return converted;
      }
      const file = info.files.find((entry) => entry.name === name);
      if (file === undefined) return undefined;
      const forget = () => void opened.delete(name); // a failure is not kept
      const known = opened.get(name);
      const source = known ?? openFile(page, info.commit, file, { finish: () => finishOne(name), forget });
      if (known === undefined) {
        opened.set(name, source);
        source.catch(forget);
      }
      return source;
    },
    async placeForCopy() {
      const { page, contents, note } = await start();
      const { store, locks } = page;
      if (contents === undefined || note?.isAlone === true || !store.isOpen) return undefined;
      return { store, locks, signal: client.signal, weights: contents, format: format! };
    },
  };
}

/** What converted weights open as, whatever the repository's are called. */
const CONVERTED = 'model.safetensors';

/** Reports the parts of converted weights; when all of them were read, `finish` is called. */
function countParts(report: ProgressReport, size: number, finish: () => Promise<void>) {
  const arrived = new Set<number>();
  let loaded = 0;
  report.expect(CONVERTED, size);
  return async (index: number, bytes: number): Promise<void> => {
    if (arrived.has(index)) return;
    arrived.add(index);
    loaded += bytes;
    if (loaded < size) return report.advance(CONVERTED, loaded);
    await finish();
    report.done(CONVERTED);
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

/** What a file is kept under: the hash of its contents; where the Hub does not say one, its place. */
const contentKey = (repo: string, commit: string, { name, etag }: RepoFile): string =>
  etag ?? `${repo}/${commit}/${encodeURIComponent(name)}`;

/** `current` is complete here as far as weights go (or the first that was met); `next` is being fetched. */
const listingKey = ({ repo, revision, client }: Page, which: 'current' | 'next'): string =>
  `${which}/${encodeURIComponent(client.endpoint)}/${repo}/${encodeURIComponent(revision)}`;

/** A page is not told why a request failed, so a lost connection may mean that there is no network at all. */
const isLost = (error: unknown): boolean => error instanceof HubError && error.code === 'connection-lost';

/** The network first, since a branch may move; the copy of an earlier visit where the Hub cannot be reached, is busy or broken. */
async function revisionInfo(page: Page): Promise<RepoInfo> {
  const { repo, revision, client, store } = page;
  const address = infoUrl(client.endpoint, repo, revision);
  const label = fileLabel(repo, revision);
  const current = await keptListing(page, 'current');
  try {
    const ask = async () => {
      const { response, url } = await get(client, address, label);
      return bodyText(response, url, MAX_INFO_BYTES, client.limits.idleMs, client.signal);
    };
    const again = (error: unknown): error is HubError => isTransient(error) && !isLost(error) && current === undefined;
    const text = await withRetries(client, ask, { again });
    const info = parseInfo(text, label);
    checkPinned(revision, info.commit, label);
    if (current?.commit !== info.commit) {
      await store.put(listingKey(page, current === undefined ? 'current' : 'next'), text);
    }
    return info;
  } catch (error) {
    if (current === undefined || !(isAbsent(error) || isTransient(error))) throw error;
    return current;
  }
}

async function keptListing(page: Page, which: 'current' | 'next'): Promise<RepoInfo | undefined> {
  try {
    const text = await (await page.store.get(listingKey(page, which)))?.text();
    return text === undefined ? undefined : parseInfo(text, page.repo);
  } catch {
    return undefined;
  }
}

/** The weights of a revision are here: it takes the place of the one before, and what only that one needed goes. */
async function replaceRevision(page: Page, info: RepoInfo): Promise<void> {
  const { store } = page;
  const next = await (await store.get(listingKey(page, 'next')))?.text().catch(() => undefined);
  if (next === undefined || parseInfo(next, page.repo).commit !== info.commit) return;
  await store.put(listingKey(page, 'current'), next);
  await store.delete(listingKey(page, 'next'));
  const keys = await store.keys();
  const needed = new Set<string>();
  for (const key of keys.filter((one) => /^(?:current|next)\//.test(one))) {
    const [, , owner = '', name = ''] = key.split('/');
    const text = await (await store.get(key))?.text().catch(() => undefined);
    if (text === undefined) return; // then nobody knows what it needs
    const { commit, files } = parseInfo(text, key);
    const repos = [`${owner}/${name}`, owner]; // a repository may have no owner
    for (const file of files) for (const repo of repos) needed.add(contentKey(repo, commit, file));
    const weights = weightContents(files);
    if (weights !== undefined) needed.add(weights.name);
  }
  for (const key of keys) {
    const content = /^parts\/(.*)\/[^/]+$/.exec(key)?.[1] ?? convertedFrom(key);
    if (content !== undefined && !needed.has(content)) await store.delete(key);
  }
}

async function get(
  client: HubClient,
  address: string,
  label: string,
  headers: Record<string, string> = {},
): Promise<{ response: Response; url: URL }> {
  const answer = await send(client, 'GET', address, headers);
  if (answer.response.ok) return answer;
  await discard(answer.response);
  throw statusError(answer.response, label, client.endpoint, client.token);
}

/** What happens at the end of a file: it is here and is what the Hub declared, or it is not. */
interface Ends {
  finish(): Promise<void>;
  forget(): void;
}

async function openFile(page: Page, commit: string, file: RepoFile, ends: Ends): Promise<ByteSource> {
  const { repo, client, report } = page;
  const address = resolveUrl(client.endpoint, repo, commit, file.name);
  report.initiate(file.name);
  if (file.size === undefined) return withRetries(client, () => fetchWhole(page, address, file.name, ends));
  const parts = fileParts(page, address, { ...file, size: file.size }, contentKey(repo, commit, file), ends);
  if (partCount(file.size) <= 1) return fromBytes(await parts(0)); // small files are fetched, and checked, when they are opened
  return partedSource(file.size, parts);
}

/** Of a mirror that declares no sizes: nothing to check, nothing to divide, nothing that could be kept. */
async function fetchWhole(page: Page, address: string, name: string, { finish }: Ends): Promise<Blob> {
  const { client, report } = page;
  const { response, url } = await get(client, address, fileLabel(page.repo, page.revision, name));
  report.download(name);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for await (const chunk of bodyChunks(response, url, client.limits.idleMs, client.signal)) {
    chunks.push(chunk as Uint8Array<ArrayBuffer>);
  }
  await finish();
  report.done(name);
  return new Blob(chunks);
}

type KnownFile = RepoFile & { readonly size: number };

/** Brings the parts of a file, from the store or from the network, and checks the whole when all have come. */
function fileParts(
  page: Page,
  address: string,
  file: KnownFile,
  content: string,
  { finish, forget }: Ends,
): (index: number, spare?: ArrayBuffer) => Promise<Uint8Array<ArrayBuffer>> {
  const { store, report, client } = page;
  const { name, size } = file;
  const label = fileLabel(page.repo, page.revision, name);
  const count = partCount(size);
  const keyOf = (index: number) => partKey(content, index);
  const arrived = new Set<number>();
  const held = new Map<number, Uint8Array<ArrayBuffer>>(); // of a server that knows no ranges, where nothing can be kept
  const check = contentCheck(file);
  let isFetched = false;
  let ending: Promise<void> | undefined; // when all parts have come; for who reads on after a failure, too: the file must be opened again
  let loaded = 0;

  const stored = async (index: number, spare?: ArrayBuffer): Promise<Uint8Array<ArrayBuffer> | undefined> =>
    held.get(index) ?? (await store.read(keyOf(index), partLength(size, index), spare));
  const fetched = async (index: number, spare?: ArrayBuffer): Promise<Uint8Array<ArrayBuffer>> => {
    if (!isFetched) report.download(name);
    isFetched = true;
    const before = loaded;
    const onBytes = (n: number) => report.advance(name, before + n);
    const bytes = await withRetries(client, async () => {
      let wanted: Uint8Array<ArrayBuffer> | undefined;
      for await (const { at, part } of fetchParts({ client, address, label, size, index, spare, onBytes })) {
        if (at === index) wanted = part;
        if (!(await store.put(keyOf(at), part)) && at !== index) held.set(at, part);
      }
      if (held.size > 0) held.set(index, wanted!);
      return wanted!;
    });
    return bytes;
  };
  /** One tab fetches a part, the others find it in the store. */
  const inTurn = (index: number, spare?: ArrayBuffer): Promise<Uint8Array<ArrayBuffer>> => {
    if (!store.isOpen) return fetched(index, spare);
    const work = async () => (await stored(index, spare)) ?? fetched(index, spare);
    return alone(page.locks, keyOf(index), client.signal, work);
  };
  /** Every part has come. Those that the check has not seen yet, because they came out of turn, are in the store. */
  const checkAll = async () => {
    for (let index = check.next; index < count; index++) {
      const bytes = await stored(index);
      if (bytes === undefined) return; // nothing is kept here, and the parts came out of turn: their sizes were right
      check.add(index, bytes);
    }
    if (await check.matches()) return void (await store.put(keyOf(CHECKED), 'checked'));
    held.clear();
    for (let index = CHECKED; index < count; index++) await store.delete(keyOf(index));
    forget();
    const detail = `the bytes that came do not have the hash ${file.etag?.slice(0, 12)}… that was declared`;
    throw new HubError({ file: label, code: 'hash-mismatch', detail });
  };

  const end = async (isChecked: boolean) => {
    if (!isChecked || isFetched) await checkAll();
    await finish();
    report.done(name);
  };
  const checkedBefore = once(async () => (await store.get(keyOf(CHECKED))) !== undefined);
  return async (index, given) => {
    const isOurs = [...held.values(), ...check.waiting()].some(({ buffer }) => buffer === given);
    const spare = isOurs ? undefined : given;
    client.signal?.throwIfAborted();
    await ending;
    const isChecked = await checkedBefore();
    const bytes = (await stored(index, spare)) ?? (await inTurn(index, spare));
    if (!arrived.has(index)) {
      arrived.add(index);
      loaded += bytes.length;
      if (!isChecked) check.add(index, bytes);
      if (arrived.size < count) report.advance(name, loaded);
    }
    if (arrived.size >= count) {
      ending ??= end(isChecked);
      await ending;
    }
    return bytes;
  };
}

interface ContentCheck {
  /** The part that it waits for. */
  readonly next: number;
  /** Takes a part that is next, or one of those that are soon. */
  add(index: number, bytes: Uint8Array<ArrayBuffer>): void;
  matches(): Promise<boolean>;
  /** Parts that it still needs. */
  waiting(): Iterable<Uint8Array<ArrayBuffer>>;
}

/** Large files are named by their sha256, plain ones by git's sha1, for which SubtleCrypto wants the whole (some megabytes). */
function contentCheck({ etag, size }: KnownFile): ContentCheck {
  let next = 0;
  const hash: Sha256 | undefined = etag?.length === 64 ? sha256() : undefined;
  const plain: Uint8Array<ArrayBuffer>[] = [];
  const early = new Map<number, Uint8Array<ArrayBuffer>>();
  return {
    get next() {
      return next;
    },
    add(index, bytes) {
      if (index < next || index > next + PARTS_AHEAD) return;
      early.set(index, bytes);
      for (let part = early.get(next); part !== undefined; part = early.get(next)) {
        early.delete(next++);
        if (hash !== undefined) hash.update(part);
        else if (etag !== undefined && size <= MAX_PLAIN_BYTES) plain.push(part);
      }
    },
    waiting: () => [...early.values(), ...plain],
    async matches() {
      if (hash !== undefined) return hash.digest() === etag;
      const subtle = (globalThis.crypto as Crypto | undefined)?.subtle as SubtleCrypto | undefined; // not in insecure pages
      if (etag === undefined || size > MAX_PLAIN_BYTES || subtle === undefined) return true;
      const whole = await new Blob([`blob ${size}\0`, ...plain]).arrayBuffer();
      const digest = new Uint8Array(await subtle.digest('SHA-1', whole));
      return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('') === etag;
    },
  };
}

/** The Hub keeps larger files as large ones, with a sha256. */
const MAX_PLAIN_BYTES = 64 << 20;

interface PartRequest {
  readonly client: HubClient;
  readonly address: string;
  readonly label: string;
  readonly size: number;
  readonly index: number;
  /** Memory for it; of another length (a buffer that was given away has none) it is left alone. */
  readonly spare: ArrayBuffer | undefined;
  /** Called with the bytes that have come. */
  onBytes(loaded: number): void;
}

/** The part that is asked for; from a server that knows no ranges all of them, in turn. */
async function* fetchParts({ client, address, label, size, index, spare, onBytes }: PartRequest): AsyncGenerator<{
  readonly at: number;
  readonly part: Uint8Array<ArrayBuffer>;
}> {
  const start = index * PART_BYTES;
  const end = start + partLength(size, index);
  const range = `bytes=${start}-${end - 1}`;
  const { response, url } = await get(client, address, label, end - start === size ? {} : { range });
  const fail = (code: string, detail: string) => new HubError({ file: label, code, detail });
  const place = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get('content-range') ?? ''); // servers may hide it from pages
  const isWrong = place !== null && (Number(place[1]) !== start || Number(place[3]) !== size);
  if (isWrong || (response.status !== 206 && response.status !== 200)) {
    await discard(response);
    throw fail('range-refused', `asked for ${range} of ${size}, got ${response.status}`);
  }
  if (response.status === 206) {
    const empty = spare?.byteLength === end - start ? spare : new ArrayBuffer(end - start);
    const { buffer, filled } = await bodyInto(response, url, empty, client.limits.idleMs, client.signal, onBytes);
    if (filled < end - start) throw fail('short-body', `${start + filled} of ${size} bytes came`);
    return yield { at: index, part: new Uint8Array(buffer) };
  }
  let at = 0;
  const last = Math.max(0, partCount(size) - 1);
  let part = new Uint8Array(partLength(size, at));
  let [filled, loaded] = [0, 0];
  for await (const chunk of bodyChunks(response, url, client.limits.idleMs, client.signal)) {
    for (let used = 0; used < chunk.length; ) {
      if (filled === part.length) throw fail('body-too-long', `more than the declared ${size} bytes came`);
      const piece = chunk.subarray(used, used + part.length - filled);
      part.set(piece, filled);
      filled += piece.length;
      used += piece.length;
      if (filled < part.length || at === last) continue;
      yield { at, part };
      at++;
      [part, filled] = [new Uint8Array(partLength(size, at)), 0];
    }
    loaded += chunk.length;
    onBytes(loaded);
  }
  if (at < last || filled < part.length) throw fail('short-body', `${at * PART_BYTES + filled} of ${size} bytes came`);
  yield { at, part };
}
