/**
 * Names that come from a caller or from a server, checked before any request is sent and before any path or address is made of them.
 * Nothing that passes here can leave the cache folder or change the meaning of an address.
 */
import { HubError, quote } from '../errors.js';
import { showValue } from '../options.js';

const REPO_PART = /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?$/;
const COMMIT = /^[0-9a-f]{40}$/;
const ETAG = /^[A-Za-z0-9_][A-Za-z0-9_-]{0,127}$/; // no dot: it could name our own partial files, or a parent folder
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/u; // with /u: lone surrogates only
const DEVICE = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)/i;
const MAX_NAME_BYTES = 255;

const bytes = (text: string): number => new TextEncoder().encode(text).length;

function refuse(code: string, what: string, value: unknown, why: string): never {
  throw new HubError({ path: what, code, detail: `${showValue(value)} ${why}` });
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

/** Scheme and host: `URL.origin` is "null" for schemes of applications (`chrome-extension:`, `app:`, `tauri:`). */
export const originOf = ({ protocol, host }: URL): string => `${protocol}//${host}`;

/** An address as messages may show it: credentials and query removed, since signed addresses carry secrets there. */
export function publicUrl(url: URL | string): string {
  const parsed = typeof url === 'string' ? new URL(url) : url;
  return `${parsed.protocol}//${parsed.host}${parsed.pathname}`;
}

/** A model on a Hub, as its address names it. */
export interface HubAddress {
  readonly repo: string;
  readonly revision: string | undefined;
}

const HUB_HOSTS = ['huggingface.co', 'www.huggingface.co', 'hf.co'];

/**
 * What the address of a model's page or file on the Hub at `endpoint` names (`https://huggingface.co/owner/name[/tree/REVISION]`, with
 * or without its scheme, or `hf://owner/name[@REVISION]`); undefined for what is no address.
 * Throws HubError `address` for other addresses, and those of `checkRepoId` and `checkRevision`.
 */
export function parseHubAddress(text: string, endpoint = DEFAULT_ENDPOINT): HubAddress | undefined {
  const short = /^hf:\/\/(?:models\/)?([^/@]+\/[^/@]+)(?:@(.+?))?\/?$/.exec(text);
  if (short !== null) return checkAddress(short[1]!, short[2]);
  const bare = HUB_HOSTS.some((host) => text.startsWith(`${host}/`));
  if (!bare && !/^[a-z][a-z+.-]*:\/\//i.test(text)) return undefined;
  const url = URL.canParse(bare ? `https://${text}` : text) ? new URL(bare ? `https://${text}` : text) : undefined;
  const fail = (detail: string): never => {
    throw new HubError({ path: 'model', code: 'address', detail: `${quote(text.split(/[?#]/)[0]!)} ${detail}` });
  };
  const base = new URL(endpoint);
  const prefix = base.pathname.replace(/\/$/, '');
  const isHub = url !== undefined && (url.host === base.host || HUB_HOSTS.includes(url.host));
  if (!isHub) return fail('is not an address of the Hub; give owner/name, a folder, or another Hub as endpoint');
  const path =
    url.host === base.host && url.pathname.startsWith(`${prefix}/`) ? url.pathname.slice(prefix.length) : url.pathname;
  const parts = path.split('/').filter((part) => part !== '');
  const [owner = '', name = '', verb, ...rest] = parts.map(
    (part) => decodePart(part) ?? fail('is not a legal address'),
  );
  if (/^(?:datasets|spaces|docs|collections|papers|api)$/.test(owner) || name === '') {
    return fail('does not name a model; its address is https://huggingface.co/OWNER/NAME');
  }
  if (verb === undefined) return checkAddress(`${owner}/${name}`, undefined);
  if (!/^(?:tree|blob|resolve|raw|commit)$/.test(verb) || rest.length === 0)
    return checkAddress(`${owner}/${name}`, undefined);
  return checkAddress(`${owner}/${name}`, rest.slice(0, rest[0] === 'refs' ? 3 : 1).join('/'));
}

/** A segment of an address as text; undefined where its escapes are no UTF-8. */
function decodePart(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

const checkAddress = (repo: string, revision: string | undefined): HubAddress => ({
  repo: checkRepoId(repo),
  revision: revision === undefined ? undefined : checkRevision(revision),
});

/** How many letters of the longer name of two may differ for one to be taken for the other, mistyped. */
const MAX_TYPOS = 2;

/** The one of `names` (`owner/name`) that `typed` is most probably meant to be; undefined where none is near. */
export function closestName(typed: string, names: readonly string[]): string | undefined {
  const base = (name: string) => name.slice(name.lastIndexOf('/') + 1).toLowerCase();
  const near = names
    .map((name) => ({
      name,
      distance: Math.min(editDistance(typed.toLowerCase(), name.toLowerCase()), editDistance(base(typed), base(name))),
    }))
    .filter(({ name, distance }) => distance <= MAX_TYPOS && name !== typed);
  return near.sort((a, b) => a.distance - b.distance)[0]?.name;
}

/** Insertions, deletions, replacements and swaps of neighbors that make `b` of `a` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > MAX_TYPOS) return Number.POSITIVE_INFINITY;
  let [before, row]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) next[j] = Math.min(next[j]!, before[j - 2]! + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}
