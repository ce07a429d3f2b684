import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { WEIGHT_FORMATS } from '../checkpoint/dtypes.js';
import { OptionError } from '../errors.js';
import { generationOptions } from '../generation/options.js';
import { IMAGE_OPTIONS, PREPROCESSINGS } from '../image/image-options.js';
import type { CaptionOptions } from '../node.js';
import type { OptionDeclaration } from '../options.js';
import { checkValue, takersOf } from '../options.js';
import { UsageError } from './errors.js';
import type { Shard } from './inputs.js';
import { readTexts } from './inputs.js';
import { DEFAULT_MODEL } from './model.js';
import type { Format } from './output.js';

// --- Values ---

/** A whole number between two bounds. */
export const integer = (least: number, most: number) => (text: string) => {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}.`);
};

const positive = (text: string): number => {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('expected a number above 0.');
};

const ratio = (text: string): { min: number; max: number } => {
  const [, min, max] = /^(\d{1,5}),(\d{1,5})$/.exec(text) ?? [];
  if (min === undefined) throw new InvalidArgumentError('expected two whole numbers: 480,640.');
  return { min: Number(min), max: Number(max) };
};

export const shard = (text: string): Shard => {
  const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(text)?.map(Number) ?? [];
  if (index !== undefined && count !== undefined && index >= 1 && index <= count) return { index, count };
  throw new InvalidArgumentError('expected a part and how many there are: 1/8 to 8/8.');
};

// --- Model and images ---

/** Names of Node's backends, apart from their code, so that `--help` does not load TensorFlow.js. A test compares them with the entry point's. */
export const BACKENDS = ['auto', 'simd', 'wasm', 'cpu', 'webgpu', 'node', 'node-gpu'];

export const addBackend = (command: Command): Command =>
  command.addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'));

/** Where a checkpoint comes from and where it is kept. */
export const addHub = (command: Command): Command =>
  command
    .option('--revision <name>', 'branch, tag or commit on the Hub; default main')
    .option('--cache-dir <dir>', "instead of Hugging Face's cache (HF_HUB_CACHE, HF_HOME)");

const { maxPixels, orientation, preprocessing, keepRatio } = IMAGE_OPTIONS;

/** Which model, and how images become its input. */
export function addModel(command: Command): Command {
  command
    .optionsGroup('Model and images:')
    .option(
      '--model <name>',
      `a checkpoint on the Hub (microsoft/git-base-coco) or its folder, or demo: the small one that comes with the package, which knows drawings only; default ${DEFAULT_MODEL}`,
    );
  return addBackend(addHub(command))
    .addOption(
      new Option('--weights <format>', 'how weights are kept in memory; only simd can keep them narrower than f32')
        .choices(WEIGHT_FORMATS)
        .default('f32'),
    )
    .addOption(
      new Option(`${preprocessing.flag} <name>`, clauseOf(preprocessing))
        .choices(PREPROCESSINGS)
        .default(preprocessing.defaults.preprocess),
    )
    .option(`${keepRatio.flag} <min,max>`, clauseOf(keepRatio), ratio)
    .option(orientation.flag!, 'leave images as stored, whatever orientation their metadata ask for')
    .option(`${maxPixels.flag} <n>`, `${clauseOf(maxPixels)}; default ${maxPixels.defaults.decode / 1e6}`, positive);
}

// --- Generation ---

type Declarations = typeof generationOptions;
type OptionName = keyof Declarations & string;

/** Values of the options of generation, under the names that commander gives them. */
export type GenerationFlags = Readonly<Record<string, unknown>> & {
  readonly strategy?: NonNullable<CaptionOptions['strategy']>;
  readonly numReturnSequences?: number;
  readonly stopWords?: string;
};

/** Options of generation that the command has, as they are declared. */
const DECLARED: readonly (readonly [OptionName, OptionDeclaration<never>, `--${string}`])[] = (
  Object.entries(generationOptions) as [OptionName, OptionDeclaration<never>][]
).flatMap(([name, declaration]) => (declaration.flag === undefined ? [] : [[name, declaration, declaration.flag]]));

/** How words are chosen. */
export function addGeneration(command: Command, except: readonly OptionName[] = []): Command {
  command.optionsGroup('How words are chosen:');
  for (const [name, declaration, flag] of DECLARED) {
    if (!except.includes(name)) command.addOption(optionOf(name, declaration, flag));
  }
  return command;
}

function optionOf(name: OptionName, declaration: OptionDeclaration<never>, flag: string): Option {
  const option = new Option(`${flag} ${placeholder(declaration)}`, helpOf(name, declaration));
  option.negate = false; // commander takes `--no-repeat-ngram-size` for a negation
  const { choices } = declaration;
  if (choices !== undefined) option.choices(choices.map(String));
  else if (declaration.type === 'integer' || declaration.type === 'number')
    option.argParser(parserOf(declaration, name));
  return option;
}

const placeholder = ({ type, choices }: OptionDeclaration<never>): string =>
  type === 'integer' ? '<n>' : type === 'number' ? '<x>' : choices === undefined ? '<list>' : '<how>';

/** The declaration's sentence as the command's help has it: no capital, no full stop. */
const clauseOf = ({ help }: { readonly help: string }): string =>
  `${help[0]!.toLowerCase()}${help.slice(1).replace(/\.$/, '')}`;

/** The declaration's sentence, who takes the option where not all do, and its default. */
function helpOf(name: OptionName, declaration: OptionDeclaration<never>): string {
  const takers = Object.entries(declaration.defaults);
  const everyone = takersOf(generationOptions.strategy as OptionDeclaration<never>).length;
  const values = new Set(takers.map(([, value]) => value));
  const [value] = values;
  const notes = [
    ...(name === 'badWords' ? ['a file with one on each line, or texts with commas between them'] : []),
    ...(name === 'numReturnSequences' ? ['more than one need --json or --jsonl'] : []),
    ...(takers.length < everyone && values.size === 1 ? [`for ${takers.map(([taker]) => taker).join(', ')}`] : []),
    ...(values.size > 1 ? [`default ${takers.map(([taker, own]) => `${own} for ${taker}`).join(', ')}`] : []),
    ...(values.size === 1 && value !== undefined ? [`default ${value}`] : []),
  ];
  return [clauseOf(declaration), ...notes].join('; ');
}

const parserOf =
  (declaration: OptionDeclaration<never>, name: string) =>
  (text: string): number => {
    try {
      const number =
        text.trim() === '' || (declaration.type === 'integer' && !/^\d+$/.test(text)) ? text : Number(text);
      return checkValue(number as number, declaration as OptionDeclaration<number>, name);
    } catch (error) {
      if (error instanceof OptionError) throw new InvalidArgumentError(`${error.detail}.`);
      throw error;
    }
  };

/** How commander calls the value of a flag: `--num-beams` is `numBeams`. */
const attributeOf = (flag: string): string =>
  flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/**
 * The library's options of what the command line says. Without `--strategy` the model's own generation_config.json decides.
 *
 * @throws UsageError for an option that the given strategy does not have.
 */
export async function generationOptionsOf(
  flags: GenerationFlags,
  fallback?: GenerationFlags['strategy'],
): Promise<CaptionOptions> {
  const strategy = flags.strategy ?? fallback;
  const given: Record<string, unknown> = strategy === undefined ? {} : { strategy };
  for (const [name, declaration, flag] of DECLARED) {
    const value = flags[attributeOf(flag)];
    if (value === undefined) continue;
    const takers = takersOf(declaration);
    if (strategy !== undefined && !takers.includes(strategy)) {
      throw new UsageError(`${flag} is for --strategy ${listed(takers)}, this is ${strategy}`);
    }
    given[name] =
      declaration.choices !== undefined
        ? declaration.choices.find((choice) => String(choice) === value)
        : name === 'badWords'
          ? await readTexts(value as string, flag)
          : value;
  }
  return given as CaptionOptions;
}

const listed = (names: readonly string[]): string => new Intl.ListFormat('en-US', { style: 'long' }).format(names);

/**
 * More than one text of each image needs a format that has room for them.
 *
 * @throws UsageError
 */
export function checkAlternatives({ numReturnSequences = 1 }: GenerationFlags, format: Format): void {
  if (numReturnSequences === 1 || format === 'json' || format === 'jsonl') return;
  throw new UsageError('--num-return-sequences needs --json or --jsonl, which show the alternatives');
}

/** True where words come one after the other for good; beams change theirs until the end. */
export const canStream = (options: CaptionOptions): boolean =>
  options.strategy === 'greedy' || options.strategy === 'sample';

// --- Inputs and results ---

/** Several images from folders. */
export const addInputs = (command: Command): Command =>
  command
    .option('--recursive', 'folders with all folders below them')
    .option(
      '--files-from <file>',
      'more images: a file with a name on each line (or as find -print0 has them); - for stdin',
    )
    .option('--shard <i/n>', 'only one of n parts of the images, the same on every machine: 1/8 to 8/8', shard);

export const addBatch = (command: Command, what: string, batch: number): Command =>
  command.option('--batch <n>', `${what} decoded together; results do not depend on it`, integer(1, 1024), batch);

/** How results look. */
export const addFormat = (command: Command): Command =>
  command
    .optionsGroup('Results:')
    .addOption(new Option('--json', 'one JSON value: an object, or an array for several').conflicts('jsonl'))
    .option('--jsonl', 'a line of JSON for each, as it is done')
    .option('--quiet', 'no progress bar, no summary; errors are shown');

// --- Help ---

/** Examples below the help: command lines, which go on with `\` where they are too long. */
export const addExamples = (command: Command, ...lines: readonly string[]): Command =>
  command.addHelpText('after', ({ error }) => {
    const width = helpWidth(command, error);
    const wrapped = lines.map((line) => {
      const words = line.match(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g) ?? [];
      return `  ${wrap(words, width - 2, '    ', ' \\').replaceAll('\n', '\n  ')}`;
    });
    return `\nExamples:\n${wrapped.join('\n')}`;
  });

/** A paragraph below the help. */
export const addNote = (command: Command, text: string): Command =>
  command.addHelpText('after', ({ error }) => `\n${wrap(text.split(' '), helpWidth(command, error))}`);

function helpWidth(command: Command, error: boolean): number {
  const { getOutHelpWidth, getErrHelpWidth } = command.configureOutput();
  return (error ? getErrHelpWidth?.() : getOutHelpWidth?.()) ?? 80;
}

/** Words in lines of at most `width` columns; all but the first begin with `indent`, all but the last end with `end`. */
export function wrap(words: readonly string[], width: number, indent = '', end = ''): string {
  const lines: string[] = [];
  let line = '';
  for (const word of words) {
    if (line === '') line = word;
    else if (line.length + 1 + word.length + end.length <= width) line += ` ${word}`;
    else {
      lines.push(line + end);
      line = indent + word;
    }
  }
  return [...lines, line].join('\n');
}
