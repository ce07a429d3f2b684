/** One download call: its options and the environment, read and checked once, before any request. */

import type { OnLoadEvent } from '../load-events.js';
import { type EnvironmentVariables, hubCache, type RepoPaths, repoPaths } from './cache-paths.js';
import type { HubClient, HubFetch, HubLimits } from './client.js';
import { endpointFrom, isOffline, limitsFrom, symlinksDisabled, tokenFrom } from './environment.js';
import { checkRepoId, checkRevision } from './names.js';
import { nodeTransport } from './node-transport.js';
import { type ProgressReport, progressReport } from './progress.js';
import { freeBytes } from './storage.js';

/** Options of all downloads. What is not given comes from the environment (see `environment.ts`). */
export interface DownloadOptions {
  /** Branch, tag or commit; `main` by default. A full commit that is in the cache needs no network. */
  readonly revision?: string | undefined;
  /** The cache folder (`…/huggingface/hub`). */
  readonly cacheDir?: string | undefined;
  /** `false` sends none, even if the environment has one. */
  readonly token?: string | false | undefined;
  /** Another Hub or a mirror. */
  readonly endpoint?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnLoadEvent | undefined;
  /** Use what the cache has, without any request. */
  readonly localFilesOnly?: boolean | undefined;
  /** Hash every cached file again, also those known to be unchanged since they were right. */
  readonly verify?: boolean | undefined;
  readonly limits?: Partial<HubLimits> | undefined;
  /** Instead of `process.env`. */
  readonly env?: EnvironmentVariables | undefined;
  /** Instead of our own transport; then the proxy variables are its business. */
  readonly fetch?: HubFetch | undefined;
  /** How many bytes a folder can take; the file system says by default. */
  readonly freeBytes?: ((folder: string) => Promise<number | undefined>) | undefined;
}

/** What all steps of one call share. */
export interface HubSession {
  readonly repo: string;
  readonly revision: string;
  readonly client: HubClient;
  readonly paths: RepoPaths;
  readonly offline: boolean;
  readonly symlinks: boolean;
  readonly thorough: boolean;
  readonly report: ProgressReport;
  readonly freeBytes: (folder: string) => Promise<number | undefined>;
  /** Closes kept connections. */
  close(): void;
}

/** Throws HubError `repo-id`, `revision`, `endpoint`, `token`. */
export async function openSession(repo: string, options: DownloadOptions): Promise<HubSession> {
  const env = options.env ?? process.env;
  checkRepoId(repo);
  const revision = checkRevision(options.revision ?? 'main');
  const endpoint = endpointFrom(env, options.endpoint);
  const token = await tokenFrom(env, options.token);
  const transport = options.fetch === undefined ? nodeTransport(env) : { fetch: options.fetch, close: () => undefined };
  return {
    repo,
    revision,
    client: {
      fetch: transport.fetch,
      endpoint,
      token,
      signal: options.signal,
      limits: limitsFrom(env, options.limits),
      redirects: 'by-hand',
    },
    paths: repoPaths(options.cacheDir ?? hubCache(env), repo),
    offline: options.localFilesOnly === true || isOffline(env),
    symlinks: !symlinksDisabled(env),
    thorough: options.verify === true,
    report: progressReport(repo, options.onProgress),
    freeBytes: options.freeBytes ?? freeBytes,
    close: transport.close,
  };
}

/** Runs `body` with a session, and closes it whatever happens. */
export async function withSession<T>(
  repo: string,
  options: DownloadOptions,
  body: (session: HubSession) => Promise<T>,
): Promise<T> {
  const session = await openSession(repo, options);
  try {
    session.client.signal?.throwIfAborted();
    return await body(session);
  } finally {
    session.close();
  }
}
