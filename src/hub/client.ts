/**
 * Requests to a Hub or a web server: redirects, the token, time limits, retries, bodies, and what can go wrong as typed errors that say
 * what to do. Redirects are followed by hand: at most ten, never from https to http, never to another scheme, and the token goes to the
 * endpoint's own origin alone. Runs wherever `fetch` runs.
 */
import { HubError, quote } from '../errors.js';
import { originOf, publicUrl } from './names.js';

/** The part of `fetch` that is used; the global `fetch` fits. */
export type HubFetch = (
  url: string,
  init: {
    method: 'GET' | 'HEAD';
    headers: Record<string, string>;
    redirect: 'manual' | 'follow';
    signal: AbortSignal;
  },
) => Promise<Response>;

/** How long and how often: milliseconds and counts. */
export interface HubLimits {
  /** Wait for an answer's headers. */
  readonly headersMs: number;
  /** Wait for the next bytes of a body. */
  readonly idleMs: number;
  /** Tries after the first, counted anew whenever another MiB has arrived. */
  readonly retries: number;
  /** First pause between tries; doubled each time, at most 8 s. */
  readonly backoffMs: number;
  /** The longest Retry-After that is obeyed; a longer one is an error. */
  readonly retryAfterMs: number;
}

/** Limits where the caller and the environment say nothing. */
export const DEFAULT_LIMITS: HubLimits = {
  headersMs: 30_000,
  idleMs: 30_000,
  retries: 5,
  backoffMs: 500,
  retryAfterMs: 60_000,
};

/** What all requests of one call share. */
export interface HubClient {
  readonly fetch: HubFetch;
  /** Checked endpoint, without closing slash. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly limits: HubLimits;
  /** A page cannot see redirects, so there the browser follows them (and drops the token on another origin). */
  readonly redirects: 'by-hand' | 'by-browser';
}

/** An answer and the address that gave it. */
export interface HubAnswer {
  readonly response: Response;
  readonly url: URL;
}

const MAX_REDIRECTS = 10;

/**
 * Sends a request and returns the first answer that is not a redirect, or that `isAnswer` takes. The caller reads or discards
 * its body. Throws HubError (`unreachable`, `connection-lost`, `headers-timeout`, `redirect-*`, …) or the signal's reason.
 */
export async function send(
  client: HubClient,
  method: 'GET' | 'HEAD',
  url: string,
  headers: Readonly<Record<string, string>> = {},
  isAnswer: (response: Response) => boolean = () => false,
): Promise<HubAnswer> {
  let here = new URL(url);
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await sendOnce(client, method, here, headers);
    if (![301, 302, 303, 307, 308].includes(response.status) || isAnswer(response)) return { response, url: here };
    await discard(response);
    here = nextAddress(here, response.headers.get('location'));
  }
  throw new HubError({ file: publicUrl(url), code: 'redirect-loop', detail: `more than ${MAX_REDIRECTS} redirects` });
}

async function sendOnce(
  client: HubClient,
  method: 'GET' | 'HEAD',
  url: URL,
  headers: Readonly<Record<string, string>>,
): Promise<Response> {
  client.signal?.throwIfAborted();
  const own = new AbortController();
  const onAbort = () => own.abort(client.signal?.reason);
  const file = publicUrl(url);
  const detail = `no answer within ${client.limits.headersMs} ms`;
  const timer = setTimeout(
    () => own.abort(new HubError({ file, code: 'headers-timeout', detail })),
    client.limits.headersMs,
  );
  client.signal?.addEventListener('abort', onAbort);
  const mayKnowToken = client.token !== undefined && originOf(url) === originOf(new URL(client.endpoint));
  const given = new Promise<never>((_, reject) => {
    own.signal.addEventListener('abort', () => reject(own.signal.reason)); // whether or not `fetch` listens to its signal
  });
  try {
    const init = {
      method,
      headers: { ...headers, ...(mayKnowToken ? { authorization: `Bearer ${client.token}` } : {}) },
      redirect: client.redirects === 'by-hand' ? 'manual' : 'follow',
      signal: own.signal,
    } as const;
    return await Promise.race([client.fetch(url.href, init), given]);
  } catch (error) {
    throw own.signal.aborted ? own.signal.reason : networkError(error, url);
  } finally {
    clearTimeout(timer);
    client.signal?.removeEventListener('abort', onAbort);
  }
}

function nextAddress(from: URL, location: string | null): URL {
  const fail = (code: string, detail: string): never => {
    throw new HubError({ file: publicUrl(from), code, detail });
  };
  if (location === null || !URL.canParse(location, from)) {
    return fail('redirect-location', `redirected to ${location === null ? 'nowhere' : quote(location.split('?')[0]!)}`);
  }
  const to = new URL(location, from);
  if (to.protocol !== 'http:' && to.protocol !== 'https:') {
    return fail('redirect-scheme', `redirected to ${quote(to.protocol)}, which is neither http nor https`);
  }
  if (from.protocol === 'https:' && to.protocol === 'http:') {
    return fail('redirect-downgrade', `redirected from https to plain http at ${quote(to.host)}`);
  }
  to.username = '';
  to.password = '';
  return to;
}

