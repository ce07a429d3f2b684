import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { WEIGHT_FORMATS } from '../checkpoint/stored-tensor.js';
import { OptionError } from '../errors.js';
import { generationOptions } from '../generation/options.js';
import type { ImageOptions } from '../image/image-options.js';
import { IMAGE_OPTIONS } from '../image/image-options.js';
import type { CaptionOptions, NodeLoadOptions } from '../node.js';
import type { OptionDeclaration, OptionTable } from '../options.js';
import { checkValue, takersOf } from '../options.js';
import { UsageError } from './context.js';
import type { Shard } from './inputs.js';
import { readTexts } from './inputs.js';
import type { Format } from './output.js';

// --- Values ---

/** A whole number between two bounds. */
export const integer = (least: number, most: number) => (text: string) => {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}.`);
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

/** What is used where no model is named. */
export const DEFAULT_MODEL = 'microsoft/git-base-textcaps';

/** Which model, and how it reads images. */
export function addModel(command: Command): Command {
  command
    .optionsGroup('Model and images:')
    .option(
      '--model <name>',
      `a checkpoint on the Hub (microsoft/git-base-coco) or its folder, or demo: the small one that comes with the package, which knows drawings only; default ${DEFAULT_MODEL}`,
    );
  addBackend(addHub(command)).addOption(
    new Option(
      '--weights <format>',
      'how weights are kept in memory; only simd and webgpu can keep them narrower than f32',
    )
      .choices(WEIGHT_FORMATS)
      .default('f32'),
  );
  command.option(
    '--token-merging <r>',
    'each layer of the vision tower merges its r most alike pairs of tokens: faster, and not the same features',
    integer(0, 1000),
  );
  command.option('--adapter <folder>', 'a LoRA adapter (of image2text train, or of PEFT) to be applied to it');
  return addDeclared(command, IMAGE_FLAGS);
}

// --- Options that the library declares ---

/** An option of the library's tables that has a flag. */
interface DeclaredFlag {
  readonly name: string;
  readonly flag: `--${string}`;
  readonly declaration: OptionDeclaration<never>;
  /** What the command takes in place of the library's value. */
  readonly form?: FlagForm | undefined;
}

/** A spelling of its own for the command line. */
interface FlagForm {
  readonly placeholder?: string;
  /** What is added to the declaration's help. */
  readonly note?: string;
  /** The value as text; default: the library's. */
  readonly showDefault?: (value: never) => string;
  readonly parse?: (text: string) => unknown;
}

const MEGAPIXEL = 1e6;

const FORMS: Readonly<Record<string, FlagForm>> = {
  maxPixels: {
    placeholder: '<n>',
    note: 'in millions',
    showDefault: (pixels: number) => String(pixels / MEGAPIXEL),
    parse(text) {
      const millions = Number(text);
      if (text.trim() !== '' && Number.isFinite(millions) && millions > 0) {
        return Math.max(1, Math.round(millions * MEGAPIXEL));
      }
      throw new InvalidArgumentError('expected a number above 0.');
    },
  },
  keepRatio: {
    placeholder: '<min,max>',
    parse(text) {
      const [, min, max] = /^(\d{1,5}),(\d{1,5})$/.exec(text) ?? [];
      if (min === undefined) throw new InvalidArgumentError('expected two whole numbers: 480,640.');
      return { min: Number(min), max: Number(max) };
    },
  },
  preprocessing: { note: 'for microsoft/git-*-vqav2 and git-*-textvqa original with their --keep-ratio' },
  badWords: { note: 'a file with one on each line, or texts with commas between them' },
  numReturnSequences: { note: 'more than one need --json or --jsonl' },
};

const flagsOf = (table: OptionTable): DeclaredFlag[] =>
  Object.entries(table).flatMap(([name, declaration]) =>
    declaration.flag === undefined ? [] : [{ name, declaration, flag: declaration.flag, form: FORMS[name] }],
  );

const IMAGE_FLAGS = flagsOf(IMAGE_OPTIONS);
const GENERATION_FLAGS = flagsOf(generationOptions);

function addDeclared(command: Command, flags: readonly DeclaredFlag[], strategies: readonly string[] = []): Command {
  for (const one of flags) command.addOption(optionOf(one, strategies));
  return command;
}

function optionOf(declared: DeclaredFlag, strategies: readonly string[]): Option {
  const { name, flag, declaration, form } = declared;
  const { type, choices } = declaration;
  const value = type === 'boolean' ? '' : ` ${form?.placeholder ?? placeholder(declaration)}`;
  const option = new Option(flag + value, helpOf(declared, strategies));
  option.negate = false; // commander takes `--no-repeat-ngram-size` for a negation
  if (choices !== undefined) option.choices(choices.map(String));
  else if (form?.parse !== undefined) option.argParser((text) => checked(form.parse!(text), declaration, name));
  else if (type === 'integer' || type === 'number') option.argParser((text) => parseNumber(text, declaration, name));
  return option;
}

const placeholder = ({ type, choices }: OptionDeclaration<never>): string =>
  type === 'integer' ? '<n>' : type === 'number' ? '<x>' : choices === undefined ? '<list>' : '<how>';

/**
 * The declaration's sentence, who takes the option where not all of `strategies` do, and its default. The flag of what is on by default
 * switches it off.
 */
function helpOf({ declaration, form }: DeclaredFlag, strategies: readonly string[]): string {
  const takers = Object.entries(declaration.defaults);
  const values = new Set(takers.map(([, value]) => value));
  const [value] = values;
  const show = (form?.showDefault ?? String) as (value: unknown) => string;
  const off = declaration.type === 'boolean' && value === true;
  const notes = [
    ...(form?.note === undefined ? [] : [form.note]),
    ...(takers.length < strategies.length && values.size === 1 ? [`for ${takersOf(declaration).join(', ')}`] : []),
    ...(values.size > 1 ? [`default ${takers.map(([taker, own]) => `${show(own)} for ${taker}`).join(', ')}`] : []),
    ...(values.size === 1 && value !== undefined && !off ? [`default ${show(value)}`] : []),
  ];
  const sentence = declaration.help.replace(/\.$/, '');
  const start = `${off ? 'do not ' : ''}${sentence[0]!.toLowerCase()}`;
  return `${start}${sentence.slice(1)}${notes.length > 0 ? `; ${notes.join('; ')}` : ''}`;
}

const parseNumber = (text: string, declaration: OptionDeclaration<never>, name: string): unknown =>
  checked(
    text.trim() === '' || (declaration.type === 'integer' && !/^\d+$/.test(text)) ? text : Number(text),
    declaration,
    name,
  );

/** A value that the declaration allows; what it says otherwise is said in commander's way. */
function checked(value: unknown, declaration: OptionDeclaration<never>, name: string): unknown {
  try {
    return checkValue(value, declaration, name);
  } catch (error) {
    if (error instanceof OptionError) throw new InvalidArgumentError(`${error.detail}.`);
    throw error;
  }
}

/** How commander calls the value of a flag: `--num-beams` is `numBeams`. */
const attributeOf = (flag: string): string =>
  flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

type Flags = Readonly<Record<string, unknown>>;

/** The library's value of what was given; undefined where it was not. */
const givenValue = (flags: Flags, { flag, declaration }: DeclaredFlag): unknown => {
  const given = flags[attributeOf(flag)];
  const { type, choices } = declaration;
  if (given === undefined) return undefined;
  if (type === 'boolean') return given !== Object.values<unknown>(declaration.defaults)[0];
  return choices === undefined ? given : choices.find((choice) => String(choice) === given);
};

/** Values of the flags of images; only `preprocessing` and `keepRatio` bear the library's names. */
export interface ImageFlags {
  readonly preprocessing?: ImageOptions['preprocessing'];
  readonly keepRatio?: ImageOptions['keepRatio'];
}

/**
 * The library's options of images.
 *
 * @throws UsageError for `--keep-ratio` without `--preprocessing original`.
 */
export function imageOptionsOf(flags: ImageFlags): Pick<NodeLoadOptions, keyof ImageOptions> {
  if (flags.keepRatio !== undefined && flags.preprocessing !== 'original') {
    throw new UsageError('--keep-ratio is for --preprocessing original');
  }
  const options = IMAGE_FLAGS.map((one) => [one.name, givenValue(flags as Flags, one)] as const);
  return Object.fromEntries(options.filter(([, value]) => value !== undefined));
}

/** Flags of all options of a table but `except`. */
export const addTable = (command: Command, table: OptionTable, except: readonly string[] = []): Command =>
  addDeclared(
    command,
    flagsOf(table).filter(({ name }) => !except.includes(name)),
  );

/** The library's options of what was given of a table. */
export const tableOptionsOf = (flags: object, table: OptionTable, except: readonly string[] = []): object =>
  Object.fromEntries(
    flagsOf(table)
      .filter(({ name }) => !except.includes(name))
      .map((one) => [one.name, givenValue(flags as Flags, one)] as const)
      .filter(([, value]) => value !== undefined),
  );

// --- Generation ---

/** Values of the options of generation, under the names that commander gives them. */
export type GenerationFlags = Flags & {
  readonly strategy?: NonNullable<CaptionOptions['strategy']>;
  readonly numReturnSequences?: number;
  readonly stopWords?: string;
};

/** Options of any method that generates. */
export interface GivenOptions {
  readonly strategy?: string | undefined;
}

const STRATEGIES = takersOf(generationOptions.strategy);

/** How words are chosen. */
export function addGeneration(command: Command, except: readonly string[] = []): Command {
  command.optionsGroup('How words are chosen:');
  const flags = GENERATION_FLAGS.filter(({ name }) => !except.includes(name));
  return addDeclared(command, flags, STRATEGIES);
}

/**
 * The library's options of what the command line says. Without `--strategy` the model's own generation_config.json decides.
 *
 * @throws UsageError for an option that the given strategy does not take, or options that no strategy takes together.
 */
export async function generationOptionsOf(
  flags: GenerationFlags,
  fallback?: GenerationFlags['strategy'],
): Promise<CaptionOptions> {
  const strategy = flags.strategy ?? fallback;
  const given: Record<string, unknown> = strategy === undefined ? {} : { strategy };
  for (const one of GENERATION_FLAGS) {
    const value = givenValue(flags, one);
    if (value !== undefined)
      given[one.name] = one.name === 'badWords' ? await readTexts(value as string, one.flag) : value;
  }
  if (strategy !== undefined) checkStrategy(given, strategy);
  else checkTogether(given);
  return given;
}

/** @throws UsageError for an option that the strategy does not take. */
export function checkStrategy(given: GivenOptions, strategy: string): void {
  for (const { flag, declaration } of givenFlags(given)) {
    const takers = takersOf(declaration);
    if (takers.includes(strategy)) continue;
    const own = given.strategy === undefined ? ", the model's own" : '';
    throw new UsageError(`${flag} is for --strategy ${listed(takers)}, this is ${strategy}${own}`);
  }
}

/** @throws UsageError where no strategy takes all options that are given. */
function checkTogether(given: GivenOptions): void {
  let [left, before] = [STRATEGIES, ''];
  for (const { flag, declaration } of givenFlags(given)) {
    const takers = takersOf(declaration);
    const both = left.filter((strategy) => takers.includes(strategy));
    if (both.length === 0) {
      const detail = `${before} is for --strategy ${listed(left)}, ${flag} for ${listed(takers)}`;
      throw new UsageError(`no strategy takes both: ${detail}`);
    }
    if (both.length < left.length) before = flag;
    left = both;
  }
}

const givenFlags = (given: GivenOptions): DeclaredFlag[] =>
  GENERATION_FLAGS.filter(({ name }) => (given as Flags)[name] !== undefined);

/** The flags of options that were given. */
export const flagsGiven = (given: GivenOptions): string[] => givenFlags(given).map(({ flag }) => flag);

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

/** @throws UsageError where there is no place to show evidence in. */
export function checkEvidence({ evidence }: EvidenceFlags, format: Format): void {
  if (evidence === true && format !== 'json' && format !== 'jsonl')
    throw new UsageError('--evidence is shown by --json and --jsonl only');
}

export const evidenceOf = ({ evidence }: EvidenceFlags): { readonly evidence?: true } =>
  evidence === true ? { evidence } : {};

interface EvidenceFlags {
  readonly evidence?: boolean;
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
