/** What the tests of the hub share: a cache folder of their own, impatient limits, and a look at what is left behind. */
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../../src/errors.js';
import type { HubLimits } from '../../src/hub/client.js';
import { seeded } from '../support/fuzz.js';
import type { LocalHub } from '../support/local-hub.js';

export const REPO = 'owner/name';
export const FILE = 'model.safetensors';
export const TOKEN = 'hf_TopSecretToken';
export const IMPATIENT: HubLimits = {
  headersMs: 30_000,
  idleMs: 30_000,
  retries: 2,
  backoffMs: 10,
  retryAfterMs: 60_000,
};
/** For servers that never answer, and for those that stop in the middle. */
export const NO_HEADERS: HubLimits = { ...IMPATIENT, headersMs: 250 };
export const NO_BODY: HubLimits = { ...IMPATIENT, idleMs: 250 };

/** All files and links below a folder, as relative paths. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .sort();
}

/** Nothing half-done is left: no partial file, no temporary file, no lock. */
export function assertTidy(folder: string): void {
  const left = filesBelow(folder).filter((name) => /incomplete|\.tmp$|\.lock$/.test(name));
  assert.deepEqual(left, [], 'left behind');
}

export const sizeBelow = (folder: string): number =>
  filesBelow(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);

/** The error of `work`, which must be a HubError in one line that does not show the token. */
export async function hubErrorOf(work: Promise<unknown>): Promise<HubError> {
  const error = await work.then(
    (value) => assert.fail(`expected an error, got ${JSON.stringify(value)?.slice(0, 200)}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof HubError, `not a HubError: ${error instanceof Error ? error.stack : String(error)}`);
  assert.doesNotMatch(error.message, /[\r\n]/);
  assert.ok(error.message.length <= 300);
  const shown = [error.message, error.detail, error.file, error.path, String(error.cause)].join(' ');
  assert.ok(!shown.includes(TOKEN) && !shown.includes('secret'), `a secret shows: ${shown}`);
  return error;
}

/** After a call no connection to the server stays open: the test's own time limit ends the wait for it. */
export async function assertDisconnected(hub: LocalHub): Promise<void> {
  while (hub.openConnections() > 0) await sleep(5);
}

/** `length` reproducible bytes. */
export function seededBytes(length: number, seed: number): Buffer {
  const random = seeded(seed);
  const words = Uint32Array.from({ length: Math.ceil(length / 4) }, () => random() * 2 ** 32);
  return Buffer.from(words.buffer, 0, length);
}

/** The part of the Cache API that is used, in memory; `room` is how many bytes it takes. */
export function memoryCaches(room = Number.POSITIVE_INFINITY, kept = new Map<string, Uint8Array<ArrayBuffer>>()) {
  const cache = {
    match: async (url: string) => (kept.has(url) ? new Response(kept.get(url)!) : undefined),
    put: async (url: string, response: Response) => {
      const bytes = new Uint8Array(await response.arrayBuffer());
      const used = [...kept.values()].reduce((sum, { length }) => sum + length, 0);
      if (used + bytes.length > room) throw new DOMException('no room', 'QuotaExceededError');
      kept.set(url, bytes);
    },
    delete: async (url: string) => kept.delete(url),
    keys: async () => [...kept.keys()].map((url) => ({ url })),
  };
  const parts = () => [...kept.keys()].filter((key) => /\/parts\/.*\/\d+$/.test(key));
  return { kept, parts, caches: { open: async () => cache as unknown as Cache } };
}

/** One holder of each name at a time, as `navigator.locks`. */
export function memoryLocks() {
  const last = new Map<string, Promise<unknown>>();
  const request = (name: string, _options: object, work: () => Promise<unknown>) => {
    const turn = (last.get(name) ?? Promise.resolve()).then(work, work);
    last.set(name, turn);
    return turn;
  };
  return { request: request as unknown as LockManager['request'] };
}
