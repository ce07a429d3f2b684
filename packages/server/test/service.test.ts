import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { type CaptionOptions, Image2TextError, type VisualInput } from 'generative-image2text';
import { FULL } from '../../../test/support/full.js';
import { fetchPublic, isPrivateAddress } from '../src/addresses.js';
import type { ModelHost } from '../src/host.js';
import { taskOfPrompt } from '../src/writing.js';
import { example, MUG, MUG_CAPTION, mug64, onTheWire, postJson, replacing, until, withServer } from './support.js';

interface Calls {
  started: number;
  tokens: number;
  ended: number;
}

/** Counts calls of `caption`; each waits for `gate` first, if there is one. */
function counting(calls: Calls, gate?: (signal: AbortSignal) => Promise<unknown>) {
  return (host: ModelHost): ModelHost =>
    replacing(host, {
      caption: (async (input: VisualInput, options: CaptionOptions & { onToken?: (event: object) => unknown }) => {
        calls.started++;
        try {
          await gate?.(options.signal!);
          const { onToken } = options;
          const listened = {
            onToken(event: object) {
              calls.tokens++;
              return onToken?.(event);
            },
          };
          return await host.model.caption(input as Blob, { ...options, ...(onToken && listened) } as CaptionOptions);
        } finally {
          calls.ended++;
        }
      }) as ModelHost['model']['caption'],
    });
}

const noCalls = (): Calls => ({ started: 0, tokens: 0, ended: 0 });
const never = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));

