import { EXIT, explainError } from './report.js';
import type { Terminal } from './terminal.js';
import { plain, ReaderGone, send } from './terminal.js';

/** What a running command has at hand. */
export interface Context {
  readonly terminal: Terminal;
  /** Fires at Ctrl-C. */
  readonly signal: AbortSignal;
  /** Results, and nothing else, go to stdout. */
  print(line: string): Promise<void>;
  /** The same without an end of line. */
  write(text: string): Promise<void>;
  /** Everything else goes to stderr. */
  tell(line: string): void;
  /** Says on stderr, in one line, what went wrong, and which exit code that is. */
  report(error: unknown): number;
}

/** A command as it runs: names from the command line, its options, and where it is. Resolves to the exit code. */
export type Run<Flags> = (names: readonly string[], flags: Flags, context: Context) => Promise<number>;

/**
 * Runs `body` with a signal that Ctrl-C fires; a second Ctrl-C ends the process at once. A reader that closes our stdout ends it quietly.
 */
export async function inContext(terminal: Terminal, body: (context: Context) => Promise<number>): Promise<number> {
  const interrupt = new AbortController();
  const onSigint = (): void => {
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted);
    interrupt.abort();
  };
  const context = makeContext(terminal, interrupt.signal);
  process.on('SIGINT', onSigint);
  try {
    return await body(context);
  } catch (error) {
    if (error instanceof ReaderGone) return EXIT.done;
    return interrupt.signal.aborted ? EXIT.interrupted : context.report(error);
  } finally {
    process.off('SIGINT', onSigint);
  }
}

function makeContext(terminal: Terminal, signal: AbortSignal): Context {
  const tell = (line: string): void => {
    terminal.stderr.write(`${plain(line)}\n`);
  };
  return {
    terminal,
    signal,
    print: (line) => send(terminal.stdout, `${line}\n`),
    write: (text) => send(terminal.stdout, text),
    tell,
    report(error) {
      const { code, lines } = explainError(error);
      for (const line of lines) tell(`image2text: ${line}`);
      return code;
    },
  };
}
