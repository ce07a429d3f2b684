import { createHash, timingSafeEqual } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import type { CaptionOptions } from 'generative-image2text';
import { checkOptions } from 'generative-image2text/options';
import { type Context, Hono } from 'hono';
import { cors } from 'hono/cors';
import type { ModelHost } from './host.js';
import { Metrics } from './metrics.js';
import * as ollama from './ollama.js';
import * as openai from './openai.js';
import { docsPage, openApi } from './openapi.js';
import { type ServeOptions, serverOptions } from './options.js';
import { OPERATIONS, type Operation, operate, failure as plainFailure } from './plain.js';
import { Admission, HttpError, readBody, toHttpError } from './requests.js';
import type { Received, Service } from './service.js';

type Env = { Bindings: HttpBindings };
type Handler = (service: Service, received: Received) => Response | Promise<Response>;
type Failure = (error: HttpError) => object;

export interface RunningServer {
  /** `http://127.0.0.1:11434`. */
  readonly url: string;
  /** Says that the server is not ready any more, lets what runs end within `grace` seconds, and frees the model. */
  stop(): Promise<void>;
}

export interface ServerParts {
  readonly options?: ServeOptions;
  /** What the server does where a request does not say. */
  readonly generation?: CaptionOptions;
  /** Receives faults of our own, and with `accessLog` a line for each request. */
  readonly log?: (line: string) => void;
  readonly metrics?: Metrics;
}

/** Status in the metrics of requests whose client left, as nginx has it. */
const CLIENT_LEFT = 499;

/**
 * Serves a model, which it owns from here on.
 *
 * @throws OptionError; the system's error where the port is taken.
 */
