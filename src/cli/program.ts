import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { DEMO_MODEL } from './model.js';
import { EXIT, withInterrupt } from './terminal.js';

const BACKENDS = ['auto', 'wasm', 'cpu', 'webgpu', 'node', 'node-gpu'];

/** Runs a command line (without `node` and the script) and resolves to its exit code. Heavy modules load only when a command runs. */
export async function run(args: readonly string[]): Promise<number> {
  let exitCode: number = EXIT.done;
  const program = describeProgram((code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(args as string[], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
}

type Action<Flags> = (names: readonly string[], flags: Flags, signal: AbortSignal) => Promise<number>;

function describeProgram(exit: (code: number) => void): Command {
  const program = new Command('image2text')
    .description('Says what is in pictures, with GIT (GenerativeImage2Text) on TensorFlow.js.')
    .version(packageVersion(), '-V, --version')
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(image2text --help shows what is possible)')
    .exitOverride();
  program.addHelpText(
    'after',
    '\nResults go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.',
  );

  /** A command whose code is loaded when it runs. */
  const action =
    <Flags>(load: () => Promise<Action<Flags>>) =>
    async (names: string | string[], flags: Flags): Promise<void> => {
      exit(await withInterrupt(async (signal) => (await load())([names].flat(), flags, signal)));
    };

  program
    .command('caption')
    .description('Say what is in each picture.')
    .argument('<files...>', 'pictures (PNG, JPEG, WebP, GIF), URLs, folders, globs; - for stdin')
    .addOption(modelOption())
    .addOption(backendOption())
    .addOption(
      new Option(
        '--decoding <how>',
        "how words are chosen: the original's beam search, greedy, Hugging Face's beam search, or at random",
      )
        .choices(['original', 'greedy', 'beam', 'sample'])
        .default('original'),
    )
    .option('--beams <n>', 'how many beams (original, beam); default 4', integer(1, 64))
    .option('--max-new-tokens <n>', 'most words pieces to write', integer(1, 65_536))
    .option('--length-penalty <x>', 'exponent of the length in a beam score', decimal)
    .option('--temperature <x>', 'for --decoding sample; default 1', decimal)
    .option('--top-k <n>', 'for --decoding sample; default 50', integer(0, 1_000_000))
    .option('--top-p <x>', 'for --decoding sample; default 1', decimal)
    .option('--seed <n>', 'for --decoding sample; default 0', integer(0, 2 ** 32 - 1))
    .option('--repetition-penalty <x>', 'above 1: words so far get less likely', decimal)
    .option('--no-repeat-ngram <n>', 'no run of n word pieces twice', integer(0, 1024))
    .option('--prompt <text>', 'text that the caption goes on from')
    .option('--batch <n>', 'pictures decoded together; results do not depend on it', integer(1, 1024), 1)
    .addOption(
      new Option('--preprocessing <route>', 'as Hugging Face does it, or the original')
        .choices(['huggingface', 'original'])
        .default('huggingface'),
    )
    .option('--ignore-orientation', 'leave pictures as stored, whatever their EXIF orientation says')
    .option('--max-megapixels <n>', 'refuse larger pictures; default 100', decimal)
    .addOption(new Option('--json', 'one JSON value: an object, or an array for several pictures').conflicts('jsonl'))
    .option('--jsonl', 'a line of JSON for each picture, as it is done')
    .addHelpText(
      'after',
      `
Examples:
  image2text caption photo.jpg
  image2text caption holiday/ --jsonl > captions.jsonl
  image2text caption shop.png --model ./git-base-textcaps --decoding greedy
  curl -s https://example.com/cat.jpg | image2text caption -`,
    )
    .action(action(async () => (await import('./commands/caption.js')).captionCommand));

  program
    .command('parity')
    .description('Compare this implementation with reference numbers: finds the cases below a folder and runs each.')
    .argument('<dir>', 'folder with cases (docs/parity.md describes the layouts)')
    .addOption(backendOption())
    .option('--only <pattern>', 'only cases whose path matches: text, or a glob with *')
    .option('--json', 'a JSON array of rows')
    .addHelpText(
      'after',
      '\nExit code 1 if any case fails. A case that cannot be run is listed as not run, never as passed.',
    )
    .action(action(async () => (await import('./commands/parity.js')).parityCommand));

  program
    .command('inspect')
    .description('Show what is in a file that a checkpoint is made of, or in a picture.')
    .argument(
      '<file>',
      'safetensors file or shard index, config, preprocessor config, vocabulary, tokenizer, picture, or a folder of them',
    )
    .option(
      '--check',
      'read everything as loading would; exit code 0: would load, 1: illegal, 3: legal but unsupported',
    )
    .option('--json', 'one JSON object')
    .action(action(async () => (await import('./commands/inspect.js')).inspectCommand));
  return program;
}

const modelOption = () =>
  new Option('--model <dir>', 'folder of a checkpoint: config.json, weights, vocab.txt').default(
    DEMO_MODEL,
    'the demo that comes with the package',
  );
const backendOption = () => new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto');

/** A whole number between two bounds. */
const integer = (least: number, most: number) => (text: string) => {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}.`);
};

const decimal = (text: string): number => {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('expected a number.');
};

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
