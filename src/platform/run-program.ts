import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';

/** How a program ended. */
export interface Ended<T> {
  /** What `read` made of its output. */
  readonly output: T;
  readonly code: number | null;
  /** The end of what it wrote to stderr. */
  readonly stderr: string;
}

/** Why a program did not end by itself. */
export type Stopped = 'missing' | 'not-started' | 'too-slow';

/** A program is not there, cannot be started, or took too long. */
export class ProgramStopped extends Error {
  constructor(
    readonly why: Stopped,
    message: string,
  ) {
    super(message);
  }
}

const STDERR_KEPT = 4096;

/**
 * Runs a program without a shell, without stdin, and waits until it is gone: whatever happens (abort, time limit, `read` throws), it is
 * killed and reaped before this returns.
 *
 * @throws the signal's reason; ProgramStopped; what `read` throws.
 */
export async function runProgram<T>(
  program: string,
  args: readonly string[],
  read: (stdout: Readable) => Promise<T>,
  limits: { readonly timeLimitMs: number; readonly signal?: AbortSignal | undefined },
): Promise<Ended<T>> {
  const { signal, timeLimitMs } = limits;
  signal?.throwIfAborted();
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], windowsHide: true });
  let stopped: ProgramStopped | undefined;
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_KEPT);
  });
  const closed = new Promise<number | null>((resolve) => {
    child.once('error', (cause: NodeJS.ErrnoException) => {
      stopped ??= new ProgramStopped(cause.code === 'ENOENT' ? 'missing' : 'not-started', cause.message);
      if (child.pid === undefined) resolve(null); // it never ran: there may be no `close`
    });
    child.once('close', resolve);
  });
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(() => {
    stopped ??= new ProgramStopped('too-slow', `it was not done after ${timeLimitMs / 1000} s`);
    kill();
  }, timeLimitMs);
  signal?.addEventListener('abort', kill, { once: true });
  try {
    const [output, code] = await Promise.all([read(child.stdout), closed]);
    signal?.throwIfAborted();
    if (stopped !== undefined) throw stopped;
    return { output, code, stderr };
  } catch (error) {
    kill();
    await closed;
    signal?.throwIfAborted();
    throw stopped ?? error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
  }
}

/** Everything that a stream says, as text; at most `most` characters. */
export async function readText(stream: AsyncIterable<Uint8Array>, most = 1 << 20): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > most) throw new Error(`more than ${most} characters of output`);
  }
  return text + decoder.decode();
}
