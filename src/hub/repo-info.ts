/** What a revision of a repository holds: one request to the Hub's API, checked field by field. Runs wherever `fetch` runs. */
import { HubError } from '../errors.js';
import { infoUrl } from './address.js';
import { bodyText, discard } from './body.js';
import { type HubClient, send } from './client.js';
import { statusError } from './failures.js';
import { checkCommit, checkPinned, fileLabel } from './names.js';
import { withRetries } from './retry.js';

/** A file of a repository. `etag` is what the Hub calls its content: sha256 of a large file, git's sha1 of a plain one. */
export interface RepoFile {
  readonly name: string;
  readonly size: number | undefined;
  readonly etag: string | undefined;
}

/** A revision: the commit it stands for today, and its files. */
export interface RepoInfo {
  readonly commit: string;
  readonly files: readonly RepoFile[];
}

const MAX_INFO_BYTES = 32 << 20;
const MAX_FILES = 100_000;

/**
 * Asks the API of the Hub. A listing without sizes and hashes (an older mirror) is fine; they are then asked file by file.
 * Throws HubError: `repo-not-found`, `revision-not-found`, `unauthorized`, `forbidden`, `listing`, and what `send` throws.
 */
export async function repoInfo(client: HubClient, repo: string, revision: string): Promise<RepoInfo> {
  const file = fileLabel(repo, revision);
  const text = await withRetries(client, async () => {
    const { response, url } = await send(client, 'GET', infoUrl(client.endpoint, repo, revision), {
      'accept-encoding': 'identity',
    });
    if (!response.ok) {
      await discard(response);
      throw statusError(response, file, client.endpoint, client.token);
    }
    return bodyText(response, url, MAX_INFO_BYTES, client.limits.idleMs, client.signal);
  });
  const info = parseInfo(text, file);
  checkPinned(revision, info.commit, file);
  return info;
}

/** Reads an answer of the API; `file` names it in errors. Throws HubError `listing` or `commit-header`. */
export function parseInfo(text: string, file: string): RepoInfo {
  const info = parseObject(text);
  const siblings = info?.['siblings'];
  if (info === undefined || !Array.isArray(siblings) || siblings.length > MAX_FILES) {
    throw new HubError({ file, code: 'listing', detail: 'the server did not send a list of files; is it a Hub?' });
  }
  const files = siblings.map(toRepoFile).filter((entry) => entry !== undefined);
  return { commit: checkCommit(info['sha'], file), files };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return undefined;
  }
}

const asObject = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;

const asSize = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;

function toRepoFile(sibling: unknown): RepoFile | undefined {
  const entry = asObject(sibling);
  const name = entry?.['rfilename'];
  if (entry === undefined || typeof name !== 'string') return undefined;
  const lfs = asObject(entry['lfs']);
  const etag = lfs === undefined ? entry['blobId'] : lfs['sha256'];
  const legal = typeof etag === 'string' && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(etag);
  return { name, size: asSize(lfs?.['size'] ?? entry['size']), etag: legal ? etag : undefined };
}
