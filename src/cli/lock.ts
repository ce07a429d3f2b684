import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { HubError } from '../errors.js';
import { acquireLock } from '../hub/lock.js';
import { sweepTemporaries } from '../platform/write-whole.js';
import { UsageError } from './errors.js';
import type { Shard } from './inputs.js';

/** What a run holds on its outputs, so that no other run writes them. */
export interface Lock {
  release(): Promise<void>;
}

const lockName = (what: string): string => `.i2t-${createHash('sha256').update(what).digest('hex').slice(0, 12)}`;

/**
 * Locks a file that lines are added to, by a hidden file beside it.
 *
 * @throws UsageError that says who holds it.
 */
export const lockFile = (path: string): Promise<Lock> =>
  acquire(join(dirname(path), `${lockName(basename(path))}.lock`), path);

/**
 * Locks the sidecars of this ending in the folders of these files. Shards of the same number of parts may run beside each other.
 *
 * @throws UsageError that says who holds one of them.
 */
export async function lockFolders(
  files: readonly (string | Buffer)[],
  ending: string,
  shard: Shard | undefined,
): Promise<Lock> {
  const folders = new Set(files.filter((file) => typeof file === 'string').map((file) => dirname(file)));
  const name = lockName(`*${ending}`);
  const part = (run: Shard | undefined): string => (run === undefined ? '' : `-${run.index}-of-${run.count}`);
  const locks: Lock[] = [];
  const release = async (): Promise<void> => {
    for (const lock of locks.splice(0)) await lock.release();
  };
  try {
    for (const folder of [...folders].sort()) {
      await sweepTemporaries(folder);
      const what = `the ${ending} files in ${folder}`;
      locks.push(await acquire(join(folder, `${name}${part(shard)}.lock`), what));
      for (const other of await readdir(folder)) {
        if (!other.startsWith(name) || !other.endsWith('.lock') || other === `${name}${part(shard)}.lock`) continue;
        if (shard !== undefined && other.endsWith(`-of-${shard.count}.lock`)) continue;
        await (await acquire(join(folder, other), what)).release(); // refused while its run is alive
      }
    }
    return { release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** A folder that is not there or cannot be written has nothing to protect: what is written there is reported file by file. */
async function acquire(path: string, what: string): Promise<Lock> {
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (folder?.isDirectory() !== true) return { release: async () => {} };
  const onBusy = (holder: string): never => {
    throw new UsageError(`${what}: another run writes there: ${holder}`);
  };
  try {
    return await acquireLock(path, { onBusy });
  } catch (error) {
    if (error instanceof HubError && error.code !== 'not-a-plain-file') return { release: async () => {} };
    throw error;
  }
}
