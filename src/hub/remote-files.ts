/** Files on any web server: a folder beside the page, or one file read in parts. Runs wherever `fetch` runs. */

import type { ByteSource, ModelFiles } from '../checkpoint/byte-source.js';
import { HubError, quote } from '../errors.js';
import { type OnLoadEvent, type ProgressReport, progressReport } from '../load-events.js';
import {
  bodyChunks,
  bodyInto,
  DEFAULT_LIMITS,
  discard,
  type HubClient,
  type HubFetch,
  type HubLimits,
  send,
  statusError,
  withRetries,
} from './client.js';
import { checkFileName, originOf, publicUrl } from './names.js';

export interface FetchFolderOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnLoadEvent | undefined;
  readonly fetch?: HubFetch | undefined;
  readonly limits?: Partial<HubLimits> | undefined;
}

/**
 * The files of a folder on a web server. Where the server knows ranges a large file comes in parts as they are read, otherwise whole when
 * it is opened. A name that the server does not have opens as undefined. In a page `folder` may be relative to the page or worker, and have
 * any scheme that its `fetch` takes. Nothing is kept but what the browser's own HTTP cache keeps.
 *
 * @throws HubError `address` at once; from `open` and from reading `file-name`, `short-body`, `file-changed`, those of `send` and
 *   `statusError`, or the signal's reason.
 */
export function fetchFolder(folder: string | URL, options: FetchFolderOptions = {}): ModelFiles {
  const base = folderUrl(folder);
  const client: HubClient = {
    fetch: options.fetch ?? ((address, init) => fetch(address, init)),
    endpoint: originOf(base),
    token: undefined,
    signal: options.signal,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    redirects: 'by-browser',
  };
  const label = publicUrl(base);
  const report = progressReport(label, options.onProgress);
  return {
    label,
    async open(name) {
      const url = new URL(base);
      url.pathname += checkFileName(name).split('/').map(encodeURIComponent).join('/');
      return openInFolder({ client, address: url.href, name, report });
    },
  };
}

/** Its path ends in a slash; a query (some servers want a key) stays. */
function folderUrl(folder: string | URL): URL {
  const { location } = globalThis as { location?: { href: string } };
  const url = URL.canParse(folder, location?.href) ? new URL(folder, location?.href) : undefined;
  const isFolder = url?.pathname.startsWith('/') && !/^(?:file|javascript):$/.test(url.protocol); // not `data:` and the like
  if (url === undefined || !isFolder) {
    const detail = `${quote(String(folder).split('?')[0]!)} is not the address of a folder that fetch takes`;
    throw new HubError({ path: 'folder', code: 'address', detail });
  }
  url.hash = '';
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

interface FolderFile {
  readonly client: HubClient;
  readonly address: string;
  readonly name: string;
  readonly report: ProgressReport;
}

async function openInFolder(file: FolderFile): Promise<ByteSource | undefined> {
  const { client, address, name, report } = file;
  const first = await withRetries(client, () => firstPart(file));
  if (first === undefined || first instanceof Blob) return first;
  const { total, etag } = first;
  const arrived = new Map<number, number>([[0, first.bytes.length]]);
  const arrive = (index: number, bytes: number) => {
    arrived.set(index, bytes);
    report.advance(
      name,
      [...arrived.values()].reduce((sum, n) => sum + n, 0),
    );
  };
  arrive(0, first.bytes.length);
  if (partCount(total) <= 1) report.done(name);
  let held: Uint8Array<ArrayBuffer> | undefined = first.bytes;
  return partedSource(total, async (index, spare) => {
    if (index === 0 && held !== undefined) {
      const bytes = held;
      held = undefined; // the source holds it now
      return bytes;
    }
    const start = index * PART_BYTES;
    let memory = spare;
    const { bytes } = await withRetries(client, async () => {
      const given = memory;
      memory = undefined; // a try that fails has given it away
      const found = await readRange(client, address, start, start + partLength(total, index), given);
      if (found.total !== total || found.etag !== etag) throw changed(address);
      return found;
    });
    const isLast = !arrived.has(index) && arrived.size + 1 === partCount(total);
    arrive(index, bytes.length);
    if (isLast) report.done(name);
    return bytes;
  });
}

/** The first part of a file; all of it as a Blob where the server sends it whole; undefined where there is none. */
async function firstPart({ client, address, name, report }: FolderFile): Promise<Range | Blob | undefined> {
  const headers = { range: `bytes=0-${PART_BYTES - 1}` };
  const isPackage = !/^https?:/.test(address); // an extension's or application's own files
  const answer = await send(client, 'GET', address, headers).catch((error: HubError) => {
    // `fetch` knows no status 404 there
    if (isPackage && /^(?:unreachable|connection-lost)$/.test(error.code)) return undefined;
    throw error;
  });
  if (answer === undefined) return undefined;
  const { response, url } = answer;
  if (isMissing(response)) {
    await discard(response);
    return undefined;
  }
  const file = publicUrl(url);
  const total = Number(/^bytes 0-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1]);
  if (response.status === 416) {
    await discard(response);
    return new Blob([]); // an empty file has no first byte
  }
  if (!response.ok || (response.status === 206 && !Number.isSafeInteger(total))) {
    await discard(response);
    throw statusError(response, file, client.endpoint, undefined);
  }
  report.initiate(name);
  if (response.status === 206) {
    report.expect(name, total);
    report.download(name);
    const bytes = await readExactly(client, response, url, partLength(total, 0), file);
    return { bytes, total, etag: response.headers.get('etag') ?? undefined };
  }
  const blob = await readBlob(client, response, url, name, report);
  if (isPackage && blob.size === PART_BYTES) {
    // An extension's file as asked for, in part, but with status 200 and no word of its size.
    const whole = await send(client, 'GET', address, {});
    const all = await readBlob(client, whole.response, whole.url, name, report);
    report.done(name);
    return all;
  }
  report.done(name);
  return blob;
}