/** Bytes that are still held after a collection: what a process has besides them depends on when its collector ran last. */
function memoryHeld(): number {
  setFlagsFromString('--expose-gc');
  // Memory of buffers is given back beside the program, and is surely there when the next collection begins.
  for (let n = 0; n < 3; n++) (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const metric = async (url: string, name: string): Promise<number> => {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')[1],
  );
};

/** A client that keeps its connection, writes a request whenever it is told to, and tells the first line of each answer. */
const CLIENT = `
  const { connect } = require('node:net');
  const { parentPort, workerData: { port, written } } = require('node:worker_threads');
  const socket = connect(port, '127.0.0.1');
  const ask = (then) => socket.write('GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n', then);
  socket.on('data', (bytes) => parentPort.postMessage(bytes.toString().split('\\r\\n')[0]));
  socket.on('close', () => parentPort.postMessage('closed'));
  socket.on('error', () => {});
  parentPort.on('message', () => ask(() => {
    Atomics.add(written, 0, 1);
    Atomics.notify(written, 0);
  }));
  ask();`;

describe('the server under load', () => {
  const REQUESTS = FULL ? 200 : 60;
  it(`answers ${REQUESTS} requests at once, in batches, and its memory stays flat`, async () => {
    await withServer({ options: { timeout: 3600 } }, async (url) => {
      const [body, greedy] = [{ image: mug64() }, { image: mug64(), strategy: 'greedy' }];
      const round = (count: number) =>
        Promise.all(Array.from({ length: count }, (_, n) => postJson(`${url}/caption`, n % 2 === 0 ? body : greedy)));
      for (const response of await round(REQUESTS)) {
        assert.equal(response.status, 200);
        assert.equal(((await response.json()) as { text: string }).text, MUG_CAPTION);
      }
      // What leaks grows with every round; what else is held for a while (connections, compiled code) does not.
      let [rounds, grown] = [0, Number.POSITIVE_INFINITY];
      while (grown >= 1e6 && rounds < 4) {
        rounds++;
        const before = memoryHeld();
        for (let n = 0; n < 2; n++)
          for (const response of await round(REQUESTS / 2)) {
            assert.equal(response.status, 200);
            await response.arrayBuffer();
          }
        await until(async () => (await metric(url, 'image2text_requests_inside')) === 0);
        grown = memoryHeld() - before;
        console.log(`      ${(grown / 1e6).toFixed(1)} MB more are held after as many requests`);
      }
      assert.ok(grown < 1e6, `${grown} bytes more are held after as many requests, ${rounds} times`);
      assert.equal(await metric(url, 'image2text_texts_total'), (1 + rounds) * REQUESTS);
      assert.equal(await metric(url, 'image2text_buffered_bytes'), 0);
    });
  });

  it('answers a request that comes on an idle connection just before it is closed, while the model computes', async () => {
    await withServer({}, async (url) => {
      const written = new Int32Array(new SharedArrayBuffer(4));
      const { port } = new URL(url);
      const client = new Worker(CLIENT, { eval: true, workerData: { port: Number(port), written } });
      try {
        await once(client, 'message'); // the first answer is here: the connection is idle
        client.postMessage('go on');
        Atomics.wait(written, 0, 0); // its request is written
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 6000); // as a model that keeps this thread past the idle time
        assert.deepEqual(await once(client, 'message'), ['HTTP/1.1 200 OK']);
      } finally {
        await client.terminate();
      }
    });
  });

  it('refuses what is more than may wait, with 503 and Retry-After, and takes it again later', async () => {
    const calls = noCalls();
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    await withServer({ options: { maxRequests: 10 }, wrap: counting(calls, () => gate) }, async (url) => {
      const asked = Array.from({ length: 30 }, () => postJson(`${url}/caption`, { image: mug64() }));
      let refused = 0;
      for (const one of asked) one.then(({ status }) => (refused += status === 503 ? 1 : 0));
      await until(() => refused === 20);
      open();
      const responses = await Promise.all(asked);
      assert.equal(responses.filter(({ status }) => status === 200).length, 10);
      for (const response of responses) {
        if (response.status === 200) continue;
        assert.match(response.headers.get('retry-after') ?? '', /^[1-9]\d?$/);
        assert.equal(((await response.json()) as { error: { code: string } }).error.code, 'busy');
      }
      assert.equal((await postJson(`${url}/caption`, { image: mug64() })).status, 200);
    });
  });

  it('refuses bodies that together are more than may be held', async () => {
    const calls = noCalls();
    const size = JSON.stringify({ image: mug64() }).length;
    await withServer({ options: { maxBuffered: size + 10 }, wrap: counting(calls, never) }, async (url) => {
      const leave = new AbortController();
      const first = postJson(`${url}/caption`, { image: mug64() }, { signal: leave.signal }).catch(() => undefined);
      await until(() => calls.started === 1);
      assert.equal((await postJson(`${url}/caption`, { image: mug64() })).status, 503);
      leave.abort();
      await first;
      await until(() => calls.ended === 1);
    });
  });

  it('stops the work of a client that leaves, within a token', async () => {
    const calls = noCalls();
    await withServer({ wrap: counting(calls) }, async (url) => {
      const leave = new AbortController();
      const body = { image: mug64(), strategy: 'greedy', minNewTokens: 400, maxNewTokens: 500 };
      const headers = { accept: 'text/event-stream' };
      const response = await postJson(`${url}/caption`, body, { signal: leave.signal, headers });
      const reader = response.body!.getReader();
      await reader.read();
      leave.abort();
      await until(() => calls.ended === 1);
      assert.ok(calls.tokens < 400, `${calls.tokens} tokens`);
      await until(async () => (await metric(url, 'image2text_requests_inside')) === 0);
      const text = await (await fetch(`${url}/metrics`)).text();
      assert.match(text, /image2text_requests_total\{route="\/caption",status="499"\} 1/);
      assert.equal(await metric(url, 'image2text_streams'), 0);
    });
  });

  it('lets a client that does not read hold back its own text only', async () => {
    const calls = noCalls();
    await withServer({ wrap: counting(calls), options: { maxStreams: 1, timeout: 60 } }, async (url) => {
      const leave = new AbortController();
      const body = { image: mug64(), strategy: 'greedy', minNewTokens: 400, maxNewTokens: 500 };
      const headers = { accept: 'text/event-stream' };
      const slow = await postJson(`${url}/caption`, body, { signal: leave.signal, headers });
      const waiting = postJson(`${url}/caption`, { image: mug64(), strategy: 'greedy' }, { headers });
      const other = await postJson(`${url}/caption`, { image: mug64() });
      assert.equal(((await other.json()) as { text: string }).text, MUG_CAPTION);
      await slow.body!.cancel();
      leave.abort();
      assert.match(await (await waiting).text(), /event: done/); // its turn came when the first had left
    });
  });

  it('computes no more of a text than a slow client reads, keeps what waits bounded, and sends all of it in the end', async () => {
    const [pieces, size] = [600, 2 ** 16]; // 39 MB: more than sockets hold between them
    let tokens = 0;
    const wrap = (host: ModelHost): ModelHost =>
      replacing(host, {
        tokenizer: new Proxy(host.model.tokenizer, {
          get: (own, name) =>
            name === 'detokenizer'
              ? () => ({ push: () => 'x'.repeat(size), flush: () => '' })
              : (Reflect.get(own, name) as unknown),
        }),
        caption: (async (input: VisualInput, options: CaptionOptions & { onToken?: (event: object) => unknown }) => {
          if (options.onToken === undefined) return host.model.caption(input as Blob, options);
          for (let n = 0; n < pieces; n++) {
            tokens++;
            await options.onToken({ id: n });
          }
          return { text: '', tokens: [], score: 0, logProb: 0, confidence: 1, finish: 'eos', alternatives: [] };
        }) as never,
      });
    await withServer({ wrap, options: { timeout: 600 } }, async (url) => {
      const body = JSON.stringify({ image: mug64(), strategy: 'greedy' });
      const headers = { 'content-type': 'application/json', accept: 'text/event-stream' };
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        request(`${url}/caption`, { method: 'POST', headers }, resolve).on('error', reject).end(body);
      });
      let [seen, still] = [0, 0];
      await until(() => {
        still = tokens === seen ? still + 1 : 0;
        seen = tokens;
        return still > 50 && tokens > 0;
      });
      for (let n = 0; n < 4; n++) {
        const other = await postJson(`${url}/caption`, { image: mug64() });
        assert.equal(((await other.json()) as { text: string }).text, MUG_CAPTION);
      }
      console.log(`      ${tokens} of ${pieces} pieces were made for a client that did not read`);
      assert.ok(tokens < pieces / 2, `${tokens} pieces`);
      let text = '';
      for await (const chunk of response) text += chunk;
      assert.equal(text.match(/^event: piece$/gm)?.length, pieces);
      assert.match(text, /event: done/);
    });
  });

  it('gives up when the time is over', async () => {
    await withServer({ options: { timeout: 0.2 }, wrap: counting(noCalls(), never) }, async (url) => {
      const response = await postJson(`${url}/caption`, { image: mug64() });
      assert.equal(response.status, 504);
    });
  });

  it('stops in order: what runs is finished, what comes is refused, what takes too long is ended', async () => {
    const calls = noCalls();
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    await withServer({ wrap: counting(calls, () => gate) }, async (url, server, { model }) => {
      const running = postJson(`${url}/caption`, { image: mug64() });
      await until(() => calls.started === 1);
      const stopped = server.stop();
      await assert.rejects(fetch(`${url}/readyz`)); // a balancer has seen by then that nobody listens
      open();
      assert.equal((await running).status, 200);
      await stopped;
      await assert.rejects(model.caption(new Uint8Array(example(MUG)), {}), { name: 'DisposedError' });
    });
    await withServer({ wrap: counting(noCalls(), never), options: { grace: 0.1 } }, async (url, server) => {
      const running = postJson(`${url}/caption`, { image: mug64() });
      await until(async () => (await metric(url, 'image2text_requests_inside')) === 1);
      await server.stop();
      assert.equal((await running).status, 503);
    });
  });
});

