/**
 * Names that come from a caller or from a server, checked before any request is sent and before any path or address is made of them.
 * Nothing that passes here can leave the cache folder or change the meaning of an address.
 */
import { HubError, quote } from '../errors.js';

const REPO_PART = /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?$/;
const COMMIT = /^[0-9a-f]{40}$/;
const ETAG = /^[A-Za-z0-9_][A-Za-z0-9_-]{0,127}$/; // no dot: it could name our own partial files, or a parent folder
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/u; // with /u: lone surrogates only
const DEVICE = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)/i;
const MAX_NAME_BYTES = 255;

const bytes = (text: string): number => new TextEncoder().encode(text).length;

function refuse(code: string, what: string, value: unknown, why: string): never {
  const shown = typeof value === 'string' ? quote(value) : typeof value;
  throw new HubError({ path: what, code, detail: `${shown} ${why}` });
}

/** Returns `repo` if it is `name` or `owner/name` as the Hub allows them. Throws HubError `repo-id`. */
export function checkRepoId(repo: unknown): string {
  if (typeof repo !== 'string') return refuse('repo-id', 'repository', repo, 'is not a string');
  const parts = repo.split('/');
  const legal = parts.length <= 2 && parts.every((part) => REPO_PART.test(part));
  if (!legal || /--|\.\.|\.git$/.test(repo)) {
    refuse(
      'repo-id',
      'repository',
      repo,
      'is not of the form owner/name (letters, digits, "_", and "-" or "." inside)',
    );
  }
  return repo;
}

/** Returns `revision` if git could have a branch, tag or commit of that name. Throws HubError `revision`. */
export function checkRevision(revision: unknown): string {
  if (typeof revision !== 'string') return refuse('revision', 'revision', revision, 'is not a string');
  const parts = revision.split('/');
  const legal =
    bytes(revision) <= MAX_NAME_BYTES &&
    !CONTROL.test(revision) &&
    !/[\s~^:?*[\]\\%"<>|]|\.\.|@\{|^-/.test(revision) &&
    parts.every((part) => part !== '' && !/^\.|\.$|\.lock$/.test(part) && !DEVICE.test(part));
  if (!legal) refuse('revision', 'revision', revision, 'is not the name of a branch, a tag or a commit');
  return revision;
}

/** Returns `name` if it is a relative path inside a repository, safe on every file system. Throws HubError `file-name`. */
export function checkFileName(name: unknown): string {
  if (typeof name !== 'string') return refuse('file-name', 'file', name, 'is not a string');
  const legal =
    bytes(name) <= 1024 &&
    !CONTROL.test(name) &&
    !/[\\:*?"<>|]/.test(name) &&
    name.split('/').every((part) => part !== '' && !/^\.{1,2}$|[. ]$/.test(part) && !DEVICE.test(part)) &&
    name.split('/').every((part) => bytes(part) <= MAX_NAME_BYTES);
  if (!legal) refuse('file-name', 'file', name, 'is not the name of a file inside a repository');
  return name;
}

/** Is this a full commit hash, which never moves? */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** Returns a commit hash that a server sent. Throws HubError `commit-header`. */
export function checkCommit(commit: unknown, file: string): string {
  if (typeof commit !== 'string' || !COMMIT.test(commit)) {
    const found = typeof commit === 'string' ? quote(commit) : 'none';
    throw new HubError({
      file,
      code: 'commit-header',
      detail: `the server did not name a commit (${found}); is it a Hub?`,
    });
  }
  return commit;
}

/** A full commit hash must be answered with itself. Throws HubError `commit-header`. */
export function checkPinned(revision: string, commit: string, file: string): void {
  if (!isCommit(revision) || commit === revision) return;
  throw new HubError({ file, code: 'commit-header', detail: `the server answered with another commit, ${commit}` });
}

/** Returns an etag header as the name of a blob: quotes and the weakness mark removed. Throws HubError `etag-header`. */
export function checkEtag(header: unknown, file: string): string {
  if (typeof header !== 'string' || header === '') {
    throw new HubError({ file, code: 'etag-header', detail: 'the server sent no etag; is it a Hub?' });
  }
  const etag = header.replace(/^W\//, '').replace(/^"(.*)"$/, '$1');
  if (!ETAG.test(etag)) {
    throw new HubError({ file, code: 'etag-header', detail: `${quote(header)} cannot name a file in the cache` });
  }
  return etag;
}

/** How messages name a file of a repository: `owner/name@revision/file`. */
export function fileLabel(repo: string, revision: string, file?: string): string {
  return file === undefined ? `${repo}@${revision}` : `${repo}@${revision}/${file}`;
}

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
