/** Trying again, a bounded number of times, with growing pauses that the server may set and nobody may stretch. */
import { HubError } from '../errors.js';
import type { HubClient } from './client.js';
import { isTransient, retryAfterOf } from './failures.js';

const PROGRESS_BYTES = 1 << 20;
const LONGEST_PAUSE_MS = 8_000;

/** Waits, or throws the signal's reason. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
    if (signal?.aborted) end();
  });
}

/** What a body of tries may tell the one who counts them. */
export interface RetryRules {
  /** Which errors are worth another try. */
  readonly again?: (error: unknown) => error is HubError;
  /** Bytes that have arrived: another MiB sets the count of tries back. The highest value counts, so that this ends. */
  readonly arrived?: () => number;
}

/** Runs `attempt` until it succeeds, fails for good, or the client's `retries` are used up; then its last error is thrown. */
export async function withRetries<T>(
  client: HubClient,
  attempt: () => Promise<T>,
  { again = isTransient, arrived = () => 0 }: RetryRules = {},
): Promise<T> {
  let tries = 0;
  let mark = arrived();
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!again(error)) throw error;
      if (arrived() >= mark + PROGRESS_BYTES) [tries, mark] = [0, arrived()];
      if (tries++ >= client.limits.retries) throw error;
      await pause(pauseAfter(error, tries, client), client.signal);
    }
  }
}

function pauseAfter(error: HubError, tries: number, { limits }: HubClient): number {
  const asked = retryAfterOf(error) ?? 0;
  if (asked > limits.retryAfterMs) {
    const detail = `the server asks to wait ${Math.ceil(asked / 1000)} s; try again then`;
    throw new HubError({ file: error.file, code: 'retry-after', detail, cause: error });
  }
  const growing = Math.min(limits.backoffMs * 2 ** (tries - 1), LONGEST_PAUSE_MS);
  return Math.max(asked, growing * (0.75 + 0.5 * Math.random())); // spread, so that many clients do not come back at once
}
