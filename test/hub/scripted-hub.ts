/** Plays the scripts of test/fixtures/hostile/http: the steps answer the requests in order, the last of its kind for ever. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGzip, gzipSync } from 'node:zlib';
import type { Handler } from '../support/local-hub.js';

export interface Step {
  readonly method: 'GET' | 'HEAD';
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly close_early?: boolean;
  readonly hang_s?: number;
  readonly chunked?: boolean;
  readonly endless?: boolean;
  readonly gzip?: boolean;
  readonly gzip_zeros?: number;
  readonly repeat?: boolean;
  readonly expect_range?: string;
}

export interface Scenario {
  readonly name: string;
  readonly steps: readonly Step[];
  readonly expect: string;
  readonly rule: string;
  readonly repo_id?: string;
  readonly file?: string;
  readonly revision?: string;
}

/** `{self}` is the address asked for; `{other_port}` a second server that shares the script. */
export function playScript(steps: readonly Step[], otherPort = 0, problems: string[] = []): Handler {
  let next = 0;
  let redirect: { step: Step; host: string | undefined } | undefined;
  return async (request, response) => {
    const { method } = request;
    const here = `http://${request.headers.host}${request.url}`;
    const again = request.headers.host === redirect?.host && request.url!.includes('/resolve/');
    if (redirect !== undefined && method === 'GET' && again) {
      await play(redirect.step, request, response, here, otherPort); // storage is still where it was for HEAD
      return true;
    }
    const step = steps[next]?.method === method ? steps[next++] : steps.findLast((one) => one.method === method);
    if (step === undefined) {
      problems.push(`unexpected ${method}`);
      response.writeHead(418).end();
      return true;
    }
    if (step.headers?.['location'] !== undefined && !step.repeat) redirect = { step, host: request.headers.host };
    if (step.expect_range !== undefined && request.headers.range !== step.expect_range) {
      problems.push(`expected Range ${step.expect_range}, got ${request.headers.range}`);
    }
    await play(step, request, response, here, otherPort);
    return true;
  };
}

async function play(
  step: Step,
  request: IncomingMessage,
  response: ServerResponse,
  here: string,
  otherPort: number,
): Promise<void> {
  if (step.status === undefined) return; // hangs until the client gives up
  const headers: Record<string, string> = { ...step.headers };
  const location = headers['location'];
  if (location !== undefined) {
    headers['location'] = location.replace('{self}', here).replace('{other_port}', `${otherPort}`);
  }
  let body: Buffer = Buffer.from(step.body ?? '');
  if (step.gzip) {
    body = gzipSync(body); // although identity was asked for
    Object.assign(headers, { 'content-encoding': 'gzip', 'content-length': `${body.length}` });
  }
  response.writeHead(step.status, headers);
  if (request.method === 'HEAD') return void response.end();
  if (step.endless) return pour(response, () => Buffer.alloc(1 << 16, 'x'));
  if (step.gzip_zeros !== undefined) return pourZeros(response, step.gzip_zeros);
  if (step.close_early) return void response.write(body, () => setTimeout(() => response.destroy(), 20));
  if (step.hang_s !== undefined) return void response.write(body);
  response.end(body);
}

async function pour(response: ServerResponse, piece: () => Buffer): Promise<void> {
  while (!response.destroyed) {
    if (!response.write(piece())) await Promise.race([once(response, 'drain'), once(response, 'close')]);
    await sleep(0);
  }
}

const once = (response: ServerResponse, event: string) => new Promise<void>((resolve) => response.once(event, resolve));

async function pourZeros(response: ServerResponse, count: number): Promise<void> {
  const gzip = createGzip();
  gzip.pipe(response);
  gzip.on('error', () => undefined);
  const zeros = Buffer.alloc(1 << 20);
  for (let sent = 0; sent < count && !response.destroyed; sent += zeros.length) {
    if (!gzip.write(zeros)) await Promise.race([new Promise((resolve) => gzip.once('drain', resolve)), sleep(50)]);
  }
  gzip.end();
}
