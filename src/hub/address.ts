/** Addresses of a Hub: the same three for the Hub itself, for mirrors, and for the server of the tests. */
import { HubError, quote } from '../errors.js';

/** The public Hub. */
export const DEFAULT_ENDPOINT = 'https://huggingface.co';

/** Returns an endpoint without closing slash. Throws HubError `endpoint` unless it is http(s) without credentials and query. */
export function checkEndpoint(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const legal = url !== undefined && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '';
  if (!legal || url.username !== '' || url.password !== '') {
    const shown = url === undefined ? quote(endpoint) : quote(publicUrl(url));
    throw new HubError({
      path: 'endpoint',
      code: 'endpoint',
      detail: `${shown} is not an http or https address without user, query and fragment`,
    });
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

const encodePath = (path: string): string => path.split('/').map(encodeURIComponent).join('/');

/** Where a file is downloaded from. A revision may hold slashes, and is one segment of the address. */
export function resolveUrl(endpoint: string, repo: string, revision: string, file: string): string {
  return `${endpoint}/${repo}/resolve/${encodeURIComponent(revision)}/${encodePath(file)}`;
}

/** Where a revision is described: its commit, and its files with sizes and hashes. */
export function infoUrl(endpoint: string, repo: string, revision: string): string {
  return `${endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
}

/** An address as messages may show it: credentials and query removed, since signed addresses carry secrets there. */
export function publicUrl(url: URL | string): string {
  const parsed = typeof url === 'string' ? new URL(url) : url;
  return `${parsed.protocol}//${parsed.host}${parsed.pathname}`;
}