describe('the server and strangers', () => {
  it('answers garbage on the wire, and goes on', async () => {
    await withServer({ options: { bodyTimeout: 1 } }, async (url) => {
      const length = (headers: string, body: string): string =>
        `POST /caption HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n${body}`;
      const wires: [string | Uint8Array, RegExp][] = [
        ['\x00\x01\x02\xff\xfe garbage\r\n\r\n', /^HTTP\/1\.1 400/],
        ['GET / HTTP/9.9\r\n\r\n', /^HTTP\/1\.1 (400|505)/],
        [new Uint8Array(3000).map((_, n) => (n * 197) % 256), /^HTTP\/1\.1 400/],
        [`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1\.1 431/],
        [length('Content-Length: -5', 'x'), /^HTTP\/1\.1 400/],
        [length('Content-Length: 5\r\nTransfer-Encoding: chunked', '0\r\n\r\n'), /^HTTP\/1\.1 400/],
        [length('Transfer-Encoding: chunked', 'zz\r\nxx\r\n'), /^(HTTP\/1\.1 400|$)/],
        [
          length('Content-Length: 9\r\nContent-Type: application/json\r\nConnection: close', '{"image":'),
          /400[\s\S]*not-json/,
        ],
        [
          length('Content-Length: 5\r\nContent-Type: multipart/form-data; boundary=x\r\nConnection: close', 'abcde'),
          /400[\s\S]*broken-form/,
        ],
        [
          length('Content-Length: 4\r\nContent-Type: multipart/form-data\r\nConnection: close', 'abcd'),
          /400[\s\S]*broken-form/,
        ],
        [length('Content-Length: 900000000\r\nConnection: close', 'x'), /413[\s\S]*body-too-large/],
        [length('Content-Length: 100', 'half'), /^(HTTP\/1\.1 400[\s\S]*|$)/],
      ];
      for (const [bytes, expected] of wires) assert.match(await onTheWire(url, bytes), expected);
      assert.match(await onTheWire(url, length('Content-Length: 100', 'half'), false), /^HTTP\/1\.1 408|^$/); // slow for ever
      await until(async () => (await metric(url, 'image2text_requests_inside')) === 0);
      assert.equal((await postJson(`${url}/caption`, { image: mug64() })).status, 200);
    });
  });

  it('ends a body without a length at its limit', async () => {
    await withServer({ options: { maxBody: 1000 } }, async (url) => {
      let sent = 0;
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          sent += 500;
          controller.enqueue(new Uint8Array(500));
          if (sent > 50_000_000) controller.close();
        },
      });
      const init = { method: 'POST', body, duplex: 'half' } as RequestInit;
      const status = await fetch(`${url}/caption`, init).then(
        (response) => response.status,
        () => 413, // the connection was closed while more was sent
      );
      assert.equal(status, 413);
      assert.ok(sent < 50_000_000, `${sent} bytes were taken`);
    });
  });

  it('asks for the token everywhere but at the probes', async () => {
    await withServer({ options: { token: 'secret' } }, async (url) => {
      for (const path of ['/metrics', '/docs', '/openapi.json', '/api/tags', '/v1/models', '/'])
        assert.equal((await fetch(url + path)).status, 401, path);
      for (const path of ['/healthz', '/readyz']) assert.equal((await fetch(url + path)).status, 200, path);
      const wrong = await postJson(`${url}/caption`, {}, { headers: { authorization: 'Bearer Secret' } });
      assert.equal(wrong.status, 401);
      const right = await postJson(
        `${url}/caption`,
        { image: mug64() },
        { headers: { authorization: 'Bearer secret' } },
      );
      assert.equal(right.status, 200);
    });
  });

  it('lets no page ask but those that are named, nor a name that was pointed here', async () => {
    const ask = (url: string, headers: Record<string, string>) =>
      postJson(`${url}/caption`, { image: mug64() }, { headers });
    await withServer({}, async (url) => {
      assert.equal((await ask(url, { origin: 'https://evil.example' })).status, 403);
      assert.equal((await ask(url, { origin: url })).status, 200); // its own page at /docs
      assert.match(
        await onTheWire(url, 'GET /api/tags HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n'),
        /^HTTP\/1\.1 403/,
      );
    });
    await withServer({ options: { cors: ['https://good.example'] } }, async (url) => {
      const response = await ask(url, { origin: 'https://good.example' });
      assert.equal(response.headers.get('access-control-allow-origin'), 'https://good.example');
      assert.equal((await ask(url, { origin: 'https://evil.example' })).status, 403);
      const preflight = await fetch(`${url}/caption`, {
        method: 'OPTIONS',
        headers: { origin: 'https://good.example', 'access-control-request-method': 'POST' },
      });
      assert.ok(preflight.ok);
    });
  });

  it('fetches addresses only where it may, and never from private networks unless that is allowed', async () => {
    const inner = createServer((request, response) => {
      if (request.url === '/loop') response.writeHead(302, { location: '/loop' }).end();
      else if (request.url === '/big') response.end(Buffer.alloc(1_000_000));
      else if (request.url === '/missing') response.writeHead(404).end();
      else response.end(example(MUG));
    });
    await new Promise<void>((resolve) => inner.listen(0, '127.0.0.1', resolve));
    const { port } = inner.address() as AddressInfo;
    const ask = async (url: string, image: string): Promise<[number, string]> => {
      const response = await postJson(`${url}/caption`, { image });
      const { text, error } = (await response.json()) as { text?: string; error?: { code: string } };
      return [response.status, text ?? error!.code];
    };
    try {
      await withServer({ options: { fetch: 'public' } }, async (url) => {
        for (const host of ['127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '0x7f.1', '2130706433', '0'])
          assert.deepEqual(await ask(url, `http://${host}:${port}/a.png`), [422, 'private-address'], host);
        assert.deepEqual(await ask(url, 'http://169.254.169.254/latest/meta-data/'), [422, 'private-address']);
      });
      await withServer({ options: { fetch: 'all', maxBody: 500_000 } }, async (url) => {
        assert.deepEqual(await ask(url, `http://127.0.0.1:${port}/a.png`), [200, MUG_CAPTION]);
        assert.deepEqual(await ask(url, `http://127.0.0.1:${port}/loop`), [422, 'too-many-redirects']);
        assert.deepEqual(await ask(url, `http://127.0.0.1:${port}/big`), [422, 'file-too-large']);
        assert.deepEqual(await ask(url, `http://127.0.0.1:${port}/missing`), [422, 'http-status']);
        assert.deepEqual(await ask(url, `http://user:password@127.0.0.1:${port}/`), [422, 'cannot-fetch']);
      });
      // A name that resolves to a private address, and a redirect of a public host into a private network.
      const lookup = ((_: string, __: object, done: (e: null, all: object[]) => void) =>
        done(null, [{ address: '10.0.0.1', family: 4 }])) as never;
      const code = (error: unknown): boolean => error instanceof Image2TextError && error.code === 'private-address';
      await assert.rejects(fetchPublic('http://public.example/a.png', { maxBytes: 1000, lookup }), code);
    } finally {
      inner.close();
      inner.closeAllConnections();
    }
  });
});

describe('redirects', () => {
  it('of a public host are followed to public hosts only', async () => {
    const asked: string[] = [];
    let target = '';
    const inner = createServer((request, response) => {
      asked.push(request.url!);
      if (request.url === '/to') response.writeHead(302, { location: target }).end();
      else response.end('secret');
    });
    await new Promise<void>((resolve) => inner.listen(0, '127.0.0.1', resolve));
    const { port } = inner.address() as AddressInfo;
    // Names that are public when they are checked, though this machine serves them; all others are what they say.
    const lookup = ((name: string, _: object, done: (e: Error | null, all: object[]) => void) => {
      let looked = 0;
      const address = { family: 4, get: () => (looked++ === 0 ? '93.184.215.14' : '127.0.0.1') };
      const isPublic = name.endsWith('public.example');
      const found = isPublic
        ? Object.defineProperty({ family: 4 }, 'address', { get: address.get, enumerable: true })
        : { family: 4, address: name === 'intranet.example' ? '10.0.0.7' : '127.0.0.1' };
      done(null, [found]);
    }) as never;
    const from = `http://public.example:${port}/to`;
    try {
      target = `http://other.public.example:${port}/secret`;
      assert.equal(Buffer.from(await fetchPublic(from, { maxBytes: 100, lookup })).toString(), 'secret');
      assert.deepEqual(asked, ['/to', '/secret']);
      for (const [to, code] of [
        [`http://127.0.0.1:${port}/secret`, 'private-address'],
        [`http://localhost:${port}/secret`, 'private-address'],
        [`http://[::1]:${port}/secret`, 'private-address'],
        [`http://[::ffff:127.0.0.1]:${port}/secret`, 'private-address'],
        [`//2130706433:${port}/secret`, 'private-address'],
        [`http://intranet.example:${port}/secret`, 'private-address'],
        ['http://169.254.169.254/latest/meta-data/', 'private-address'],
        [`http://me:pass@public.example:${port}/secret`, 'cannot-fetch'],
        ['file:///etc/passwd', 'cannot-fetch'],
        ['ftp://public.example/secret', 'cannot-fetch'],
        ['http://', 'cannot-fetch'],
      ] as const) {
        asked.length = 0;
        target = to;
        await assert.rejects(fetchPublic(from, { maxBytes: 100, lookup }), { name: 'ImageError', code }, to);
        assert.deepEqual(asked, ['/to'], to);
      }
    } finally {
      inner.close();
      inner.closeAllConnections();
    }
  });
});

describe('isPrivateAddress', () => {
  it('knows the ranges', () => {
    const isPrivate = [
      '10.1.2.3',
      '172.31.0.1',
      '192.168.1.1',
      '127.9.9.9',
      '169.254.169.254',
      '100.64.0.1',
      '0.0.0.0',
    ];
    const isPrivateToo = [
      '224.0.0.1',
      '255.255.255.255',
      '::1',
      '::',
      'fe80::1',
      'fd00::1',
      '::ffff:8.8.8.8',
      '64:ff9b::7f00:1',
    ];
    for (const address of [...isPrivate, ...isPrivateToo, '2002:7f00:1::', '2001:db8::1'])
      assert.equal(isPrivateAddress(address), true, address);
    for (const address of ['8.8.8.8', '172.32.0.1', '192.169.0.1', '1.1.1.1', '2606:4700:4700::1111'])
      assert.equal(isPrivateAddress(address), false, address);
  });
});

describe('what a prompt is about', () => {
  it('tells requests to describe from questions', () => {
    const describing = [
      '',
      'Describe this image.',
      'describe the picture in detail',
      'What is in this image?',
      'Please caption this photo',
    ];
    for (const prompt of [
      ...describing,
      "What's in this picture?",
      'Tell me what you see',
      'Write a caption for this image.',
    ])
      assert.deepEqual(taskOfPrompt(prompt, 'auto'), {}, prompt);
    for (const prompt of [
      'What color is the mug?',
      'how many dogs are there?',
      'Is it raining?',
      'what does the sign say?',
    ])
      assert.deepEqual(taskOfPrompt(prompt, 'auto'), { question: prompt }, prompt);
    assert.deepEqual(taskOfPrompt('Describe this', 'answer'), { question: 'Describe this' });
    assert.deepEqual(taskOfPrompt('how many?', 'caption'), {});
    assert.deepEqual(taskOfPrompt('a photo of', 'continue'), { prompt: 'a photo of' });
  });
});
