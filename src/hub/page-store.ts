/** What a page keeps of files between visits, in the browser's Cache API, and how tabs share it. */

import { bodyInto } from './client.js';

/** Of the cache, and of the locks. */
const NAME = 'generative-image2text';

/** What is kept between visits, by keys of our own. Nothing here throws: a cache that fails is as good as none. */
export interface Store {
  /** Is there a cache at all? */
  readonly isOpen: boolean;
  get(key: string): Promise<Response | undefined>;
  /** What is kept, if it has this length; in `spare`, which is given away, if that has it too. */
  read(key: string, length: number, spare?: ArrayBuffer): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Resolves to whether it is kept. */
  put(key: string, body: string | Uint8Array<ArrayBuffer>): Promise<boolean>;
  delete(key: string): Promise<void>;
  keys(): Promise<string[]>;
}

/** A disk is waited for, however slow. */
const NEVER = 2 ** 31 - 1;

/** The Cache API wants addresses; nobody can be asked at this one. */
const KEYS = 'https://generative-image2text.invalid/';

export async function openStore(caches: Pick<CacheStorage, 'open'> | null | undefined): Promise<Store> {
  const cache = await openCache(caches);
  let isFull = cache === undefined;
  const get = async (key: string): Promise<Response | undefined> => cache?.match(KEYS + key).catch(() => undefined);
  return {
    isOpen: cache !== undefined,
    get,
    async read(key, length, spare) {
      const response = await get(key);
      if (response === undefined) return undefined;
      const empty = spare?.byteLength === length ? spare : new ArrayBuffer(length);
      try {
        const { buffer, filled } = await bodyInto(response, new URL(KEYS), empty, NEVER, undefined);
        return filled === length ? new Uint8Array(buffer) : undefined;
      } catch {
        return undefined;
      }
    },
    async put(key, body) {
      if (isFull) return false; // usable now, fetched again next time
      await cache?.put(KEYS + key, new Response(body)).catch(() => {
        isFull = true;
      });
      return !isFull;
    },
    async delete(key) {
      await cache?.delete(KEYS + key).catch(() => undefined);
    },
    async keys() {
      const requests = (await cache?.keys().catch(() => undefined)) ?? [];
      return requests.map(({ url }) => url).flatMap((url) => (url.startsWith(KEYS) ? [url.slice(KEYS.length)] : []));
    },
  };
}

/** Pages that are not served securely have no cache; sandboxed frames may not even ask for one. */
async function openCache(caches: Pick<CacheStorage, 'open'> | null | undefined): Promise<Cache | undefined> {
  try {
    return await (caches === undefined ? globalThis.caches : caches)?.open(NAME);
  } catch {
    return undefined;
  }
}

export function lockManager(
  locks: Pick<LockManager, 'request'> | null | undefined,
): Pick<LockManager, 'request'> | undefined {
  try {
    return (locks === undefined ? globalThis.navigator?.locks : locks) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Runs `work` while no other tab runs some of this name; at once where there are no locks. */
export async function alone<T>(
  locks: Pick<LockManager, 'request'> | undefined,
  name: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  if (locks === undefined) return work();
  let isOurTurn = false;
  const inTurn = (): Promise<T> => {
    isOurTurn = true;
    return work();
  };
  try {
    return (await locks.request(`${NAME} ${name}`, signal === undefined ? {} : { signal }, inTurn)) as T;
  } catch (error) {
    signal?.throwIfAborted();
    if (isOurTurn) throw error;
    return work(); // a sandboxed frame has no locks
  }
}

/** Where the parts of the contents of this name are kept. */
export const partsOf = (content: string): string => `parts/${content}/`;
export const partKey = (content: string, index: number): string => `${partsOf(content)}${index}`;

/** Instead of the index of a part: the note that all of them were checked together. */
export const CHECKED = -1;
