/**
 * A checkpoint that lies on a web server as a plain folder of files, beside the page for one. Runs wherever `fetch` runs.
 */
import type { ByteSource, ModelFiles } from '../checkpoint/byte-source.js';
import { HubError, quote } from '../errors.js';
import type { OnLoadEvent } from '../load-events.js';
import { publicUrl } from './address.js';
import { bodyChunks, discard } from './body.js';
import { DEFAULT_LIMITS, type HubClient, type HubFetch, type HubLimits, send } from './client.js';
import { statusError } from './failures.js';
import { checkFileName } from './names.js';
import { type ProgressReport, progressReport } from './progress.js';
import { withRetries } from './retry.js';

export interface FetchFolderOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnLoadEvent | undefined;
  readonly fetch?: HubFetch | undefined;
  readonly limits?: Partial<HubLimits> | undefined;
}

/**
 * The files of a folder on a web server, each fetched whole when it is opened. A name that the server does not have opens as
 * undefined. In a page `folder` may be relative to the page or worker. Nothing is kept but what the browser's own HTTP cache keeps.
 *
 * @throws HubError `address` at once; from `open` `file-name`, `short-body`, those of `send` and `statusError`, or the signal's reason.
 */
export function fetchFolder(folder: string | URL, options: FetchFolderOptions = {}): ModelFiles {
  const base = folderUrl(folder);
  const client: HubClient = {
    fetch: options.fetch ?? ((address, init) => fetch(address, init)),
    endpoint: base.origin,
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
      return withRetries(client, () => fetchFile(client, url.href, name, report));
    },
  };
}

/** Its path ends in a slash; a query (some servers want a key) stays. */
function folderUrl(folder: string | URL): URL {
  const { location } = globalThis as { location?: { href: string } };
  const url = URL.canParse(folder, location?.href) ? new URL(folder, location?.href) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    const detail = `${quote(String(folder).split('?')[0]!)} is not an http or https address`;
    throw new HubError({ path: 'folder', code: 'address', detail });
  }
  url.hash = '';
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

async function fetchFile(
  client: HubClient,
  address: string,
  name: string,
  report: ProgressReport,
): Promise<ByteSource | undefined> {
  const { response, url } = await send(client, 'GET', address);
  if (isMissing(response)) {
    await discard(response);
    return undefined;
  }
  const file = publicUrl(url);
  if (!response.ok) {
    await discard(response);
    throw statusError(response, file, client.endpoint, undefined);
  }
  report.initiate(name);
  const blob = await readBlob(client, response, url, name, report);
  report.done(name);
  return blob;
}

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
