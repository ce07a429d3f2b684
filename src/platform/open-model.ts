import { stat } from 'node:fs/promises';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { HubError } from '../errors.js';
import type { DownloadOptions } from '../hub/download.js';
import { downloadSnapshot } from '../hub/snapshot.js';
import { fromDirectory } from './directory.js';

/** Where a named checkpoint may come from. */
export type HubOptions = Pick<
  DownloadOptions,
  'revision' | 'cacheDir' | 'token' | 'endpoint' | 'localFilesOnly' | 'signal' | 'onProgress' | 'env'
>;

/** `owner/name`, as the Hub names repositories. */
const REPOSITORY = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/**
 * Opens a folder, or brings a repository of the Hub into the cache that Python's tools share and opens it there. A folder of that name
 * goes first.
 *
 * @throws ConfigError for a path that is no folder; HubError when it cannot be had.
 */
export async function openModel(model: string, options: HubOptions = {}): Promise<ModelFiles> {
  const isFolder = (await stat(model).catch(() => undefined))?.isDirectory() === true;
  if (isFolder || !REPOSITORY.test(model)) return fromDirectory(model);
  try {
    const { directory } = await downloadSnapshot(model, options);
    return { ...(await fromDirectory(directory)), label: model };
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    const { file, path, code, detail } = error;
    throw new HubError({ file, path, code, detail: `${detail} (and there is no folder ${model} here)`, cause: error });
  }
}
