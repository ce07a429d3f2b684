/**
 * A lock that processes share: a file that only one can create. Its holder's heartbeat touches it; a lock whose process is gone (same
 * machine), or that nobody has touched for a minute, is reclaimed.
 */
import { randomUUID } from 'node:crypto';
import { link, lstat, lutimes, open, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { HubError } from '../errors.js';
import { isRunning, temporaryIn } from '../platform/write-whole.js';
import { isMissing, makeFolder, readSmall, storageError } from './cache.js';
import { wait } from './client.js';

/** A lock that is ours. */
export interface Lock {
  /** Was it not reclaimed meanwhile (a sleeping laptop, a blocked process)? */
  isHeld(): Promise<boolean>;
  release(): Promise<void>;
}

export interface LockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Without a heartbeat for so long, a lock counts as left behind. */
  readonly staleMs?: number;
  /** Pause between two looks at a lock of somebody else. */
  readonly pollMs?: number;
  /** Is called each time that somebody else is found to hold it, with `process 12 on HOST`; what it throws ends the wait. */
  readonly onBusy?: (holder: string) => void;
}

const UNWRITTEN_MS = 5_000; // a holder that was killed between creating its file and writing into it

/** Waits for the lock at `path` as long as its holder lives. Throws HubError as `storageError`, or the signal's reason. */
export async function acquireLock(
  path: string,
  { signal, staleMs = 60_000, pollMs = 100, onBusy }: LockOptions = {},
): Promise<Lock> {
  await makeFolder(dirname(path));
  const mine = JSON.stringify({ pid: process.pid, host: hostname(), id: randomUUID() });
  while (!(await create(path, mine))) {
    signal?.throwIfAborted();
    const theirs = await leftBehind(path, staleMs);
    if (theirs === undefined) {
      onBusy?.(await holderOf(path));
      await wait(pollMs, signal);
    } else await reclaim(path, theirs);
  }
  const touch = () => void lutimes(path, new Date(), new Date()).catch(() => undefined);
  const heartbeat = setInterval(touch, staleMs / 6);
  heartbeat.unref();
  const isHeld = async () => (await readSmall(path).catch(() => '')) === mine;
  return {
    isHeld,
    async release() {
      clearInterval(heartbeat);
      if (await isHeld()) await rm(path, { force: true });
    },
  };
}

async function holderOf(path: string): Promise<string> {
  const [, pid, host] = /^\{"pid":(\d+),"host":"([^"]*)"/.exec(await readSmall(path).catch(() => '')) ?? [];
  return pid === undefined ? 'another process' : `process ${pid} on ${host}`;
}

async function create(path: string, text: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    await file.writeFile(text).finally(() => file.close());
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EEXIST') return false;
    throw storageError(error, path);
  }
}

/** The text of a lock that nobody holds any more; undefined while it is held, or gone. */
async function leftBehind(path: string, staleMs: number): Promise<string | undefined> {
  try {
    const stats = await lstat(path);
    if (!stats.isFile()) {
      const detail = 'here is a link or a device where a lock belongs; it was left as it is: remove it';
      throw new HubError({ file: path, code: 'not-a-plain-file', detail });
    }
    const text = await readSmall(path);
    const age = Date.now() - stats.mtimeMs;
    const dead = text === '' ? age > UNWRITTEN_MS : isDead(text);
    return dead || age > staleMs ? text : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw storageError(error, path);
  }
}

function isDead(text: string): boolean {
  try {
    const { pid, host } = JSON.parse(text) as { pid?: unknown; host?: unknown };
    return host === hostname() && Number.isSafeInteger(pid) && !isRunning(pid as number);
  } catch {
    return false;
  }
}

/** Of several that want to remove the same dead lock one wins the rename; a living lock caught by mistake is put back. */
async function reclaim(path: string, expected: string): Promise<void> {
  const aside = temporaryIn(dirname(path));
  try {
    await rename(path, aside);
    if ((await readSmall(aside)) !== expected) await link(aside, path);
  } catch (error) {
    if (!isMissing(error) && (error as { code?: unknown }).code !== 'EEXIST') throw storageError(error, path);
  } finally {
    await rm(aside, { force: true });
  }
}
