import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { CommanderError, Help, Command as Program } from 'commander';
import { answerCommand } from './answer.js';
import { captionCommand } from './caption.js';
import { classifyCommand } from './classify.js';
import { type CliCommand, EXIT, inContext, type LoadModel, type Run } from './context.js';

import { convertCommand } from './convert.js';
import { doctorCommand } from './doctor.js';
import { embedCommand } from './embed.js';
import { evaluateCommand } from './evaluate.js';
import { explainCommand } from './explain.js';
import { inspectCommand } from './inspect.js';
import { downloadCommand, modelsCommand } from './models.js';

import { addNote, wrap } from './options.js';
import { parityCommand } from './parity.js';
import { reproduceCommand } from './reproduce.js';
import { scoreCommand } from './score.js';
import { queueCommand, serveCommand } from './server.js';
import type { OutputStream, Terminal } from './terminal.js';
import { plain } from './terminal.js';
import { trainCommand } from './train.js';
import { verifyCommand } from './verify.js';
import { videoCommand } from './video.js';

/** In the order of the help. */
export const COMMANDS: readonly CliCommand[] = [
  captionCommand,
  answerCommand,
  videoCommand,
  classifyCommand,
  scoreCommand,
  embedCommand,
  explainCommand,
  evaluateCommand,
  reproduceCommand,
  inspectCommand,
  trainCommand,
  parityCommand,
  modelsCommand,
  downloadCommand,
  convertCommand,
  verifyCommand,
  doctorCommand,
  serveCommand,
  queueCommand,
];

/**
 * Runs a command line (without `node` and the script) and resolves to its exit code. Whatever is heavy is imported when a command runs,
 * so that `--help` is quick.
 */
export async function run(
  args: readonly string[],
  terminal: Terminal = process,
  loadModel?: LoadModel,
): Promise<number> {
  const ignore = (): void => {}; // what `send` rejects with is dealt with there; an 'error' event would end the process
  const streams = [terminal.stdout, terminal.stderr];
  for (const stream of streams) stream.on('error', ignore);
  try {
    return await parse(args, terminal, loadModel);
  } finally {
    if (terminal !== process) for (const stream of streams) stream.off('error', ignore);
  }
}

async function parse(args: readonly string[], terminal: Terminal, loadModel?: LoadModel): Promise<number> {
  let exitCode: number = EXIT.done;
  const program = describeProgram(terminal, (run, names, flags) =>
    inContext(terminal, (context) => run(names, flags, context), loadModel).then((code) => {
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

type Start = (run: Run<never>, names: readonly string[], flags: never) => Promise<void>;

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
      getOutHelpWidth: () => helpWidthOf(terminal.stdout),
      getErrHelpWidth: () => helpWidthOf(terminal.stderr),
    })
    .configureHelp(HELP);
  addNote(program, 'Results go to stdout, everything else to stderr.');
  addNote(program, 'Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.');
  addNote(program, 'image2text COMMAND --help shows the options of a command, with examples.');
  for (const { name, describe, run } of COMMANDS) {
    const command = program.command(name);
    describe(command);
    command.action(() => start(run, command.args, command.opts() as never));
  }
  return program;
}

const NARROWEST_HELP = 40;
const helpWidthOf = ({ columns }: OutputStream): number => Math.max(columns || 100, NARROWEST_HELP);

/** Least columns for descriptions beside the options; where there are fewer, they stand below them. */
const LEAST_DESCRIPTION = 36;

/** Help that breaks between words at every width. */
const HELP: Partial<Help> = {
  minWidthToWrap: 20,
  formatItem(term, termWidth, description, helper) {
    const width = helper.helpWidth ?? 80;
    if (description === '' || width - termWidth - 4 >= LEAST_DESCRIPTION) {
      return Help.prototype.formatItem.call(this, term, termWidth, description, helper);
    }
    return `  ${term}\n${indented(helper.boxWrap(description, width - 6), 6)}`;
  },
  styleUsage(this: Help, text) {
    return indented(wrap(text.split(' '), (this.helpWidth ?? 80) - 'Usage: '.length), 7).trimStart();
  },
};

const indented = (text: string, columns: number): string => text.replace(/^/gm, ' '.repeat(columns));

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
