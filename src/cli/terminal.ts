import { Image2TextError, OptionError } from '../errors.js';

/** Exit codes of the command. */
export const EXIT = { done: 0, failed: 1, usage: 2, unsupported: 3, interrupted: 130 } as const;

/** A mistake in the command line. */
export class UsageError extends Error {}

/** Results, and nothing else, go to stdout; resolves when the line is on its way, so that a slow reader slows us down. */
export function print(text: string): Promise<void> {
  return new Promise((done) => {
    if (process.stdout.write(`${text}\n`)) done();
    else process.stdout.once('drain', done);
  });
}

/** Everything else goes to stderr. */
export function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Says what went wrong in one line, and which exit code that is. A mistake of our own keeps its stack: it is to be reported. */
export function report(error: unknown): number {
  if (error instanceof UsageError || error instanceof OptionError) {
    tell(`image2text: ${error.message}`);
    return EXIT.usage;
  }
  if (error instanceof Image2TextError) {
    tell(`image2text: ${error.message}`);
    return EXIT.failed;
  }
  if (error instanceof Error && error.name === 'AbortError') return EXIT.interrupted;
  const unknown = error instanceof Error ? error : new Error(String(error));
  tell(`image2text: internal error, please report it: ${unknown.name}: ${unknown.message.split('\n')[0]}`);
  if (process.env['IMAGE2TEXT_STACK'] !== undefined) tell(unknown.stack ?? '');
  else tell('image2text: set IMAGE2TEXT_STACK=1 to see where');
  return EXIT.failed;
}

/**
 * Runs `body` with a signal that Ctrl-C fires; a second Ctrl-C ends the process at once. A reader that closes our stdout
 * (`image2text … | head`) ends it quietly.
 */
export async function withInterrupt(body: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const interrupt = new AbortController();
  const onSigint = (): void => {
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted);
    interrupt.abort();
  };
  process.on('SIGINT', onSigint);
  process.stdout.on('error', (error: NodeJS.ErrnoException) =>
    process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed),
  );
  try {
    return await body(interrupt.signal);
  } catch (error) {
    return interrupt.signal.aborted ? EXIT.interrupted : report(error);
  } finally {
    process.off('SIGINT', onSigint);
  }
}
