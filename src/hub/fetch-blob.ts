/** Brings the bytes of one blob into its partial file, by as many requests as it takes. */
import { HubError, quote } from '../errors.js';
import { bodyChunks, discard } from './body.js';
import { type HubClient, send } from './client.js';
import { isAbsent, isTransient, statusError } from './failures.js';
import type { PartialFile } from './partial-file.js';
import { withRetries } from './retry.js';

/** What is fetched: how to name it in messages, where it is, and how long it is. */
export interface BlobRequest {
  readonly label: string;
  readonly address: string;
  readonly size: number;
}

/**
 * Fetches until `partial` holds `size` bytes: each request asks for what is missing; an answer that is not exactly that starts
 * from byte 0. Nothing past `size` is ever written.
 * Throws HubError `size-mismatch`, `body-too-long`, `short-body`, `range-refused`, those of `statusError` and of `send`.
 */
export async function fetchBlob(
  client: HubClient,
  request: BlobRequest,
  partial: PartialFile,
  onBytes: (position: number) => void,
): Promise<void> {
  let seen: string | undefined; // the strong etag of the storage itself, which is not the Hub's name for the content
  const attempt = async () => {
    const { response, url } = await send(client, 'GET', request.address, {
      'accept-encoding': 'identity',
      ...(partial.position > 0 ? { range: `bytes=${partial.position}-` } : {}),
      ...(partial.position > 0 && seen !== undefined ? { 'if-range': seen } : {}),
    });
    try {
      await acceptAnswer(client, request, partial, response, seen);
    } catch (error) {
      await discard(response);
      throw error;
    }
    seen = strongEtag(response);
    for await (const chunk of bodyChunks(response, url, client.limits.idleMs, client.signal)) {
      if (partial.position + chunk.length > request.size) {
        throw new HubError({
          file: request.label,
          code: 'body-too-long',
          detail: `the server sent more than the declared ${request.size} bytes`,
        });
      }
      await partial.write(chunk);
      onBytes(partial.position);
    }
    if (partial.position < request.size) {
      const detail = `the body ended after ${partial.position} of ${request.size} bytes`;
      throw new HubError({ file: request.label, code: 'short-body', detail });
    }
  };
  if (partial.position === request.size) return;
  await withRetries(client, attempt, {
    again: (error): error is HubError => isTransient(error) || isAbsent(error),
    arrived: () => partial.position,
  });
}

const strongEtag = (response: Response): string | undefined => {
  const etag = response.headers.get('etag');
  return etag?.startsWith('"') ? etag : undefined;
};

/** Checks the headers of an answer against what was asked, and empties the partial file where it cannot be continued. */
async function acceptAnswer(
  client: HubClient,
  { label, size }: BlobRequest,
  partial: PartialFile,
  response: Response,
  seen: string | undefined,
): Promise<void> {
  const { status, headers } = response;
  const encoded = !/^(?:identity)?$/i.test(headers.get('content-encoding') ?? '');
  if (status === 200) {
    const length = headers.get('content-length');
    if (length !== null && !encoded && Number(length) !== size) {
      const detail = `the server sends ${quote(length)} bytes, but declared ${size}`;
      throw new HubError({ file: label, code: 'size-mismatch', detail });
    }
    if (partial.position > 0) await partial.restart();
    return;
  }
  if (status === 206 || status === 416) {
    const same = seen === undefined || (strongEtag(response) ?? seen) === seen;
    const range = headers.get('content-range') ?? '';
    if (status === 206 && !encoded && same && partial.position > 0 && continues(range, partial.position, size)) return;
    await partial.restart();
    const detail = `the server cannot continue the download (${status}, Content-Range ${quote(range)})`;
    throw new HubError({ file: label, code: 'range-refused', detail });
  }
  throw statusError(response, label, client.endpoint, client.token);
}

function continues(range: string, position: number, size: number): boolean {
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? [];
  if (first === undefined || last === undefined) return false;
  return Number(first) === position && Number(last) < size && (total === '*' || Number(total) === size);
}
