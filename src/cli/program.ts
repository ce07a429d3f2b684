import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { CommanderError, Command as Program } from 'commander';
import { convertPage } from './commands/convert.js';
import { doctorPage } from './commands/doctor.js';
import { downloadPage } from './commands/download.js';
import { modelsPage } from './commands/models.js';
import { verifyPage } from './commands/verify.js';
import type { Run } from './context.js';
import { inContext } from './context.js';
import { answerPage } from './describe/answer.js';
import { captionPage } from './describe/caption.js';
import { classifyPage } from './describe/classify.js';
import { embedPage } from './describe/embed.js';
import { explainPage } from './describe/explain.js';
import { inspectPage } from './describe/inspect.js';
import type { Page } from './describe/page.js';
import { parityPage } from './describe/parity.js';
import { scorePage } from './describe/score.js';
import { videoPage } from './describe/video.js';
import { EXIT } from './report.js';
import type { Terminal } from './terminal.js';
import { plain } from './terminal.js';

const PAGES: readonly Page[] = [
  captionPage,
  answerPage,
  videoPage,
  classifyPage,
  scorePage,
  embedPage,
  explainPage,
  inspectPage,
  parityPage,
  modelsPage,
  downloadPage,
  verifyPage,
  convertPage,
  doctorPage,
];

/**
 * Runs a command line (without `node` and the script) and resolves to its exit code. Whatever is heavy is imported when a command runs,
 * so that `--help` is quick.
 */
export async function run(args: readonly string[], terminal: Terminal = process): Promise<number> {
  const ignore = (): void => {}; // what `send` rejects with is dealt with there; an 'error' event would end the process
  const streams = [terminal.stdout, terminal.stderr];
  for (const stream of streams) stream.on('error', ignore);
  try {
    return await parse(args, terminal);
  } finally {
    if (terminal !== process) for (const stream of streams) stream.off('error', ignore);
  }
}

async function parse(args: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode: number = EXIT.done;
  const program = describeProgram(terminal, (run, names, flags) =>
    inContext(terminal, async (context) => (await run())(names, flags, context)).then((code) => {
      exitCode = code;
    }),
  );
  try {
    await program.parseAsync(args as string[], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
}

type Start = (load: () => Promise<Run<never>>, names: readonly string[], flags: never) => Promise<void>;

function describeProgram(terminal: Terminal, start: Start): Command {
  const program = new Program('image2text')
    .description('Says what is in images and videos, with GIT (GenerativeImage2Text) on TensorFlow.js.')
    .version(packageVersion(), '-V, --version')
    .showHelpAfterError('(--help shows what is possible)')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      writeErr: (text) => void terminal.stderr.write(text),
      outputError: (text, write) => write(`image2text: ${plain(oneLine(text))}\n`),
      getOutHelpWidth: () => terminal.stdout.columns ?? 100,
      getErrHelpWidth: () => terminal.stderr.columns ?? 100,
    })
    .addHelpText(
      'after',
      `
Results go to stdout, everything else to stderr.
Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
image2text COMMAND --help shows the options of a command, with examples.`,
    );
  for (const { name, describe, load } of PAGES) {
    const command = program.command(name);
    describe(command);
    command.action(() => start(load, command.args, command.opts() as never));
  }
  return program;
}

/** What commander says of a mistake; it puts what may have been meant on a second line. */
const oneLine = (text: string): string =>
  text
    .trim()
    .replace(/^error: /, '')
    .replace(/\n(?=\(Did you mean [^\n]*\)$)/, ' ');

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
