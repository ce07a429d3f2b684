import type * as BullMQ from 'bullmq';
import { UsageError } from '../command-line.js';

/** BullMQ, which is installed apart, and where its Redis is. */
export interface Bull {
  readonly sdk: typeof BullMQ;
  readonly connection: { readonly url: string; readonly maxRetriesPerRequest: null };
}

export async function openBull(redis: string): Promise<Bull> {
  const sdk = await import('bullmq').catch(() => {
    throw new UsageError('the queue needs two packages more: npm install bullmq ioredis');
  });
  // Commands wait for a Redis that is away.
  return { sdk, connection: { url: process.env['REDIS_URL'] ?? redis, maxRetriesPerRequest: null } };
}

/** Most seconds that a command at the terminal waits for Redis. */
const MOST_WAIT = 10;

/** Runs `body` with the queue; fails where Redis does not answer. */
export async function withQueue<T>(
  { sdk, connection }: Bull,
  name: string,
  body: (queue: BullMQ.Queue) => Promise<T>,
): Promise<T> {
  const queue = new sdk.Queue(name, { connection });
  let failure: Error | undefined;
  queue.on('error', (error) => {
    failure = error;
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const why = failure === undefined ? 'no answer' : failure.message || (failure as { code?: string }).code;
      reject(
        Object.assign(new Error(`redis at ${connection.url.replace(/\/\/[^@/]*@/, '//')}: ${why}`), { code: 'redis' }),
      );
    }, MOST_WAIT * 1000);
  });
  try {
    await Promise.race([queue.waitUntilReady(), late]);
    clearTimeout(timer);
    return await body(queue);
  } finally {
    clearTimeout(timer);
    await Promise.race([queue.close(), new Promise((resolve) => setTimeout(resolve, 1000))]).catch(() => undefined);
  }
}