/** Drops a body that nobody will read, which frees its connection. */
export async function discard(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => undefined);
}

/** Settles as `work` does, unless the signal or the clock is first. */
function within<T>(work: Promise<T>, ms: number, late: () => Error, signal: AbortSignal | undefined): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => settle(() => reject(late())), ms);
    const onAbort = () => settle(() => reject(signal?.reason));
    const settle = (act: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      act();
    };
    signal?.addEventListener('abort', onAbort);
    work.then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    );
  });
}

/**
 * The chunks of a body as they arrive. Leaving the loop early, by `break` or by an error, cancels the body.
 * Throws HubError `idle-timeout` when nothing comes for `idleMs`, `connection-lost`, or the signal's reason.
 */
export async function* bodyChunks(
  response: Response,
  url: URL,
  idleMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const late = () => lateError(url, idleMs);
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await within(reader.read(), idleMs, late, signal).catch((error: unknown) => {
        throw signal?.aborted ? signal.reason : networkError(error, url);
      });
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/**
 * Fills `buffer` with a body, where streams can by reading right into its memory: chunks of hundreds of megabytes would wait to be collected. The
 * buffer is given away; resolves to what has its memory, and to how many bytes came, which `onBytes` is told meanwhile.
 *
 * @throws HubError `body-too-long`, and as `bodyChunks` does.
 */
export async function bodyInto(
  response: Response,
  url: URL,
  buffer: ArrayBuffer,
  idleMs: number,
  signal: AbortSignal | undefined,
  onBytes?: (filled: number) => void,
): Promise<{ readonly buffer: ArrayBuffer; readonly filled: number }> {
  const length = buffer.byteLength;
  const tooLong = () =>
    new HubError({ file: publicUrl(url), code: 'body-too-long', detail: `more than ${length} bytes came` });
  const reader = byteReader(response.body);
  let filled = 0;
  if (reader === undefined) {
    const bytes = new Uint8Array(buffer);
    for await (const chunk of bodyChunks(response, url, idleMs, signal)) {
      if (filled + chunk.length > length) throw tooLong();
      bytes.set(chunk, filled);
      filled += chunk.length;
      onBytes?.(filled);
    }
    return { buffer, filled };
  }
  try {
    for (;;) {
      signal?.throwIfAborted();
      const isFull = filled === length; // then nothing more may come
      const view = isFull ? new Uint8Array(1) : new Uint8Array(buffer, filled, length - filled);
      const { done, value } = await within(reader.read(view), idleMs, () => lateError(url, idleMs), signal).catch(
        (error: unknown) => {
          throw signal?.aborted ? signal.reason : networkError(error, url);
        },
      );
      if (value !== undefined && !isFull) buffer = value.buffer;
      if (done) return { buffer, filled };
      if (isFull && value.length > 0) throw tooLong();
      filled += value.length;
      onBytes?.(filled);
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** A reader that fills the caller's memory; undefined where the stream has none. */
function byteReader(body: Response['body']): ReadableStreamBYOBReader | undefined {
  try {
    return body?.getReader({ mode: 'byob' });
  } catch {
    return undefined; // a stream of chunks
  }
}

const lateError = (url: URL, idleMs: number): HubError =>
  new HubError({ file: publicUrl(url), code: 'idle-timeout', detail: `the server sent nothing for ${idleMs} ms` });

/** A whole body of at most `limit` bytes, as UTF-8 text. Throws HubError `body-too-long`, and as `bodyChunks` does. */
export async function bodyText(
  response: Response,
  url: URL,
  limit: number,
  idleMs: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  let length = 0;
  for await (const chunk of bodyChunks(response, url, idleMs, signal)) {
    length += chunk.byteLength;
    if (length > limit) {
      throw new HubError({ file: publicUrl(url), code: 'body-too-long', detail: `the answer exceeds ${limit} bytes` });
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** What an error of an HTTP status keeps in `cause`. */
export interface StatusCause {
  readonly status: number;
  /** Retry-After of the answer, in milliseconds. */
  readonly retryAfterMs?: number;
}

const UNREACHABLE = /^(?:ENOTFOUND|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENETDOWN|EAI_AGAIN|UND_ERR_CONNECT_TIMEOUT)$/;
const TLS = /^(?:CERT_|ERR_TLS_|ERR_SSL_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/;

/** An error of `fetch`, of a socket or of a body as a HubError: `unreachable`, `tls`, `connection-lost`. */
export function networkError(error: unknown, url: URL): HubError {
  if (error instanceof HubError) return error;
  const code = errorCode(error);
  const file = publicUrl(url);
  if (UNREACHABLE.test(code)) {
    const detail = `${url.host} cannot be reached (${code}); check the network, the proxy variables and HF_ENDPOINT`;
    return new HubError({ file, code: 'unreachable', detail, cause: error });
  }
  if (TLS.test(code)) {
    const detail = `${url.host} has no certificate that is trusted here (${code}); NODE_EXTRA_CA_CERTS can name one`;
    return new HubError({ file, code: 'tls', detail, cause: error });
  }
  const reason = code === '' ? '' : ` (${code})`;
  return new HubError({ file, code: 'connection-lost', detail: `the connection broke${reason}`, cause: error });
}

function errorCode(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string') return code;
  }
  return '';
}

/** The error of an answer that is not a success; `file` names repository, revision and file. */
export function statusError(response: Response, file: string, endpoint: string, token: string | undefined): HubError {
  const { status } = response;
  const said = response.headers.get('x-error-code') ?? '';
  const cause: StatusCause = { status, ...retryAfter(response.headers.get('retry-after')) };
  const fail = (code: string, detail: string) => new HubError({ file, code, detail, cause });
  const page = `${endpoint}/${file.split('@')[0]}`;
  if (status === 403 || said === 'GatedRepo') {
    const then = token === undefined ? 'then set HF_TOKEN (or the option token)' : 'with the account of this token';
    return fail('forbidden', `access is restricted: accept its conditions at ${page}, ${then}`);
  }
  if (status === 401) {
    if (token !== undefined)
      return fail('unauthorized', 'the token was refused: it is wrong, expired, or may not read this');
    return fail(
      'unauthorized',
      'it is private, or does not exist: check the name, or set HF_TOKEN (or the option token)',
    );
  }
  if (status === 404 || status === 410) return notFound(status, said, fail);
  if (status === 429)
    return fail('rate-limited', 'the server asks for fewer requests (429); try later, or set HF_TOKEN');
  if (status === 408 || status === 425 || status >= 500) return fail('server-error', `the server answered ${status}`);
  return fail('http-status', `the server answered ${status}`);
}

function notFound(status: number, said: string, fail: (code: string, detail: string) => HubError): HubError {
  if (said === 'RepoNotFound') return fail('repo-not-found', 'there is no such repository (or it is private)');
  if (said === 'RevisionNotFound')
    return fail('revision-not-found', 'the repository has no such branch, tag or commit');
  if (said === 'EntryNotFound') return fail('file-not-found', 'this revision of the repository has no such file');
  return fail('not-found', `the server has no such repository, revision or file (${status})`);
}

function retryAfter(header: string | null): { retryAfterMs?: number } {
  if (header === null) return {};
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? {} : { retryAfterMs: Math.max(0, seconds * 1000) };
}

/** How long the server asked to wait, if it did. */
export function retryAfterOf(error: HubError): number | undefined {
  return (error.cause as Partial<StatusCause> | undefined)?.retryAfterMs;
}

const TRANSIENT = new Set([
  'connection-lost',
  'idle-timeout',
  'short-body',
  'server-error',
  'rate-limited',
  'range-refused',
]);
const ABSENT = new Set(['unreachable', 'headers-timeout']);

/** Could the same request succeed in a moment? */
export function isTransient(error: unknown): error is HubError {
  return error instanceof HubError && TRANSIENT.has(error.code);
}

/** Did no server answer at all? A download under way waits for it; a first request does not. */
export function isAbsent(error: unknown): error is HubError {
  return error instanceof HubError && ABSENT.has(error.code);
}

const PROGRESS_BYTES = 1 << 20;
const LONGEST_PAUSE_MS = 8_000;

/** Waits, or throws the signal's reason. */
export function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
    if (signal?.aborted) end();
  });
}

/** What a body of tries may tell the one who counts them. */
export interface RetryRules {
  /** Which errors are worth another try. */
  readonly again?: (error: unknown) => error is HubError;
  /** Bytes that have arrived: another MiB sets the count of tries back. The highest value counts, so that this ends. */
  readonly arrived?: () => number;
}

/** Runs `attempt` until it succeeds, fails for good, or the client's `retries` are used up; then its last error is thrown. */
export async function withRetries<T>(
  client: HubClient,
  attempt: () => Promise<T>,
  { again = isTransient, arrived = () => 0 }: RetryRules = {},
): Promise<T> {
  let tries = 0;
  let mark = arrived();
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!again(error)) throw error;
      if (arrived() >= mark + PROGRESS_BYTES) [tries, mark] = [0, arrived()];
      if (tries++ >= client.limits.retries) throw error;
      await wait(pauseAfter(error, tries, client), client.signal);
    }
  }
}

function pauseAfter(error: HubError, tries: number, { limits }: HubClient): number {
  const asked = retryAfterOf(error) ?? 0;
  if (asked > limits.retryAfterMs) {
    const detail = `the server asks to wait ${Math.ceil(asked / 1000)} s; try again then`;
    throw new HubError({ file: error.file, code: 'retry-after', detail, cause: error });
  }
  const growing = Math.min(limits.backoffMs * 2 ** (tries - 1), LONGEST_PAUSE_MS);
  return Math.max(asked, growing * (0.75 + 0.5 * Math.random())); // spread, so that many clients do not come back at once
}
