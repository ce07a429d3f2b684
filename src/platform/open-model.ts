import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { WeightFormat } from 'tfjs-backend-simd';
import type { ModelFiles } from '../checkpoint/byte-source.js';

import { ConfigError, HubError, quote } from '../errors.js';
import type { DownloadOptions } from '../hub/download.js';
import { endpointFrom } from '../hub/environment.js';
import { closestName, parseHubAddress } from '../hub/names.js';
import { downloadSnapshot, type SnapshotOptions } from '../hub/snapshot.js';
import type { LoadOptions } from '../image2text/load.js';
import { listModels } from '../tools/models.js';
import { fromDirectory } from './node-files.js';

/** Where a named checkpoint may come from. */
export type HubOptions = Pick<
  DownloadOptions,
  'revision' | 'cacheDir' | 'token' | 'endpoint' | 'localFilesOnly' | 'signal' | 'onProgress' | 'env'
> & {
  /**
   * How the model is going to keep its weights on the current backend: those too large for its memory are refused by their headers, before they
   * are downloaded. Default: they are not looked at.
   */
  readonly weights?: WeightFormat | undefined;
};

/** `owner/name`, as the Hub names repositories. */
export const REPOSITORY = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/** The small checkpoint that comes with the package, by name. A folder of that name is `./demo`. */
const DEMO = 'demo';
// Not by `new URL('…', import.meta.url)`, which bundlers take for a file to copy.
const DEMO_FOLDER = join(dirname(fileURLToPath(import.meta.url)), '../../weights/demo');

/**
 * Opens the demo, a folder, or brings a repository of the Hub, given by name or by address, into the cache that Python's tools share and opens it
 * there. A folder of that name goes first.
 *
 * @throws ConfigError for a path that is no folder; HubError when it cannot be had. Both name the published model that was probably meant.
 *   BackendError (`memory-limit`) with `weights`.
 */
export async function openModel(model: string, options: HubOptions = {}): Promise<ModelFiles> {
  if (model === DEMO) return { ...(await fromDirectory(DEMO_FOLDER)), label: DEMO };
  const isFolder = (await stat(model).catch(() => undefined))?.isDirectory() === true;
  if (isFolder) return fromDirectory(model);
  const address = parseHubAddress(model, endpointFrom(options.env ?? process.env, options.endpoint));
  const repo = address?.repo ?? model;
  if (address === undefined && !REPOSITORY.test(model)) return withAdvice(model, () => fromDirectory(model));
  const revision = options.revision ?? address?.revision;
  if (address?.revision !== undefined && revision !== address.revision) {
    const detail = `the address says ${quote(address.revision)}, the option says ${quote(String(revision))}`;
    throw new HubError({ path: 'revision', code: 'revision', detail });
  }
  const { weights, ...hub } = options;
  const beforeWeights = weights && (await downloadCheck({ weights, signal: options.signal }));
  return withAdvice(model, async () => {
    const { directory } = await downloadSnapshot(repo, { ...hub, revision, beforeWeights });
    return { ...(await fromDirectory(directory)), label: repo, repository: repo };
  });
}

/** Loads the model API only where a model is going to be loaded. */
async function downloadCheck(
  options: Pick<LoadOptions, 'weights' | 'signal'>,
): Promise<NonNullable<SnapshotOptions['beforeWeights']>> {
  const { checkDownload } = await import('../image2text/load.js');
  return (files, bytes) => checkDownload(files, bytes, options);
}

/** What the Hub says of a repository that does not exist, to those who may not know whether it does. */
const UNKNOWN = new Set(['repo-not-found', 'not-found', 'unauthorized', 'not-cached', 'unreachable', 'not-a-folder']);

async function withAdvice(model: string, open: () => Promise<ModelFiles>): Promise<ModelFiles> {
  try {
    return await open();
  } catch (error) {
    if (!(error instanceof HubError || error instanceof ConfigError)) throw error;
    const { file, path, code, detail } = error;
    const meant = UNKNOWN.has(code)
      ? closestName(
          model,
          listModels().map(({ id }) => id),
        )
      : undefined;
    const question = meant === undefined ? '' : `did you mean ${meant}? `;
    if (error instanceof ConfigError) {
      if (meant === undefined) throw error;
      throw new ConfigError({ file, path, code, detail: question + detail, cause: error });
    }
    const noFolder = REPOSITORY.test(model) ? ` (and there is no folder ${model} here)` : '';
    throw new HubError({ file, path, code, detail: `${question}${detail}${noFolder}`, cause: error });
  }
}
