/**
 * A `fetch` for Node on `node:http`: it obeys the proxy variables (the built-in one ignores them before Node 24), trusts the
 * certificates that Node trusts, reads no faster than its reader, and can close every connection it opened.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { isIP, type Socket } from 'node:net';
import { pipeline, type Readable } from 'node:stream';
import { connect as tlsConnect } from 'node:tls';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import { HubError, quote } from '../errors.js';
import type { HubFetch } from './client.js';
import type { EnvironmentVariables } from './environment.js';
import { publicUrl } from './names.js';

/** A `fetch`, and the connections that it keeps. */
export interface Transport {
  readonly fetch: HubFetch;
  /** Closes kept connections. The transport can still be used. */
  close(): void;
}

/** `ca`: certificates in PEM that are trusted instead of Node's own (a company's proxy, a test). */
export function nodeTransport(env: EnvironmentVariables, ca?: string): Transport {
  const agents = {
    http: new HttpAgent({ keepAlive: true }),
    https: new HttpsAgent({ keepAlive: true, ...(ca === undefined ? {} : { ca }) }),
  };

  const open = (url: URL, init: Parameters<HubFetch>[1]): Promise<IncomingMessage> => {
    const proxy = proxyFor(url, env);
    const secure = url.protocol === 'https:';
    const path = `${url.pathname}${url.search}`;
    const headers = { host: url.host, 'user-agent': 'generative-image2text', ...init.headers }; // signed addresses sign the host
    const common = { method: init.method, signal: init.signal, headers };
    if (proxy === undefined) {
      const agent = secure ? agents.https : agents.http;
      return answerOf(secure, { ...common, ...hostAndPort(url), path, agent });
    }
    if (secure) {
      const createConnection = tunnelMaker(proxy, url, init.signal, ca);
      return answerOf(true, { ...common, ...hostAndPort(url), path, createConnection });
    }
    const forward = { ...hostAndPort(proxy), path: `${url.origin}${path}`, agent: false as const };
    return answerOf(proxy.protocol === 'https:', {
      ...common,
      ...forward,
      headers: { ...headers, ...proxyHeaders(proxy) },
    });
  };

  return {
    fetch: async (address, init) => {
      init.signal.throwIfAborted();
      return toResponse(await open(new URL(address), init), init.method);
    },
    close() {
      agents.http.destroy();
      agents.https.destroy();
    },
  };
}

function answerOf(secure: boolean, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = (secure ? httpsRequest : httpRequest)(options, resolve);
    request.once('error', (error) => reject(options.signal?.aborted ? options.signal.reason : error));
    request.once('close', () => reject(new Error('the connection closed without an answer'))); // as after a 101
    request.end();
  });
}

function tunnelMaker(...where: Parameters<typeof openTunnel>): NonNullable<RequestOptions['createConnection']> {
  return (_, done) => {
    openTunnel(...where).then(
      (socket) => done(null, socket),
      (error) => done(error, undefined as never),
    );
    return undefined;
  };
}

function toResponse(message: IncomingMessage, method: string): Response {
  const status = message.statusCode ?? 0;
  const bodiless = method === 'HEAD' || status === 204 || status === 304;
  try {
    const headers = new Headers();
    for (const [name, value] of Object.entries(message.headers)) {
      for (const one of [value].flat()) headers.append(name, one ?? '');
    }
    if (bodiless) message.resume(); // or the connection would never come back
    return new Response(bodiless ? null : toStream(decoded(message)), { status, headers });
  } catch (error) {
    message.destroy();
    throw error;
  }
}

/** As the built-in `fetch` does: a body that was encoded on the way, although nobody asked for it, is decoded. */
function decoded(message: IncomingMessage): Readable {
  const encoding = (message.headers['content-encoding'] ?? '').trim().toLowerCase();
  const decoders: Record<string, typeof createGunzip> = {
    gzip: createGunzip,
    'x-gzip': createGunzip,
    deflate: createInflate,
    br: createBrotliDecompress as unknown as typeof createGunzip,
  };
  const decoder = Object.hasOwn(decoders, encoding) ? decoders[encoding] : undefined;
  return decoder === undefined ? message : pipeline(message, decoder(), () => undefined); // the reader sees its errors
}