export async function startServer(
  host: ModelHost,
  { options, generation = {}, log = () => {}, metrics = new Metrics() }: ServerParts = {},
): Promise<RunningServer> {
  const settings = checkOptions(options, serverOptions, 'serve');
  const admission = new Admission(settings);
  const service: Service = { host, settings, generation, admission, metrics };
  const stopping = new AbortController();
  let ready = true;
  const app = new Hono<Env>();
  const isLocal = isLoopback(settings.host);

  app.use(async (c, next) => {
    if (isLocal && !isLoopback(nameOf(c.req.header('host') ?? 'localhost')))
      return c.json({ error: 'this server is for this machine only' }, 403); // a page whose name was pointed here
    return next();
  });
  app.get('/healthz', (c) => c.text('ok'));
  app.get('/readyz', (c) => (ready ? c.text('ready') : c.text('stopping', 503)));
  const origins = settings.cors;
  if (origins.length > 0) app.use(cors({ origin: origins.includes('*') ? '*' : [...origins], maxAge: 600 }));
  app.use(async (c, next) => {
    const origin = c.req.header('origin');
    const own = `http://${c.req.header('host')}`;
    if (origin === undefined || origin === own || origin === own.replace('http:', 'https:')) return next();
    if (origins.includes('*') || origins.includes(origin)) return next();
    return c.json({ error: 'pages of this origin may not ask (--cors allows it)' }, 403);
  });
  app.use(async (c, next) => {
    if (settings.token === undefined || isSame(c.req.header('authorization') ?? '', `Bearer ${settings.token}`))
      return next();
    const refusal = new HttpError(401, 'unauthorized', 'send Authorization: Bearer and the token');
    return c.json(failureOf(c.req.path)(refusal), 401, { 'www-authenticate': 'Bearer' });
  });

  const post = (path: string, handler: Handler): void => {
    app.post(path, (c) => serveOne(c, path, handler));
  };
  post('/api/generate', ollama.generate);
  post('/api/chat', ollama.chat);
  post('/api/show', ollama.show);
  post('/v1/chat/completions', openai.completions);
  for (const name of Object.keys(OPERATIONS) as Operation[])
    post(`/${name}`, (service, received) => operate(name, service, received));
  app.get('/', (c) => c.text('generative-image2text is running; see /docs'));
  app.get('/api/tags', () => ollama.tags(service));
  app.get('/api/version', (c) => c.json({ version: ollama.OLLAMA_VERSION }));
  app.get('/v1/models', () => openai.models(service));
  app.get('/v1/models/:id', (c) => openai.modelNamed(service, c.req.param('id')));
  app.get('/openapi.json', (c) => c.json(openApi()));
  app.get('/docs', (c) =>
    c.html(docsPage(), 200, {
      'content-security-policy':
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    }),
  );
  app.get('/metrics', (c) =>
    c.text(metrics.text(gauges(service)), 200, { 'content-type': 'text/plain; version=0.0.4' }),
  );
  app.notFound((c) => {
    const known = app.routes.some(({ path, method }) => path === c.req.path && method !== 'ALL');
    const failed = known
      ? new HttpError(405, 'method', 'not with this method')
      : new HttpError(404, 'not-found', 'there is nothing here; see /docs');
    return c.json(failureOf(c.req.path)(failed), failed.status as 404);
  });
  app.onError((error, c) => {
    const failed = toHttpError(error);
    if (failed.status === 500) log(`error: ${c.req.path}: ${String(error.stack ?? error)}`);
    return c.json(failureOf(c.req.path)(failed), failed.status as 500, failed.headers as Record<string, string>);
  });

  /** One request from its admission to the last byte of its answer. */
  async function serveOne(c: Context<Env>, route: string, handler: Handler): Promise<Response> {
    const start = performance.now();
    const left = new AbortController();
    const { outgoing } = c.env as { outgoing: ServerResponse };
    const finish = (status: number): void => {
      const seconds = (performance.now() - start) / 1000;
      metrics.request(route, status, seconds);
      if (settings.accessLog)
        log(JSON.stringify({ time: new Date().toISOString(), route, status, seconds: Number(seconds.toFixed(3)) }));
    };
    const answerFailure = (error: HttpError): Response =>
      Response.json(failureOf(route)(error), { status: error.status, headers: error.headers });
    let ticket: ReturnType<Admission['enter']>;
    try {
      if (!ready) throw new HttpError(503, 'stopping', 'the server is about to stop', { 'Retry-After': '5' });
      ticket = admission.enter();
    } catch (error) {
      finish(503);
      return answerFailure(error as HttpError);
    }
    let status = 200;
    outgoing.once('close', () => {
      const whole = outgoing.writableFinished;
      if (!whole) left.abort(new HttpError(CLIENT_LEFT, 'client-left', 'the client has left'));
      ticket.leave();
      finish(whole ? status : CLIENT_LEFT);
    });
    const limit = new AbortController();
    const timer = setTimeout(
      () => limit.abort(new HttpError(504, 'timeout', `not done in ${settings.timeout} s`)),
      settings.timeout * 1000,
    );
    outgoing.once('close', () => clearTimeout(timer));
    const signal = AbortSignal.any([left.signal, limit.signal, stopping.signal]);
    try {
      const body = await readBody(c.req.raw, ticket, settings.maxBody, signal);
      return await handler(service, { request: c.req.raw, body, ticket, signal });
    } catch (error) {
      const failed = toHttpError(signal.aborted ? signal.reason : error);
      status = failed.status;
      if (status === 500) log(`error: ${route}: ${String((error as Error)?.stack ?? error)}`);
      const response = answerFailure(failed);
      if (status === 413 || failed.code === 'broken-body') response.headers.set('connection', 'close');
      return response;
    }
  }

  const server = createAdaptorServer({
    fetch: app.fetch,
    overrideGlobalObjects: false,
    serverOptions: {
      requestTimeout: settings.bodyTimeout * 1000,
      headersTimeout: Math.min(settings.bodyTimeout, 10) * 1000,
      connectionsCheckingInterval: Math.min(settings.bodyTimeout * 500, 5000),
      keepAliveTimeout: 5000,
      maxHeaderSize: 16 * 1024,
    },
  }) as import('node:http').Server;
  // A connection that was idle for its time may hold a request that came while the model computed: it is read before it is closed.
  server.on('timeout', (socket) => {
    const { bytesRead } = socket;
    setImmediate(() => {
      if (socket.bytesRead === bytesRead) socket.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(settings.port, settings.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { port, address, family } = server.address() as AddressInfo;
  let stopped: Promise<void> | undefined;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    stop() {
      stopped ??= (async () => {
        ready = false;
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeIdleConnections();
        const timer = setTimeout(() => {
          stopping.abort(new HttpError(503, 'stopping', 'the server stops'));
          setTimeout(() => server.closeAllConnections(), 1000).unref();
        }, settings.grace * 1000);
        await closed;
        clearTimeout(timer);
        host.model.dispose();
      })();
      return stopped;
    },
  };
}

/** How an API says what failed. */
const failureOf = (path: string): Failure =>
  path.startsWith('/v1/') ? openai.failure : path.startsWith('/api/') ? ollama.failure : plainFailure;

function gauges({ admission, host }: Service): Record<string, readonly [string, number]> {
  const { rss, heapUsed, external } = process.memoryUsage();
  return {
    image2text_requests_inside: ['Requests that are read, wait or are computed.', admission.inside],
    image2text_streams: ['Texts that are written word by word now.', admission.streams],
    image2text_buffered_bytes: ['Bytes of request bodies that are held.', admission.buffered],
    image2text_model_loaded_seconds: [
      'When the model was loaded, in seconds since 1970.',
      host.loadedAt.getTime() / 1000,
    ],
    process_resident_memory_bytes: ['Resident memory.', rss],
    nodejs_heap_used_bytes: ["Memory in use in Node's heap.", heapUsed],
    nodejs_external_memory_bytes: ["Memory outside of Node's heap.", external],
    process_cpu_seconds: ['Processor time used.', (process.cpuUsage().user + process.cpuUsage().system) / 1e6],
  };
}

/** The name in a Host header, without its port. */
const nameOf = (host: string): string => host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');

const isLoopback = (host: string): boolean =>
  host === 'localhost' ||
  host.endsWith('.localhost') ||
  host === '::1' ||
  (isIP(host) === 4 && host.startsWith('127.'));

/** In a time that does not tell how much of it is right. */
function isSame(given: string, wanted: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(given), hash(wanted));
}
