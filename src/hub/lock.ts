/**
 * A lock that processes share: a file that only one can create. Its holder touches it while it lives; a lock whose process is
 * gone (same machine), or that nobody has touched for a minute, is taken away.
 */
import { randomUUID } from 'node:crypto';
import { link, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { pause } from './retry.js';
import { isMissing, makeFolder, storageError } from './storage.js';

/** A lock that is ours. */
export interface Lock {
  /** Was it not taken away meanwhile (a sleeping laptop, a blocked process)? */
  isHeld(): Promise<boolean>;
  release(): Promise<void>;
}

export interface LockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Without a touch for so long, a lock counts as left behind. */
  readonly staleMs?: number;
  /** Pause between looks at a lock of somebody else. */
  readonly pollMs?: number;
}

const UNWRITTEN_MS = 5_000; // a holder that was killed between creating its file and writing into it

/** Waits for the lock at `path` as long as its holder lives. Throws HubError `cache-not-writable`, or the signal's reason. */
export async function acquireLock(
  path: string,
  { signal, staleMs = 60_000, pollMs = 100 }: LockOptions = {},
): Promise<Lock> {
  await makeFolder(dirname(path));
  const mine = JSON.stringify({ pid: process.pid, host: hostname(), id: randomUUID() });
  while (!(await create(path, mine))) {
    signal?.throwIfAborted();
    const theirs = await leftBehind(path, staleMs);
    if (theirs === undefined) await pause(pollMs, signal);
    else await takeAway(path, theirs);
  }
  const touch = () => void utimes(path, new Date(), new Date()).catch(() => undefined);
  const heart = setInterval(touch, staleMs / 6);
  heart.unref();
  const isHeld = async () => (await readFile(path, 'utf8').catch(() => '')) === mine;
  return {
    isHeld,
    async release() {
      clearInterval(heart);
      if (await isHeld()) await rm(path, { force: true });
    },
  };
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
    const [text, { mtimeMs }] = [await readFile(path, 'utf8'), await stat(path)];
    const age = Date.now() - mtimeMs;
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
    if (host !== hostname() || !Number.isSafeInteger(pid)) return false;
    process.kill(pid as number, 0);
    return false;
  } catch (error) {
    return (error as { code?: unknown }).code === 'ESRCH';
  }
}

/** Of several that want to remove the same dead lock one wins the rename; a living lock caught by mistake is put back. */
async function takeAway(path: string, expected: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
    if ((await readFile(aside, 'utf8')) !== expected) await link(aside, path);
  } catch (error) {
    if (!isMissing(error) && (error as { code?: unknown }).code !== 'EEXIST') throw storageError(error, path);
  } finally {
    await rm(aside, { force: true });
  }
}