const changed = (address: string): HubError =>
  new HubError({ file: publicUrl(address), code: 'file-changed', detail: 'the file changed while it was read' });

/** Servers of single-page applications answer any unknown address with the application, and no file of a checkpoint is HTML. */
const isMissing = ({ ok, status, headers }: Response): boolean =>
  status === 404 || status === 410 || (ok && /^text\/html\b/i.test(headers.get('content-type') ?? ''));

async function readBlob(
  client: HubClient,
  response: Response,
  url: URL,
  name: string,
  report: ProgressReport,
): Promise<Blob> {
  const packed = response.headers.get('content-encoding') !== null; // then the length is not that of the contents
  const length = packed ? null : response.headers.get('content-length');
  if (length !== null) report.expect(name, Number(length));
  report.download(name);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let loaded = 0;
  for await (const chunk of bodyChunks(response, url, client.limits.idleMs, client.signal)) {
    loaded += chunk.length;
    chunks.push(chunk as Uint8Array<ArrayBuffer>);
    report.advance(name, loaded);
  }
  if (length !== null && loaded !== Number(length)) {
    const detail = `${loaded} of ${length} bytes came`;
    throw new HubError({ file: publicUrl(url), code: 'short-body', detail });
  }
  return new Blob(chunks);
}

export interface RemoteOptions {
  readonly fetch?: HubFetch | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Sent to the origin of the address alone. */
  readonly token?: string | undefined;
  readonly limits?: Partial<HubLimits> | undefined;
  /** `by-browser` in a page, where redirects cannot be seen. */
  readonly redirects?: HubClient['redirects'] | undefined;
}

interface Range {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly total: number;
  readonly etag: string | undefined;
}

/**
 * Opens the file at `url`: one request for its first byte tells its size, and that the server knows ranges.
 * Throws HubError `address`, `range-unsupported`, `file-changed` (also later, while reading), those of `send` and `statusError`.
 */
export async function openRemote(url: string, options: RemoteOptions = {}): Promise<ByteSource> {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new HubError({ code: 'address', detail: `${quote(url.split('?')[0]!)} is not an http or https address` });
  }
  const client: HubClient = {
    fetch: options.fetch ?? ((address, init) => fetch(address, init)),
    endpoint: originOf(new URL(url)),
    token: options.token,
    signal: options.signal,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    redirects: options.redirects ?? 'by-hand',
  };
  const first = await withRetries(client, () => readRange(client, url, 0, 1));
  const read = async (start: number, end: number): Promise<ArrayBuffer> => {
    if (end <= start) return new ArrayBuffer(0);
    const { bytes, total, etag } = await withRetries(client, () => readRange(client, url, start, end));
    if (total !== first.total || etag !== first.etag) {
      throw changed(url);
    }
    return bytes.buffer;
  };
  const clamp = (at: number) => Math.min(Math.max(0, at), first.total);
  return {
    size: first.total,
    slice: (start, end) => ({ arrayBuffer: () => read(clamp(start), clamp(end)) }),
  };
}

