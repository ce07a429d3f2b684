/** Reading the body of an answer: with an idle limit, with abort, and never leaving a connection open behind it. */
import { HubError } from '../errors.js';
import { publicUrl } from './address.js';
import { networkError } from './failures.js';

/** Drops a body that nobody will read, which frees its connection. */
export async function discard(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => undefined);
}

/** Settles as `work` does, unless the signal or the clock is first. */
function within<T>(work: Promise<T>, ms: number, late: () => Error, signal: AbortSignal | undefined): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => settle(() => reject(late())), ms);
    const onAbort = () => settle(() => reject(signal?.reason));
    const settle = (act: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      act();
    };
    signal?.addEventListener('abort', onAbort);
    work.then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    );
  });
}

/**
 * The chunks of a body as they arrive. Leaving the loop early, by `break` or by an error, cancels the body.
 * Throws HubError `idle-timeout` when nothing comes for `idleMs`, `connection-lost`, or the signal's reason.
 */
export async function* bodyChunks(
  response: Response,
  url: URL,
  idleMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const late = () =>
    new HubError({ file: publicUrl(url), code: 'idle-timeout', detail: `the server sent nothing for ${idleMs} ms` });
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await within(reader.read(), idleMs, late, signal).catch((error: unknown) => {
        throw signal?.aborted ? signal.reason : networkError(error, url);
      });
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** A whole body of at most `limit` bytes, as UTF-8 text. Throws HubError `body-too-long`, and as `bodyChunks` does. */
export async function bodyText(
  response: Response,
  url: URL,
  limit: number,
  idleMs: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  let length = 0;
  for await (const chunk of bodyChunks(response, url, idleMs, signal)) {
    length += chunk.byteLength;
    if (length > limit) {
      throw new HubError({ file: publicUrl(url), code: 'body-too-long', detail: `the answer exceeds ${limit} bytes` });
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
