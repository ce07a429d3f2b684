import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createConnection, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PNG } from 'pngjs';
import { ROOT } from '../../../test/support/fixtures.js';
import { skipWithout } from '../../../test/support/skip.js';
import { SERVER, until } from './support.js';

export interface Redis {
  readonly url: string;
  /** Ends it as a power cut would, and resolves when it is gone. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Ends it for good and removes its files. */
  remove(): Promise<void>;
}

const freePort = async (): Promise<number> => {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
};

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.once('data', (data) => {
      resolve(data.toString().startsWith('+PONG'));
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
  });

/** A Redis of its own, with a file that it goes on from. */
export async function startRedis(): Promise<Redis> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'i2t-redis-'));
  let child: ChildProcess | undefined;
  const redis: Redis = {
    url: `redis://127.0.0.1:${port}`,
    async start() {
      const options = [
        '--port',
        String(port),
        '--dir',
        dir,
        '--appendonly',
        'yes',
        '--save',
        '',
        '--bind',
        '127.0.0.1',
      ];
      child = spawn('redis-server', options, { stdio: 'ignore' });
      await until(() => answers(port));
    },
    async stop() {
      const gone = new Promise((resolve) => child?.once('exit', resolve));
      if (child?.kill('SIGKILL') === true) await gone;
      child = undefined;
    },
    async remove() {
      await redis.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  await redis.start();
  return redis;
}

export function needRedis(context: Mocha.Context): void {
  try {
    execFileSync('redis-server', ['--version']);
  } catch {
    skipWithout(context, 'redis-server', 'apt-get install redis-server');
  }
}

/** A small image that differs from the others of a dataset. */
export function tinyImage(n: number): Buffer {
  const png = new PNG({ width: 16, height: 16 });
  for (let at = 0; at < 256; at++) {
    const on = (at * 7 + n * 13) % 31 < 15 + (n % 9);
    png.data.set([on ? (n * 37) % 256 : 240, on ? (n * 91) % 256 : 240, on ? (n * 53) % 256 : 235, 255], at * 4);
  }
  return PNG.sync.write(png);
}

export function dataset(folder: string, count: number): void {
  for (let n = 0; n < count; n++) writeFileSync(join(folder, `${String(n).padStart(5, '0')}.png`), tinyImage(n));
}

/** Starts `image2text-server queue …` as a process. */
export function queueProcess(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const [node, ...main] = SERVER;
  return spawn(node, [...main, 'queue', ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
}

/** Runs a queue command in this process. */
export async function queue(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  const into = (name: 'stdout' | 'stderr') => ({
    write(line: string) {
      text[name] += line;
    },
  });
  const { run } = await import('../src/run.js');
  const code = await run(['queue', ...args], { stdout: into('stdout'), stderr: into('stderr') });
  return { code, ...text };
}

/** What speaks S3 well enough: objects, ranges, lists, and writes that refuse a name that is taken. npm's `s3rver` ignores If-None-Match. */
export async function startBucket() {
  const objects = new Map<string, Buffer>();
  let refused = 0;
  const server = createServer((request, response) => {
    const url = new URL(request.url!, 'http://localhost');
    const key = decodeURIComponent(url.pathname.slice(1));
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const send = (status: number, body: string | Buffer = ''): void => void response.writeHead(status).end(body);
      if (request.method === 'PUT') {
        if (request.headers['if-none-match'] === '*' && objects.has(key)) {
          refused++;
          return send(412, '<Error><Code>PreconditionFailed</Code></Error>');
        }
        objects.set(key, Buffer.concat(chunks));
        return send(200);
      }
      if (url.searchParams.get('list-type') === '2') {
        const prefix = `${key.replace(/\/$/, '')}/${url.searchParams.get('prefix') ?? ''}`;
        const after = url.searchParams.get('continuation-token') ?? '';
        const keys = [...objects.keys()].filter((one) => one.startsWith(prefix) && one > after).sort();
        const page = keys.slice(0, 2); // small pages, so that there are several
        const items = page.map((one) => `<Contents><Key>${one.slice(one.indexOf('/') + 1)}</Key></Contents>`).join('');
        const more = keys.length > page.length;
        const next = more ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : '';
        return send(200, `<ListBucketResult><IsTruncated>${more}</IsTruncated>${next}${items}</ListBucketResult>`);
      }
      const object = objects.get(key);
      if (object === undefined) return send(404, '<Error><Code>NoSuchKey</Code></Error>');
      const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      return start === undefined ? send(200, object) : send(206, object.subarray(Number(start), Number(end) + 1));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    objects,
    refused: () => refused,
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}
