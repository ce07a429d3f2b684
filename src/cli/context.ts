import type { Command } from 'commander';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { Image2TextError, OptionError } from '../errors.js';
import { generationOptions } from '../generation/options.js';
import { IMAGE_OPTIONS } from '../image/image-options.js';
import type { Image2Text, NodeLoadOptions } from '../node.js';
import type { OptionTable } from '../options.js';
import type { StatusLine, Terminal } from './terminal.js';
import { plain, ReaderGone, send, statusLine } from './terminal.js';

/** Exit codes of the command. */
export const EXIT = { done: 0, failed: 1, usage: 2, unsupported: 3, interrupted: 130 } as const;

/** A mistake in the command line, with more lines where there is more to list. */
export class UsageError extends Error {
  constructor(
    message: string,
    readonly more: readonly string[] = [],
  ) {
    super(message);
  }
}

/** Most lines of a list that are shown. */
const MOST_LINES = 40;

const listed = ({ message, more }: UsageError): string[] => [
  message,
  ...more.slice(0, MOST_LINES).map((line) => `  ${line}`),
  ...(more.length > MOST_LINES ? [`  and ${more.length - MOST_LINES} more`] : []),
];

/** True for what no other image would do better: a wrong option, a full disk, Ctrl-C. */
export const isUsage = (error: unknown): boolean => error instanceof UsageError || error instanceof OptionError;

/** What to say about a failure, a line each, and the exit code. */
export function explainError(error: unknown): { readonly code: number; readonly lines: readonly string[] } {
  if (error instanceof OptionError) return { code: EXIT.usage, lines: [optionMessage(error)] };
  if (error instanceof UsageError) return { code: EXIT.usage, lines: listed(error) };
  if (error instanceof Image2TextError) return { code: EXIT.failed, lines: [error.message] };
  if (!(error instanceof Error)) return internal(new Error(String(error)));
  if (error.name === 'AbortError') return { code: EXIT.interrupted, lines: [] };
  if ((error as NodeJS.ErrnoException).syscall !== undefined) return { code: EXIT.failed, lines: [error.message] };
  return internal(error);
}

/** A mistake of our own is to be reported; where it happened is shown on request only. */
function internal(error: Error): ReturnType<typeof explainError> {
  const what = `internal error, please report it: ${error.name}: ${error.message.split('\n')[0]}`;
  const where =
    process.env['IMAGE2TEXT_STACK'] === undefined
      ? ['set IMAGE2TEXT_STACK=1 to see where']
      : (error.stack ?? '').split('\n').slice(1);
  return { code: EXIT.failed, lines: [what, ...where] };
}

/** Options of the library whose flag is not in their declaration. */
const FLAGS: Readonly<Record<string, string>> = {
  as: '--as',
  image: '--image',
  maxShardBytes: '--max-shard-size',
  dtype: '--dtype',
  batchSize: '--batch',
  labels: '--labels',
  cacheDir: '--cache-dir',
  revision: '--revision',
  maxLength: '--max-new-tokens',
};

const flagOf = (option: string): string | undefined =>
  (({ ...generationOptions, ...IMAGE_OPTIONS }) as OptionTable)[option]?.flag ?? FLAGS[option];

/** The message with the flags of the command in place of the library's names. */
function optionMessage({ path = '', code, detail, message }: OptionError): string {
  const flag = flagOf(path.replace(/\[.*$/, ''));
  if (flag === undefined) return message;
  const inFlags = detail.replace(/\b[a-z]+(?:[A-Z][a-z]*)+\b/g, (name) => flagOf(name) ?? name);
  return `${flag}: ${code}: ${inFlags}`;
}

/** What a running command has at hand. */
export interface Context {
  readonly terminal: Terminal;
  /** Fires at Ctrl-C, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal;
  /** Writes a line of results; nothing else goes to stdout. */
  stdout(line: string): Promise<void>;
  /** The same without an end of line. */
  write(text: string): Promise<void>;
  /** Writes a line to stderr. */
  stderr(line: string): void;
  /** Says on stderr, in one line, what went wrong; returns the exit code for it. */
  report(error: unknown): number;
  /** The line below everything, where progress is shown. */
  readonly status: StatusLine;
  readonly loadModel: LoadModel;
}

/** Loads a checkpoint that is open; the command disposes of the model. Tests give one that keeps a model for many runs. */
export type LoadModel = (files: ModelFiles, options: NodeLoadOptions) => Promise<Image2Text>;

const loadFresh: LoadModel = async (files, options) => (await import('../node.js')).loadImage2Text(files, options);

/** A command as it runs: arguments of the command line, its options, and where it is. Resolves to the exit code. */
export type Run<Flags> = (names: readonly string[], flags: Flags, context: Context) => Promise<number>;

/** A command of the program: what `--help` says, and what it does. Its action imports what is heavy, so that `--help` is quick. */
export interface CliCommand {
  readonly name: string;
  describe(command: Command): void;
  readonly run: Run<never>;
  /** Its arguments are images or videos, whose names need not be UTF-8. */
  readonly takesImages?: boolean;
}

/** Signals that stop a run, and the exit code of each (128 and its number, as shells have it). */
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
type SignalName = keyof typeof SIGNALS;

/**
 * Runs `body` with a signal that Ctrl-C, SIGTERM and SIGHUP fire. After the first of them the system's own handling is back, so that a
 * second one ends the process at once, whatever it waits for. A reader that closes our stdout ends the run quietly.
 */
export async function inContext(
  terminal: Terminal,
  body: (context: Context) => Promise<number>,
  loadModel: LoadModel = loadFresh,
): Promise<number> {
  const controller = new AbortController();
  const names = Object.keys(SIGNALS) as SignalName[];
  let stopped: SignalName | undefined;
  const ignoreSignals = (): void => {
    for (const name of names) process.off(name, onSignal);
  };
  function onSignal(name: SignalName): void {
    stopped = name;
    ignoreSignals();
    controller.abort();
  }
  const context = { ...makeContext(terminal, controller.signal), loadModel };
  for (const name of names) process.on(name, onSignal);
  try {
    return await body(context);
  } catch (error) {
    if (error instanceof ReaderGone) return EXIT.done;
    return stopped === undefined ? context.report(error) : SIGNALS[stopped];
  } finally {
    ignoreSignals();
    context.status.clear();
  }
}

/** Sends the process a Ctrl-C that a terminal in raw mode gave to readline. */
export function interrupt(): void {
  if (process.listenerCount('SIGINT') > 0) process.emit('SIGINT', 'SIGINT');
  else process.kill(process.pid, 'SIGINT');
}

function makeContext(terminal: Terminal, signal: AbortSignal): Omit<Context, 'loadModel'> {
  const status = statusLine(terminal.stderr);
  const stderr = (line: string): void => {
    status.clear();
    terminal.stderr.write(`${plain(line)}\n`);
  };
  const write = (text: string): Promise<void> => {
    if (terminal.stdout.isTTY === true) status.clear();
    return send(terminal.stdout, text);
  };
  return {
    terminal,
    signal,
    status,
    stdout: (line) => write(`${line}\n`),
    write,
    stderr,
    report(error) {
      const { code, lines } = explainError(error);
      for (const line of lines) stderr(`image2text: ${line}`);
      return code;
    },
  };
}
