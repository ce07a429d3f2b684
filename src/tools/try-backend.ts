import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { NodeBackend } from '../platform/start-backend.js';
import type { SelfTest } from './self-test.js';

/** What one backend can do here. */
export interface BackendHealth {
  readonly name: NodeBackend;
  /** `missing`: its package is not installed; `wrong`: it computes something else than the cpu backend. */
  readonly state: 'works' | 'missing' | 'fails' | 'wrong';
  readonly test?: SelfTest;
  /** Why it does not work, and what to do. */
  readonly detail?: string;
}

/** Two float32 programs differ by far less on a model that small; another precision or a broken driver by far more. */
const TOLERANCE = 1e-2;
const EXACT = 1e-4;

interface Answer {
  readonly result?: SelfTest;
  readonly failure?: { readonly code: string; readonly message: string };
}

/** Tries a backend in a process of its own, since a native library that is broken may end the process. Never throws. */
export async function tryBackend(name: NodeBackend, timeoutMs: number, signal?: AbortSignal): Promise<BackendHealth> {
  const { result, failure } = await answerOf(name, timeoutMs, signal);
  if (failure !== undefined) {
    return { name, state: failure.code === 'backend-not-installed' ? 'missing' : 'fails', detail: failure.message };
  }
  const { largestDifference } = result!;
  if (!(largestDifference <= TOLERANCE)) {
    return {
      name,
      state: 'wrong',
      test: result!,
      detail: `its logits are ${largestDifference.toPrecision(2)} off: do not use it`,
    };
  }
  if (largestDifference <= EXACT) return { name, state: 'works', test: result! };
  return { name, state: 'works', test: result!, detail: 'it computes with less than float32 precision' };
}

function answerOf(name: NodeBackend, timeoutMs: number, signal: AbortSignal | undefined): Promise<Answer> {
  const file = fileURLToPath(
    new URL(`./self-test-child${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
  );
  return new Promise((resolve) => {
    const fail = (message: string) => resolve({ failure: { code: 'failed', message } });
    let words = '';
    try {
      const child = fork(file, [name], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], timeout: timeoutMs, signal });
      child.stderr?.on('data', (piece: Buffer) => {
        words = (words + piece.toString()).slice(-2000);
      });
      child.on('message', (answer) => resolve(answer as Answer));
      child.on('error', (error) => fail(error.message));
      child.on('exit', (code, killer) => {
        const late = killer === 'SIGTERM';
        fail(
          late ? `no answer in ${timeoutMs / 1000} s` : `its process ended with ${killer ?? code}${lastLine(words)}`,
        );
      });
    } catch (error) {
      fail((error as Error).message);
    }
  });
}

function lastLine(words: string): string {
  const line =
    words
      .trim()
      .split(/[\r\n]+/)
      .at(-1) ?? '';
  return line === '' ? '' : `: ${line.slice(0, 200)}`;
}