async function readRange(
  client: HubClient,
  url: string,
  start: number,
  end: number,
  spare?: ArrayBuffer,
): Promise<Range> {
  const { response, url: from } = await send(client, 'GET', url, {
    'accept-encoding': 'identity',
    range: `bytes=${start}-${end - 1}`,
  });
  const file = publicUrl(url);
  const { status, headers } = response;
  const empty = status === 416 && start === 0 && /^bytes \*\/0$/.test(headers.get('content-range') ?? '');
  if (status !== 206) {
    await discard(response);
    if (empty) return { bytes: new Uint8Array(0), total: 0, etag: headers.get('etag') ?? undefined };
    if (status !== 200 && status !== 416) throw statusError(response, file, client.endpoint, client.token);
    const detail = `the server does not send parts of files (${status}); download the whole file instead`;
    throw new HubError({ file, code: 'range-unsupported', detail });
  }
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers.get('content-range') ?? '') ?? [];
  if (Number(first) !== start || Number(last) !== end - 1 || !Number.isSafeInteger(Number(total))) {
    await discard(response);
    const detail = `asked for bytes ${start} to ${end - 1}, got ${quote(headers.get('content-range') ?? 'no Content-Range')}`;
    throw new HubError({ file, code: 'range-wrong', detail });
  }
  const bytes = await readExactly(client, response, from, end - start, file, spare);
  return { bytes, total: Number(total), etag: headers.get('etag') ?? undefined };
}

async function readExactly(
  client: HubClient,
  response: Response,
  from: URL,
  length: number,
  file: string,
  spare?: ArrayBuffer,
): Promise<Uint8Array<ArrayBuffer>> {
  const empty = spare?.byteLength === length ? spare : new ArrayBuffer(length);
  const { buffer, filled } = await bodyInto(response, from, empty, client.limits.idleMs, client.signal);
  if (filled < length) throw new HubError({ file, code: 'short-body', detail: `${filled} of ${length} bytes came` });
  return new Uint8Array(buffer);
}

/**
 * A large file that comes in parts: the few that are being read are in memory, the next ones are on their way. So a checkpoint goes from
 * the network into the backend without ever being in memory as a whole. Runs wherever JavaScript runs.
 */

/** Bytes of a part: one request each. */
export const PART_BYTES = 4 << 20;
/** Parts in memory, those on their way included. */
const KEPT_PARTS = 4;
/** Parts asked for before they are read, once reading has left the first part, where the header is. */
export const PARTS_AHEAD = 2;

export const partCount = (size: number): number => Math.ceil(size / PART_BYTES);
export const partLength = (size: number, index: number): number => Math.min(PART_BYTES, size - index * PART_BYTES);

interface Part {
  readonly bytes: Promise<Uint8Array<ArrayBuffer>>;
  /** Reads that wait for it. */
  readers: number;
}

/**
 * The file of `size` bytes whose parts `load` brings. A part that failed is asked for again when it is read again. `load` may fill and give back
 * `spare`, the memory of a part that nobody reads any more: new memory for each would wait to be collected, tens of megabytes of it.
 */
export function partedSource(
  size: number,
  load: (index: number, spare: ArrayBuffer | undefined) => Promise<Uint8Array<ArrayBuffer>>,
): ByteSource & Required<Pick<ByteSource, 'readInto'>> {
  const kept = new Map<number, Part>();
  let spare: ArrayBuffer | undefined;
  /** Forgets the part that was not used for the longest time. */
  const evict = (): void => {
    const [index, oldest] = kept.entries().next().value!;
    kept.delete(index);
    oldest.bytes.then(
      ({ buffer }) => {
        if (oldest.readers === 0) spare = buffer;
      },
      () => undefined,
    );
  };
  const begin = (index: number): Part => {
    const given = spare;
    spare = undefined;
    const begun: Part = { bytes: load(index, given), readers: 0 };
    begun.bytes.catch(() => kept.get(index) === begun && kept.delete(index));
    return begun;
  };
  const part = (index: number): Part => {
    const known = kept.get(index);
    const found = known ?? begin(index);
    kept.delete(index);
    kept.set(index, found); // the last in the order of use
    if (known === undefined && kept.size > KEPT_PARTS) evict();
    return found;
  };
  const readInto = async (start: number, target: Uint8Array<ArrayBuffer>): Promise<void> => {
    for (let done = 0; done < target.length; ) {
      const position = start + done;
      const index = Math.floor(position / PART_BYTES);
      const wanted = part(index);
      wanted.readers++;
      if (index > 0) for (let n = 1; n <= PARTS_AHEAD && index + n < partCount(size); n++) part(index + n);
      try {
        const piece = (await wanted.bytes).subarray(position - index * PART_BYTES).subarray(0, target.length - done);
        target.set(piece, done);
        done += piece.length;
      } finally {
        wanted.readers--;
      }
    }
  };
  const clamp = (at: number) => Math.min(Math.max(0, at), size);
  return {
    size,
    readInto,
    slice: (start, end) => ({
      async arrayBuffer() {
        const target = new Uint8Array(Math.max(0, clamp(end) - clamp(start)));
        await readInto(clamp(start), target);
        return target.buffer;
      },
    }),
  };
}
