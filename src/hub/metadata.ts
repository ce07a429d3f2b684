/**
 * What a Hub says about a revision and its files before they are downloaded, checked field by field, and which of the files a GIT
 * checkpoint needs. Runs wherever `fetch` runs, and needs no package (zod neither): a page bundles it by itself.
 */
import { HubError, quote } from '../errors.js';
import { showValue } from '../options.js';
import { bodyText, discard, type HubClient, send, statusError, withRetries } from './client.js';
import { checkCommit, checkEtag, checkFileName, checkPinned, fileLabel, infoUrl, resolveUrl } from './names.js';

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

/** No listing of a repository is longer. */
export const MAX_INFO_BYTES = 32 << 20;
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

/** Commit that the revision stands for, name of the content (its hash, for all that the Hub itself stores), and bytes. */
export interface FileMetadata {
  readonly commit: string;
  readonly etag: string;
  readonly size: number;
}

/**
 * Asks for the metadata of a file. A redirect that carries them is the answer (it leads to the storage, whose own headers say
 * something else); one that does not, of a renamed repository, is followed.
 * Throws HubError `commit-header`, `etag-header`, `size-header`, those of `statusError` and of `send`.
 */
export async function fileMetadata(
  client: HubClient,
  repo: string,
  revision: string,
  file: string,
): Promise<FileMetadata> {
  const label = fileLabel(repo, revision, file);
  const address = resolveUrl(client.endpoint, repo, revision, file);
  return withRetries(client, async () => {
    const { response } = await send(client, 'HEAD', address, { 'accept-encoding': 'identity' }, describesFile);
    await discard(response);
    if (response.status >= 400) throw statusError(response, label, client.endpoint, client.token);
    const metadata = readHeaders(response.headers, label);
    checkPinned(revision, metadata.commit, label);
    return metadata;
  });
}

const describesFile = (response: Response): boolean =>
  response.headers.has('x-repo-commit') && response.headers.has('x-linked-etag');

function readHeaders(headers: Headers, label: string): FileMetadata {
  const commit = checkCommit(headers.get('x-repo-commit'), label);
  const etag = checkEtag(headers.get('x-linked-etag') ?? headers.get('etag'), label);
  const size = headers.get('x-linked-size') ?? headers.get('content-length') ?? '';
  if (!/^\d{1,16}$/.test(size) || !Number.isSafeInteger(Number(size))) {
    throw new HubError({ file: label, code: 'size-header', detail: `${quote(size)} is not a size in bytes` });
  }
  return { commit, etag, size: Number(size) };
}

/** Files beside the weights; those that exist are taken, configuration first. */
const SMALL_FILES = [
  'config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'generation_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.txt',
  'tokenizer.json',
] as const;

/** The small files that loading a model reads. */
export const LOADED_FILES: ReadonlySet<string> = new Set(
  SMALL_FILES.filter((name) => name !== 'special_tokens_map.json' && name !== 'added_tokens.json'),
);

/** Weights in the order of preference: safetensors cannot run code and need no unpacking. */
const WEIGHT_FILES = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  'model.pt',
] as const;

/** What to take. */
export interface FileSelection {
  /** In this order: small files first, so that weights in a cache mean that the rest is there too. */
  readonly small: readonly string[];
  /** The one weight file, or the index that names the shards. */
  readonly weights: string;
  readonly sharded: boolean;
}

/** Chooses among the names of a repository or folder. Throws HubError `no-config` or `no-weights`, naming what was looked for. */
export function selectFiles(names: Iterable<string>, label: string): FileSelection {
  const present = new Set(names);
  const weights = WEIGHT_FILES.find((name) => present.has(name));
  if (weights === undefined) {
    throw new HubError({ file: label, code: 'no-weights', detail: `it has none of ${WEIGHT_FILES.join(', ')}` });
  }
  if (!present.has('config.json') && weights !== 'model.pt') {
    throw new HubError({ file: label, code: 'no-config', detail: 'it has no config.json' });
  }
  return {
    small: SMALL_FILES.filter((name) => present.has(name)),
    weights,
    sharded: weights.endsWith('.index.json'),
  };
}

/** The weight files among the names of a repository, shards as they are customarily called; empty where there are none. */
export function weightFiles(names: readonly string[]): string[] {
  const weights = WEIGHT_FILES.find((name) => names.includes(name));
  if (weights === undefined) return [];
  const stem = /^(.*\.(?:safetensors|bin))\.index\.json$/.exec(weights)?.[1];
  const [base, ending] = stem === undefined ? [] : [stem.replace(/\.\w+$/, ''), stem.replace(/^.*\./, '.')];
  const isShard = (name: string) =>
    base !== undefined && name.startsWith(`${base}-`) && name.endsWith(ending!) && /-\d+-of-\d+\.\w+$/.test(name);
  return [weights, ...names.filter(isShard)];
}

/** The shards that an index names, each once, in order. Throws HubError `shard-index` or `file-name`. */
export function shardNames(indexText: string, label: string): string[] {
  const fail = (detail: string): never => {
    throw new HubError({ file: label, code: 'shard-index', detail });
  };
  const names = Object.values(weightMap(indexText) ?? fail('it has no "weight_map" of tensor names to file names'));
  if (names.length === 0) fail('its "weight_map" is empty');
  for (const name of new Set(names)) {
    const plain = typeof name === 'string' && !name.includes('/') && /\.(?:safetensors|bin)$/.test(name);
    if (!plain) fail(`${showValue(name)} is not the name of a shard beside it`);
    checkFileName(name);
  }
  return [...new Set(names as string[])].sort();
}

function weightMap(text: string): Record<string, unknown> | undefined {
  try {
    const map = (JSON.parse(text) as { weight_map?: unknown } | null)?.weight_map;
    return typeof map === 'object' && map !== null && !Array.isArray(map)
      ? (map as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
