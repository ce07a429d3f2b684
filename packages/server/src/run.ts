import { Image2TextError, OptionError } from 'generative-image2text';
import { EXIT, packageVersion, UsageError } from './command-line.js';
import type { Terminal } from './serve.js';

const HELP = `Usage: image2text-server serve|queue [options]

  serve   serve a model over HTTP
  queue   caption a dataset on many machines: queue add, work, status, merge

image2text-server serve --help and queue --help show the options.`;

/** Where lines go. */
export interface Streams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/** Runs a command line (without `node` and the script) and resolves to its exit code. Ctrl-C and SIGTERM end it in order. */
export async function run(args: readonly string[], streams: Streams = process): Promise<number> {
  const stopping = new AbortController();
  const stop = (): void => {
    for (const name of SIGNALS) process.off(name, stop); // a second one ends the process at once
    stopping.abort();
  };
  for (const name of SIGNALS) process.on(name, stop);
  const write = (name: keyof Streams) => (line: string) => void streams[name].write(`${line}\n`);
  const terminal: Terminal = { stdout: write('stdout'), stderr: write('stderr'), signal: stopping.signal };
  try {
    return await command(args, terminal);
  } catch (error) {
    if (stopping.signal.aborted) return EXIT.interrupted;
    const code = error instanceof UsageError || error instanceof OptionError ? EXIT.usage : EXIT.failed;
    const known =
      code === EXIT.usage || error instanceof Image2TextError || (error as { code?: string }).code !== undefined;
    terminal.stderr(`image2text: ${known ? (error as Error).message : String((error as Error).stack ?? error)}`);
    return code;
  } finally {
    for (const name of SIGNALS) process.off(name, stop);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

async function command([name, ...rest]: readonly string[], terminal: Terminal): Promise<number> {
  if (name === 'serve') return (await import('./serve.js')).serve(rest, terminal);
  if (name === 'queue') return (await import('./queue/commands.js')).queue(rest, terminal);
  if (name === '--version' || name === '-V') terminal.stdout(packageVersion());
  else if (name === undefined || name === '--help' || name === '-h') terminal.stdout(HELP);
  else throw new UsageError(`${name}: the commands are serve and queue`);
  return EXIT.done;
}