/** `Readable.toWeb` would buffer by count of chunks, not bytes: up to a GiB. This one pulls. */
function toStream(readable: Readable): ReadableStream<Uint8Array> {
  const iterator = readable[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
      },
      cancel: () => void readable.destroy(),
    },
    { highWaterMark: 0 },
  );
}

const bare = (hostname: string): string => hostname.replace(/^\[|\]$/g, '');

/**
 * The proxy for `url`: `HTTPS_PROXY` or `HTTP_PROXY` by its scheme, else `ALL_PROXY`, small letters first, unless `NO_PROXY`
 * names the host (`*`, `host`, `.domain`, `host:port`). Throws HubError `proxy` for anything but an http or https proxy.
 */
export function proxyFor(url: URL, env: EnvironmentVariables): URL | undefined {
  const read = (name: string) => env[name.toLowerCase()] || env[name] || '';
  const text = (read(url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY') || read('ALL_PROXY')).trim();
  if (text === '' || isExempt(url, read('NO_PROXY'))) return undefined;
  const address = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(address) || !/^https?:$/.test(new URL(address).protocol)) {
    const shown = quote(text.replace(/\/\/[^@/]*@/, '//'));
    throw new HubError({ path: 'proxy', code: 'proxy', detail: `${shown} is not an http or https proxy` });
  }
  return new URL(address);
}

function isExempt(url: URL, noProxy: string): boolean {
  const host = bare(url.hostname).toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((code) => code !== '')
    .some((code) => {
      const [, name = code, rulePort = port] = isIP(bare(code))
        ? ['', bare(code)]
        : (/^(.*?)(?::(\d+))?$/.exec(code) ?? []);
      const domain = name.replace(/^\*?\./, '');
      return rulePort === port && (name === '*' || host === domain || host.endsWith(`.${domain}`));
    });
}

/** The header that a proxy with user and password in its address wants. */
export function proxyHeaders(proxy: URL): Record<string, string> {
  if (proxy.username === '' && proxy.password === '') return {};
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` };
}

/** Host and port of an address as `node:http` wants them. */
export function hostAndPort(url: URL): { hostname: string; port: string | number } {
  return { hostname: bare(url.hostname), port: url.port || (url.protocol === 'https:' ? 443 : 80) };
}

/** Asks `proxy` for a connection to the host of `url` (CONNECT), and speaks TLS with that host inside it. */
export async function openTunnel(proxy: URL, url: URL, signal: AbortSignal, ca: string | undefined): Promise<Socket> {
  const socket = await connectThrough(proxy, url, signal);
  const host = bare(url.hostname);
  return new Promise((resolve, reject) => {
    const secure = tlsConnect({
      socket,
      host,
      ALPNProtocols: ['http/1.1'],
      ...(isIP(host) ? {} : { servername: host }),
      ...(ca === undefined ? {} : { ca }),
    });
    secure.once('secureConnect', () => {
      secure.off('error', reject);
      resolve(secure);
    });
    secure.once('error', reject);
    signal.addEventListener('abort', () => secure.destroy(signal.reason), { once: true });
  });
}

function connectThrough(proxy: URL, url: URL, signal: AbortSignal): Promise<Socket> {
  const request = proxy.protocol === 'https:' ? httpsRequest : httpRequest;
  const { hostname, port } = hostAndPort(url);
  const target = `${isIP(hostname) === 6 ? `[${hostname}]` : hostname}:${port}`;
  return new Promise((resolve, reject) => {
    const ask = request({
      ...hostAndPort(proxy),
      method: 'CONNECT',
      path: target,
      headers: { host: target, ...proxyHeaders(proxy) },
      agent: false,
      signal,
    });
    ask.once('connect', (answer: IncomingMessage, socket: Socket) => {
      if (answer.statusCode === 200) return resolve(socket);
      socket.destroy();
      reject(refusal(proxy, answer.statusCode));
    });
    ask.once('response', (answer) => {
      answer.destroy();
      reject(refusal(proxy, answer.statusCode));
    });
    ask.once('error', reject);
    ask.end();
  });
}

function refusal(proxy: URL, status: number | undefined): HubError {
  const why =
    status === 407 ? 'it wants a user and password, as in http://user:password@host' : `it answered ${status}`;
  return new HubError({
    file: publicUrl(proxy),
    code: 'proxy-refused',
    detail: `the proxy opened no connection: ${why}`,
  });
}
