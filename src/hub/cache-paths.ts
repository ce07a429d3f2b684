/**
 * Where things lie in the cache that Python's huggingface_hub and this library share:
 * `models--owner--name/{refs/REVISION, blobs/ETAG, snapshots/COMMIT/FILE}`, locks under `.locks/models--owner--name/`.
 */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { checkCommit, checkEtag, checkFileName, checkRepoId, checkRevision } from './names.js';

/** Environment variables; `process.env` fits. */
export type EnvironmentVariables = Readonly<Record<string, string | undefined>>;

const set = (value: string | undefined): string | undefined => (value === '' ? undefined : value);

/** A leading `~` stands for the home folder, as in Python. */
const expand = (path: string): string => resolve(path.replace(/^~(?=$|[/\\])/, homedir()));

/** `HF_HOME`, else `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`: the token lives here. */
export function hubHome(env: EnvironmentVariables): string {
  const cache = set(env['XDG_CACHE_HOME']) ?? join(homedir(), '.cache');
  return expand(set(env['HF_HOME']) ?? join(cache, 'huggingface'));
}

/** `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` below `hubHome`. */
export function hubCache(env: EnvironmentVariables): string {
  return expand(set(env['HF_HUB_CACHE']) ?? set(env['HUGGINGFACE_HUB_CACHE']) ?? join(hubHome(env), 'hub'));
}

/** The places of one repository. Every part of a path is checked on the way in, whoever sent it. */
export interface RepoPaths {
  /** The whole cache. */
  readonly cache: string;
  /** `models--owner--name`. */
  readonly root: string;
  ref(revision: string): string;
  blob(etag: string): string;
  snapshot(commit: string): string;
  file(commit: string, name: string): string;
  /** Marks of the library that has looked for the file and found that this commit lacks it. */
  absent(commit: string, name: string): string;
  /** Ours alone: Python locks by other means, so neither may take the other's file for its own. */
  lock(etag: string): string;
  /** Our note that a blob has been hashed and was right. */
  stamp(etag: string): string;
  /** Bytes that have arrived so far. */
  partial(etag: string): string;
}

/** Throws HubError `repo-id` here, and `revision`, `file-name`, `etag-header`, `commit-header` in its functions. */
export function repoPaths(cache: string, repo: string): RepoPaths {
  const folder = ['models', ...checkRepoId(repo).split('/')].join('--');
  const root = join(cache, folder);
  const locks = join(cache, '.locks', folder);
  const blob = (etag: string) => checkEtag(etag, repo);
  const commitFolder = (kind: string, commit: string) => join(root, kind, checkCommit(commit, repo));
  return {
    cache,
    root,
    ref: (revision) => join(root, 'refs', ...checkRevision(revision).split('/')),
    blob: (etag) => join(root, 'blobs', blob(etag)),
    snapshot: (commit) => commitFolder('snapshots', commit),
    file: (commit, name) => join(commitFolder('snapshots', commit), ...checkFileName(name).split('/')),
    absent: (commit, name) => join(commitFolder('.no_exist', commit), ...checkFileName(name).split('/')),
    lock: (etag) => join(locks, `${blob(etag)}.node.lock`),
    stamp: (etag) => join(locks, `${blob(etag)}.node.verified`),
    partial: (etag) => join(root, 'blobs', `${blob(etag)}.node.incomplete`),
  };
}
