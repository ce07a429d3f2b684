/**
 * One request to a Hub, redirects followed by hand: at most ten, never from https to http, never to another scheme, and the
 * token goes to the endpoint's own origin alone. Runs wherever `fetch` runs.
 */
import { HubError, quote } from '../errors.js';
import { publicUrl } from './address.js';
import { discard } from './body.js';
import { networkError } from './failures.js';

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
  const mayKnowToken = client.token !== undefined && url.origin === new URL(client.endpoint).origin;
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
