import { readFileSync } from 'node:fs';
import { type Command, CommanderError, Help, Command as Program } from 'commander';
import { answerCommand } from './answer.js';
import { captionCommand, videoCommand } from './caption.js';
import { type CliCommand, EXIT, inContext, type LoadModel, type Run, UsageError } from './context.js';
import { evaluateCommand, reproduceCommand } from './evaluate.js';
import { explainCommand } from './explain.js';
import { isEscaped } from './inputs.js';
import { addNote, wrap } from './options.js';
import { classifyCommand, embedCommand, scoreCommand } from './scores.js';
import { type OutputStream, plain, type Terminal } from './terminal.js';
import {
  convertCommand,
  doctorCommand,
  downloadCommand,
  inspectCommand,
  modelsCommand,
  parityCommand,
  verifyCommand,
} from './tools.js';
import { trainCommand } from './train.js';

const PACKAGE = 'generative-image2text-server';

/** What the package of the server has for this command. */
interface ServerPackage {
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

/** Brings the package of the server, which is installed apart. */
type LoadServer = () => Promise<ServerPackage>;
const loadServer: LoadServer = () => import(PACKAGE) as Promise<ServerPackage>;

/** Runs a command of the server's package, which reads its own options. @throws UsageError with how to install it where it is not. */
export async function runServer(
  args: readonly string[],
  terminal: Terminal = process,
  load: LoadServer = loadServer,
): Promise<number> {
  const server = await load().catch((error: { readonly code?: string }) => {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || !String(error).includes(PACKAGE)) throw error;
    throw new UsageError(`${args[0]} is in a package of its own: npm install ${PACKAGE}`);
  });
  return server.run(args, terminal);
}

const serverCommand = (name: string, description: string): CliCommand => ({
  name,
  describe(command) {
    command.description(description).argument('[args...]', 'see --help').allowUnknownOption().helpOption(false);
  },
  run: (args, _flags, { terminal }) => runServer([name, ...args], terminal),
});

/** `image2text serve`. */
export const serveCommand = serverCommand('serve', `Serve a model over HTTP (needs ${PACKAGE}).`);

/** `image2text queue`. */
export const queueCommand = serverCommand('queue', `Caption a dataset on many machines (needs ${PACKAGE}).`);

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
  for (const { name, describe, run, takesImages } of COMMANDS) {
    const command = program.command(name);
    describe(command);
    command.action(() => {
      refuseEscaped(command, takesImages === true);
      return start(run, command.args, command.opts() as never);
    });
  }
  return program;
}

/** Images and videos may have names that are not UTF-8; all else that is named must be text. */
function refuseEscaped(command: Command, takesImages: boolean): void {
  const values = Object.entries(command.opts()).flatMap(([flag, value]) => [value].flat().map((one) => [flag, one]));
  const others = takesImages ? [] : command.args.map((value) => ['an argument', value]);
  for (const [what, value] of [...values, ...others]) {
    if (typeof value !== 'string' || !isEscaped(value)) continue;
    command.error(`${what}: ${value} is not UTF-8: only images and videos may have such names`, {
      exitCode: EXIT.usage,
    });
  }
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
