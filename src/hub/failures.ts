/** What can go wrong between here and a Hub, as typed errors that say what to do; and which of it is worth another try. */
import { HubError } from '../errors.js';
import { publicUrl } from './address.js';

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
