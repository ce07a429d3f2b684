import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { BACKENDS, WEIGHT_FORMATS } from '../backends.js';
import { DEMO_MODEL } from '../demo.js';

/** A whole number between two bounds. */
export const integer = (least: number, most: number) => (text: string) => {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}.`);
};

export const decimal = (text: string): number => {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('expected a number.');
};

const positive = (text: string): number => {
  const value = decimal(text);
  if (value > 0) return value;
  throw new InvalidArgumentError('expected a number above 0.');
};

const ratio = (text: string): { min: number; max: number } => {
  const [, min, max] = /^(\d{1,5}),(\d{1,5})$/.exec(text) ?? [];
  if (min === undefined) throw new InvalidArgumentError('expected two whole numbers: 480,640.');
  return { min: Number(min), max: Number(max) };
};

export const addBackend = (command: Command): Command =>
  command.addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'));

/** Which model, and how it sees. */
export function addModel(command: Command): Command {
  command.optionsGroup('Model and images:');
  command.option(
    '--model <name>',
    'name of a checkpoint on the Hub (microsoft/git-base-coco), or its folder',
    DEMO_MODEL,
  );
  command.options.at(-1)!.default(DEMO_MODEL, 'the demo that comes with the package');
  return addBackend(command)
    .addOption(
      new Option('--weights <format>', 'how weights are kept in memory; only simd can keep them narrower than f32')
        .choices(WEIGHT_FORMATS)
        .default('f32'),
    )
    .addOption(
      new Option('--preprocessing <route>', 'as Hugging Face does it, or the original')
        .choices(['huggingface', 'original'])
        .default('huggingface'),
    )
    .option(
      '--keep-ratio <min,max>',
      "with --preprocessing original: short side min, long side at most max, as the original's VQA models (480,640)",
      ratio,
    )
    .option('--ignore-orientation', 'leave images as stored, whatever their EXIF orientation says')
    .option('--max-megapixels <n>', 'refuse larger images; default 100', positive);
}

/** How words are chosen. */
export const addDecoding = (command: Command, defaultHow: string): Command =>
  command
    .optionsGroup('Decoding:')
    .addOption(
      new Option(
        '--decoding <how>',
        `the original's beam search, greedy, Hugging Face's beam search, or at random; default ${defaultHow}`,
      ).choices(['original', 'greedy', 'beam', 'sample']),
    )
    .option('--beams <n>', 'for original and beam: how many beams; default 4', integer(1, 64))
    .option('--length-penalty <x>', 'for original and beam: exponent of the length in a score', decimal)
    .option('--temperature <x>', 'for sample; default 1', decimal)
    .option('--top-k <n>', 'for sample; default 50', integer(0, 1_000_000))
    .option('--top-p <x>', 'for sample; default 1', decimal)
    .option('--seed <n>', 'for sample; default 0', integer(0, 2 ** 32 - 1))
    .addOption(
      new Option(
        '--early-stopping <when>',
        'for beam: when enough sentences have ended, stop at once, when no better one is likely, or when none is possible; default false',
      ).choices(['true', 'false', 'never']),
    )
    .option('--max-new-tokens <n>', 'most word pieces to write', integer(1, 65_536))
    .option('--min-new-tokens <n>', 'fewest word pieces to write', integer(0, 65_536))
    .option('--min-length <n>', 'the same, with those of the prompt and its start token', integer(0, 65_536))
    .option('--repetition-penalty <x>', 'above 1: words so far get less likely', decimal)
    .option('--no-repeat-ngram <n>', 'no run of n word pieces twice', integer(0, 1024));

/** Several texts of each image. */
export const addAlternatives = (command: Command): Command =>
  command.option(
    '--num-return-sequences <n>',
    'not for greedy: so many texts of each, the others as alternatives in --json and --jsonl',
    integer(1, 1024),
  );

export const addBatch = (command: Command, what: string, batch: number): Command =>
  command.option('--batch <n>', `${what} decoded together; results do not depend on it`, integer(1, 1024), batch);

/** How results look. */
export const addFormat = (command: Command): Command =>
  command
    .optionsGroup('Results:')
    .addOption(new Option('--json', 'one JSON value: an object, or an array for several').conflicts('jsonl'))
    .option('--jsonl', 'a line of JSON for each, as it is done')
    .option('--quiet', 'no progress bar, no summary; errors are shown');

export const addExamples = (command: Command, ...lines: readonly string[]): Command =>
  command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`);
