import { realpath, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { ConfigError, HubError } from '../errors.js';
import { checkRepoId } from '../hub/names.js';
import { downloadSnapshot, type SnapshotOptions } from '../hub/snapshot.js';

/** A checkpoint on this machine. */
export interface ModelFolder {
  readonly directory: string;
  /** Its name on the Hub: as it was asked for, or as the folder's path says. */
  readonly id: string | undefined;
}

/**
 * The folder of a model that is named by its path, or by its name on the Hub, from where it is fetched unless the cache has it. A folder
 * of that name wins.
 *
 * @throws ConfigError (`no-such-model`) for what can be neither; HubError; the signal's reason.
 */
export async function modelFolder(model: string, options: SnapshotOptions = {}): Promise<ModelFolder> {
  const found = await stat(model).catch(() => undefined);
  if (found?.isDirectory() === true) return { directory: model, id: await idOfFolder(model) };
  if (found !== undefined || !isRepoId(model)) {
    const detail = 'this is no folder, and no name on the Hub such as microsoft/git-base-coco';
    throw new ConfigError({ file: model, rule: 'no-such-model', detail });
  }
  return { directory: (await downloadSnapshot(model, options)).directory, id: model };
}

function isRepoId(model: string): boolean {
  try {
    return checkRepoId(model).includes('/');
  } catch (error) {
    if (error instanceof HubError) return false;
    throw error;
  }
}

/** The Hub's cache names its folders `models--owner--name`; others are taken for Microsoft's by their last part. */
async function idOfFolder(directory: string): Promise<string | undefined> {
  const path = await realpath(directory);
  const [, owner, name] = /[\\/]models--([^\\/]+?)--([^\\/]+?)[\\/]/.exec(`${path}/`) ?? [];
  if (owner !== undefined) return `${owner}/${name}`;
  const last = basename(path);
  return last.startsWith('git-') ? `microsoft/${last}` : undefined;
}
