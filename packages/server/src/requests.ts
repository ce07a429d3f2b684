import { Image2TextError, ImageError, OptionError } from 'generative-image2text';
import { fetchPublic } from './addresses.js';
import type { ServeOptions } from './options.js';

/** An answer that is no success: what every API wraps in its own form. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

/** What a client is told of a failure; faults of our own say nothing of what is inside. */
export function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof OptionError) return new HttpError(400, error.code, messageOf(error));
  if (error instanceof ImageError) return new HttpError(422, error.code, messageOf(error));
  if ((error as Error | undefined)?.name === 'DisposedError')
    return new HttpError(503, 'stopping', 'the server is about to stop', { 'Retry-After': '5' });
  if (error instanceof Image2TextError && error.code === 'not-a-video-model')
    return new HttpError(400, error.code, messageOf(error));
  return new HttpError(500, 'internal', 'something failed here; the server has a line about it in its log');
}

const messageOf = ({ path, detail }: Image2TextError): string => (path === undefined ? detail : `${path}: ${detail}`);

/** Limits that requests share. */
export interface Limits
  extends Required<{
    readonly [Name in 'maxRequests' | 'maxStreams' | 'maxBody' | 'maxBuffered']: NonNullable<ServeOptions[Name]>;
  }> {}

/** A request that is being read, waits or is computed. */
export interface Ticket {
  /** Room for bytes of its body. @throws HttpError 503 where there is none. */
  reserve(bytes: number): void;
  leave(): void;
}

/** Who may come in. Everything that waits anywhere in the server is counted here, so that nothing grows without bound. */
export class Admission {
  #inside = 0;
  #buffered = 0;
  #streams = 0;
  #secondsEach = 0.1;
  #lastLeft = performance.now();
  readonly #waiting: (() => void)[] = [];

  constructor(readonly limits: Limits) {}

  get inside(): number {
    return this.#inside;
  }
  get buffered(): number {
    return this.#buffered;
  }
  get streams(): number {
    return this.#streams;
  }

  /** @throws HttpError 503 with Retry-After where as many are inside as may be. */
  enter(): Ticket {
    if (this.#inside >= this.limits.maxRequests) throw this.#busy(`${this.#inside} requests are being served`);
    if (this.#inside === 0) this.#lastLeft = performance.now();
    this.#inside++;
    let bytes = 0;
    let left = false;
    return {
      reserve: (more) => {
        if (this.#buffered + more > this.limits.maxBuffered) throw this.#busy('too much is being sent at once');
        this.#buffered += more;
        bytes += more;
      },
      leave: () => {
        if (left) return;
        left = true;
        this.#inside--;
        this.#buffered -= bytes;
        const now = performance.now();
        this.#secondsEach += 0.1 * ((now - this.#lastLeft) / 1000 - this.#secondsEach);
        this.#lastLeft = now;
      },
    };
  }

  /** Runs a text that is written word by word, when there is room for one more. */
  async *streaming<T>(events: AsyncGenerator<T, void, void>, signal: AbortSignal): AsyncGenerator<T, void, void> {
    while (this.#streams >= this.limits.maxStreams) await this.#turn(signal);
    this.#streams++;
    try {
      yield* events;
    } finally {
      this.#streams--;
      this.#waiting.shift()?.();
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1);
        reject(signal.reason);
      };
      const go = (): void => {
        signal.removeEventListener('abort', abort);
        resolve();
      };
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      this.#waiting.push(go);
    });
  }

  #busy(why: string): HttpError {
    const seconds = Math.min(60, Math.max(1, Math.ceil((this.#inside * this.#secondsEach) / 2)));
    return new HttpError(503, 'busy', `${why}; try again in ${seconds} s`, { 'Retry-After': String(seconds) });
  }
}

/** The body of a request, within its limits. @throws HttpError 413, 503; the signal's reason. */
export async function readBody(
  request: Request,
  ticket: Ticket,
  maxBody: number,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const tooLarge = (): HttpError => new HttpError(413, 'body-too-large', `more than ${maxBody} bytes`);
  const declared = Number(request.headers.get('content-length') ?? 0);
  if (declared > maxBody) throw tooLarge();
  ticket.reserve(declared);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = request.body?.getReader();
  const stop = (): void => void reader?.cancel().catch(() => undefined);
  signal.addEventListener('abort', stop, { once: true });
  try {
    while (reader !== undefined) {
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) break;
      size += value.length;
      if (size > maxBody) throw tooLarge();
      if (size > declared) ticket.reserve(value.length);
      chunks.push(value);
    }
  } catch (error) {
    stop();
    if (error instanceof HttpError || signal.aborted) throw error;
    throw new HttpError(400, 'broken-body', 'the request ended before its body was whole');
  } finally {
    signal.removeEventListener('abort', stop);
  }
  const body = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}

/** A JSON object. @throws HttpError 400. */
export function parseObject(body: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new HttpError(400, 'not-json', 'the body is not JSON in UTF-8');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new HttpError(400, 'not-an-object', 'the body is not a JSON object');
}

/** Bytes in base64, also as a data: URL; http addresses where they are allowed. Never a path. */
export async function imageOf(
  source: unknown,
  path: string,
  { fetch, maxBody, ticket }: { fetch: string; maxBody: number; ticket: Ticket },
  signal: AbortSignal,
): Promise<Uint8Array> {
  if (typeof source !== 'string' || source === '')
    throw new HttpError(400, 'image-missing', `${path}: expected an image as base64 or a data: URL`);
  if (/^https?:/i.test(source)) {
    if (fetch === 'none')
      throw new HttpError(
        400,
        'addresses-not-allowed',
        `${path}: this server fetches no addresses (--fetch allows it)`,
      );
    const bytes = await fetchPublic(source, { maxBytes: maxBody, allowPrivate: fetch === 'all', signal });
    ticket.reserve(bytes.length);
    return bytes;
  }
  const data = /^data:[^,]{0,200};base64,/i.exec(source)?.[0];
  if (data === undefined && /^[a-z]+:/i.test(source))
    throw new HttpError(400, 'not-base64', `${path}: expected base64, or a data: URL with base64`);
  return fromBase64(source.slice(data?.length ?? 0), path);
}

function fromBase64(text: string, path: string): Uint8Array {
  const bytes = decodeBase64(text.replace(/\s+/g, ''));
  if (bytes !== undefined) return bytes;
  throw new HttpError(400, 'not-base64', `${path}: expected base64`);
}

/** The bytes of a text; undefined where it is not base64. Node's decoder passes over what is not, so the length tells. */
export function decodeBase64(text: string): Uint8Array | undefined {
  const digits = text.replace(/={1,2}$/, '').length;
  const bytes = Buffer.from(text, 'base64');
  return digits % 4 !== 1 && bytes.length === Math.floor((digits * 3) / 4) ? new Uint8Array(bytes) : undefined;
}
