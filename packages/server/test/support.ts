import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { memory } from '@tensorflow/tfjs-core';
import { ROOT } from '../../../test/support/fixtures.js';
import { program } from '../../../test/support/program.js';
import { loadHost, type ModelHost } from '../src/host.js';
import { type RunningServer, type ServerParts, startServer } from '../src/server.js';

/** The command of this package as a process of its own. */
export const SERVER = program('packages/server/dist/main.js', 'packages/server/src/main.ts');

export const example = (name: string): Buffer<ArrayBuffer> => readFileSync(`${ROOT}examples/${name}`);
export const MUG = 'blue-mug-juice.png';
export const MUG_CAPTION = 'a blue mug with the word juice on it';
export const mug64 = (): string => example(MUG).toString('base64');

export const demoHost = (): Promise<ModelHost> => loadHost({ model: 'demo', backend: 'simd' }, () => {});

/** Serves the demo while `body` runs; nothing of it is left afterwards. */
export async function withServer(
  { wrap = (host) => host, ...parts }: ServerParts & { readonly wrap?: (host: ModelHost) => ModelHost },
  body: (url: string, server: RunningServer, host: ModelHost) => Promise<void>,
): Promise<void> {
  const host = wrap(await demoHost());
  const server = await startServer(host, { ...parts, options: { port: 0, grace: 5, ...parts.options } });
  try {
    await body(server.url, server, host);
  } finally {
    await server.stop();
  }
}

/** The same model with some of its methods replaced. */
export const replacing = (host: ModelHost, methods: Partial<ModelHost['model']>): ModelHost => ({
  ...host,
  model: new Proxy(host.model, {
    get: (model, name) => Reflect.get(Object.hasOwn(methods, name) ? methods : model, name) as unknown,
  }),
});

export const tensors = (): number => memory().numTensors;

/** Writes bytes on a connection of its own and gives what comes back until it closes. */
export function onTheWire(url: string, bytes: string | Uint8Array, end = true): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    let answer = '';
    const socket = createConnection(Number(port), hostname, () => {
      socket.write(bytes);
      if (end) socket.end();
    });
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1');
    });
    socket.on('error', () => resolve(answer));
    socket.on('close', () => resolve(answer));
  });
}

export const postJson = (url: string, body: unknown, init: RequestInit = {}): Promise<Response> =>
  fetch(url, {
    method: 'POST',
    body: JSON.stringify(body),
    ...init,
    headers: { 'content-type': 'application/json', ...init.headers },
  });

/** Waits until a condition holds; the test's own time limit ends it. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
