import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { OptionError } from 'generative-image2text';
import { checkValue, expectation } from 'generative-image2text/options';
import type { Declared, OptionTable } from './options.js';

/** A mistake in the command line. */
export class UsageError extends Error {}

/** Exit codes, as `image2text` has them. */
export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** Tables of options, and which of their takers a command is (`serve`, `queue`); undefined: every option that has a flag. */
export type FlagTables = readonly (readonly [table: OptionTable, taker?: string | undefined])[];

interface Flag {
  readonly name: string;
  readonly flag: string;
  readonly declaration: Declared;
  readonly fallback: unknown;
}

const flagsOf = (tables: FlagTables): Flag[] =>
  tables.flatMap(([table, taker]) =>
    Object.entries(table)
      .filter(([, { flag, defaults }]) => flag !== undefined && (taker === undefined || Object.hasOwn(defaults, taker)))
      .map(([name, declaration]) => ({
        name,
        flag: declaration.flag!.slice(2),
        declaration,
        fallback: taker === undefined ? undefined : declaration.defaults[taker],
      })),
  );

/** What a command line says: for every table the options that were given, with the defaults of its taker filled in. */
export interface CommandLine {
  readonly options: readonly Readonly<Record<string, unknown>>[];
  readonly names: readonly string[];
  readonly help: boolean;
}

/** @throws UsageError naming the flag. */
export function parseCommandLine(args: readonly string[], tables: FlagTables): CommandLine {
  const flags = flagsOf(tables);
  const isSwitch = ({ declaration }: Flag): boolean => declaration.type === 'boolean';
  const known = Object.fromEntries(
    flags.map((one) => [one.flag, { type: isSwitch(one) ? ('boolean' as const) : ('string' as const) }]),
  );
  const options = { ...known, help: { type: 'boolean' as const, short: 'h' } };
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError((error as Error).message.split('. To specify')[0]);
  }
  const { values, positionals } = parsed;
  return {
    names: positionals,
    help: values['help'] === true,
    options: tables.map(([table, taker]) => {
      const own = flagsOf([[table, taker]]).map((flag) => [flag.name, flagValue(flag, values[flag.flag])] as const);
      return Object.fromEntries(own.filter(([, value]) => value !== undefined));
    }),
  };
}

function flagValue({ name, flag, declaration, fallback }: Flag, given: unknown): unknown {
  if (given === undefined) return fallback;
  if (declaration.type === 'boolean') return !(Object.values<unknown>(declaration.defaults)[0] === true);
  try {
    return checkValue(parseValue(given as string, declaration), declaration, name);
  } catch (error) {
    if (error instanceof OptionError) throw new UsageError(`--${flag}: ${error.detail}`);
    throw error;
  }
}

/** The library's value of a text, by the option's type: also for the fields of forms and addresses. */
export function parseValue(given: string, { type, choices, expected }: Declared): unknown {
  switch (type) {
    case 'integer':
    case 'number':
      return given.trim() === '' ? given : Number(given);
    case 'boolean':
      return given === 'true' ? true : given === 'false' ? false : given;
    case 'choice':
      return choices!.find((one) => String(one) === given) ?? given;
    case 'list':
      return /^\s*\[/.test(given) ? (parseJson(given) ?? given) : textsOf(given);
    case 'texts':
      return textsOf(given);
    case 'object': {
      const [, min, max] = /^(\d{1,5}),(\d{1,5})$/.exec(given) ?? []; // the one object that has a flag is a pair of sides
      return min === undefined ? (parseJson(given) ?? expected) : { min: Number(min), max: Number(max) };
    }
    default:
      return given;
  }
}

const textsOf = (given: string): string[] =>
  given
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '');

function parseJson(given: string): unknown {
  try {
    return JSON.parse(given);
  } catch {
    return undefined;
  }
}

const HELP_WIDTH = 100;
const HELP_COLUMN = 28;

/** The options of a command, a paragraph each. */
export function helpOf(tables: FlagTables): string {
  return flagsOf(tables)
    .map(({ flag, declaration, fallback }) => {
      const { type, choices, help } = declaration;
      const off = type === 'boolean' && Object.values<unknown>(declaration.defaults)[0] === true;
      const value =
        type === 'boolean' ? '' : ` <${choices === undefined ? placeholder(declaration) : choices.join('|')}>`;
      const shown =
        fallback === undefined || type === 'boolean' || String(fallback) === '' ? '' : ` Default ${fallback}.`;
      return paragraph(`  --${flag}${value}`, `${off ? 'Do not ' : ''}${help}${shown}`);
    })
    .join('\n');
}

const placeholder = ({ type }: Declared): string =>
  type === 'integer' ? 'n' : type === 'number' ? 'x' : type === 'text' ? 'text' : 'list';

function paragraph(head: string, text: string): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.length - 1;
    if (lines[last]!.length + word.length + 1 > HELP_WIDTH - HELP_COLUMN && lines[last] !== '') lines.push(word);
    else lines[last] += lines[last] === '' ? word : ` ${word}`;
  }
  const indent = ' '.repeat(HELP_COLUMN);
  const first = head.length < HELP_COLUMN - 1 ? head.padEnd(HELP_COLUMN) : `${head}\n${indent}`;
  return first + lines.join(`\n${indent}`);
}

/** A table of options for the docs. */
export const optionRows = (tables: FlagTables): string[] =>
  flagsOf(tables).map(({ flag, declaration, fallback }) => {
    const shown = fallback === undefined || String(fallback) === '' ? '' : `\`${fallback}\``;
    return `| \`--${flag}\` | ${declaration.help} (${expectation(declaration)}) | ${shown} |`;
  });

export function packageVersion(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
