/**
 * Options are declared once: what an option takes, its range, its default for each strategy or method that takes it, its flag, its Hugging
 * Face name and its help are in one place. Types, checks, the command's flags, snake_case aliases and the tables in docs/ are made from that.
 */
import { OptionError, quote } from './errors.js';

/** What the value of an option is. `list`, `object` and `function` are checked further by the declaration's own `check`. */
export type OptionType =
  | 'integer'
  | 'number'
  | 'boolean'
  | 'choice'
  | 'text'
  | 'texts'
  | 'list'
  | 'function'
  | 'object'
  | 'signal';

/** Defaults by taker (a strategy or a method). A taker that is not named does not take the option; undefined: it is off, or has no default. */
export type Defaults<Value = unknown> = Readonly<Record<string, Value | undefined>>;

/** One option. Its name is its key in the table, spelled the same everywhere but in flags and Hugging Face's names. */
export interface OptionDeclaration<Value = unknown, ByTaker extends Defaults = Defaults> {
  readonly type: OptionType;
  readonly defaults: ByTaker;
  /** One sentence for help and docs, in words that hold for the command and the library. */
  readonly help: string;
  /** The command's spelling, where it has the option. */
  readonly flag?: `--${string}`;
  /** Its name in transformers and generation_config.json, where it has one with the same meaning. */
  readonly huggingFace?: string;
  /** Least and greatest value, both allowed. */
  readonly least?: number;
  readonly most?: number;
  /** Numbers only: values must be greater than this one. */
  readonly above?: number;
  readonly choices?: readonly (string | boolean)[];
  /** What is expected, for `list`, `object` and `function`: `a list of lists of token ids`. */
  readonly expected?: string;
  /** Checks what the type does not say. Throws an OptionError whose path begins with `name`. */
  readonly check?: (value: Value, name: string) => void;
}

export type OptionTable = Readonly<Record<string, OptionDeclaration<never>>>;

/** Who takes options of a table: its strategies or methods. */
export type TakerOf<Table extends OptionTable> = { [Name in keyof Table]: keyof Table[Name]['defaults'] }[keyof Table] &
  string;

type ValueOf<D> = D extends OptionDeclaration<infer Value, Defaults> ? Value : never;
type Taken<Table extends OptionTable, Taker extends string> = {
  [Name in keyof Table]: Taker extends keyof Table[Name]['defaults'] ? Name : never;
}[keyof Table];

/** The options that `Taker` takes, as a caller gives them. */
export type OptionsFor<Table extends OptionTable, Taker extends string> = {
  readonly [Name in keyof Table as Name extends Taken<Table, Taker> ? Name : never]?: ValueOf<Table[Name]> | undefined;
};

/** The options that `Taker` takes, with the defaults filled in. */
export type CheckedFor<Table extends OptionTable, Taker extends string> = {
  readonly [Name in keyof Table as Name extends Taken<Table, Taker>
    ? Name
    : never]: undefined extends Table[Name]['defaults'][Taker]
    ? ValueOf<Table[Name]> | undefined
    : ValueOf<Table[Name]>;
};

type Facts<Value, ByTaker extends Defaults> = Omit<OptionDeclaration<Value, ByTaker>, 'type'>;
type Declare<Value> = <const ByTaker extends Defaults<Value>>(
  facts: Facts<Value, ByTaker>,
) => OptionDeclaration<Value, ByTaker>;

// One maker for each type, so that the type of the value is known: `minP: number({ … })`, `signal: signal({ … })`.
const declare =
  <Value>(type: OptionType): Declare<Value> =>
  (facts) => ({ type, ...facts });

export const integer = declare<number>('integer');
export const number = declare<number>('number');
export const boolean = declare<boolean>('boolean');
export const text = declare<string>('text');
export const texts = declare<readonly string[]>('texts');
export const signal = declare<AbortSignal>('signal');

/** One of a few words (or booleans). */
export const choice = <const Value extends string | boolean, const ByTaker extends Defaults<Value>>(
  choices: readonly Value[],
  facts: Facts<Value, ByTaker>,
): OptionDeclaration<Value, ByTaker> => ({ type: 'choice', choices, ...facts });

/** A list, an object or a function of type `Value`, which only the declaration knows: `listOf<readonly number[]>()({ … })`. */
export const listOf = <Value>(): Declare<Value> => declare<Value>('list');
export const objectOf = <Value>(): Declare<Value> => declare<Value>('object');
export const functionOf = <Value>(): Declare<Value> => declare<Value>('function');

/** Names of the options that `taker` takes. */
export const optionNames = (table: OptionTable, taker: string): string[] =>
  Object.keys(table).filter((name) => takes(table[name]!, taker));

/** The strategies or methods that take an option. */
export const takersOf = (declaration: OptionDeclaration<never>): string[] => Object.keys(declaration.defaults);

const takes = (declaration: OptionDeclaration<never>, taker: string): boolean =>
  Object.hasOwn(declaration.defaults, taker);

/**
 * The options of `taker`, checked, with the defaults filled in. A value of undefined or null is as good as none.
 *
 * @throws OptionError whose `path` is the option's name: `unknown-option` (in no table), `unused-option` (others take it), `wrong-type`,
 *   `not-a-number`, `not-an-integer`, `out-of-range`, `unknown-choice`; `not-an-object` for options that are none.
 */
export function checkOptions<Table extends OptionTable, Taker extends TakerOf<Table>>(
  given: unknown,
  table: Table,
  taker: Taker,
): CheckedFor<Table, Taker> {
  const options = asObject(given === undefined ? {} : given, 'options');
  checkNames(options, table, taker);
  const checked: Record<string, unknown> = {};
  for (const name of optionNames(table, taker)) {
    const value = options[name] ?? undefined;
    checked[name] = value === undefined ? table[name]!.defaults[taker] : checkValue(value, table[name]!, name);
  }
  return checked as CheckedFor<Table, Taker>;
}

/**
 * Refuses names that no option of `taker` has.
 *
 * @throws OptionError `unknown-option`, `unused-option`.
 */
export function checkNames(options: Readonly<Record<string, unknown>>, table: OptionTable, taker: string): void {
  for (const name of Object.keys(options)) {
    if (options[name] === undefined) continue;
    const declaration = Object.hasOwn(table, name) ? table[name] : undefined;
    if (declaration === undefined) {
      const known = optionNames(table, taker).join(', ');
      fail(
        quote(name).slice(1, -1),
        'unknown-option',
        `there is no option of this name; ${quote(taker)} takes ${known}`,
      );
    }
    if (!takes(declaration, taker)) {
      const takers = takersOf(declaration).map(quote).join(', ');
      fail(name, 'unused-option', `${quote(taker)} does not use it, only ${takers}`);
    }
  }
}

/** One value, checked against its declaration. @throws OptionError naming the option. */
export function checkValue<Value>(value: unknown, declaration: OptionDeclaration<Value>, name: string): Value {
  if (!hasType(value, declaration)) {
    const numeric = declaration.type === 'number' || declaration.type === 'integer';
    const code = declaration.type === 'choice' ? 'unknown-choice' : numeric ? 'not-a-number' : 'wrong-type';
    fail(name, code, `expected ${expectation(declaration)}, found ${showValue(value)}`);
  }
  if (typeof value === 'number') {
    const { least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY, above } = declaration;
    if (value < least || value > most || (above !== undefined && value <= above)) {
      fail(name, 'out-of-range', `expected ${expectation(declaration)}, found ${value}`);
    }
    if (declaration.type === 'integer' && !Number.isSafeInteger(value)) {
      fail(name, 'not-an-integer', `expected ${expectation(declaration)}, found ${value}`);
    }
  }
  declaration.check?.(value as Value, name);
  return value as Value;
}

function hasType(value: unknown, { type, choices }: OptionDeclaration<never>): boolean {
  switch (type) {
    case 'integer':
    case 'number':
      return typeof value === 'number' && !Number.isNaN(value);
    case 'boolean':
      return typeof value === 'boolean';
    case 'choice':
      return choices!.includes(value as string | boolean);
    case 'text':
      return typeof value === 'string';
    case 'texts':
      return Array.isArray(value) && value.every((item) => typeof item === 'string');
    case 'list':
      return Array.isArray(value);
    case 'function':
      return typeof value === 'function';
    case 'object':
      return typeof value === 'object' && value !== null;
    case 'signal': // of whatever realm
      return typeof (value as Partial<AbortSignal> | null)?.throwIfAborted === 'function';
  }
}

/** What an option takes, for errors, help and docs: `a whole number from 1 to 1024`, `"vision" or "projected"`. */
export function expectation(declaration: OptionDeclaration<never>): string {
  const { type, choices = [], expected } = declaration;
  if (expected !== undefined) return expected;
  switch (type) {
    case 'integer':
      return `a whole number${rangeText(declaration)}`;
    case 'number':
      return `a number${rangeText(declaration)}`;
    case 'boolean':
      return 'true or false';
    case 'choice':
      return choices.map((one) => JSON.stringify(one)).join(' or ');
    case 'text':
      return 'a text';
    case 'texts':
      return 'a list of texts';
    case 'list':
      return 'a list';
    case 'function':
      return 'a function';
    case 'object':
      return 'an object';
    case 'signal':
      return 'an AbortSignal';
  }
}

/** ` from 1 to 1024`, ` above 0, at most 1`, ` of at least 0`, or nothing. */
function rangeText({ least, most, above }: OptionDeclaration<never>): string {
  if (above !== undefined) return most === undefined ? ` above ${above}` : ` above ${above}, at most ${most}`;
  if (least !== undefined) return most === undefined ? ` of at least ${least}` : ` from ${least} to ${most}`;
  return most === undefined ? '' : ` of at most ${most}`;
}

/** A value in an error message; objects are not asked to describe themselves. */
export function showValue(value: unknown): string {
  if (typeof value === 'string') return quote(value);
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'function') return 'a function';
  return typeof value === 'object' && value !== null ? 'an object' : quote(String(value)).slice(1, -1);
}

/** Options or facts as an object of unknowns. @throws OptionError `not-an-object`. */
export function asObject(value: unknown, path: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  return fail(path, 'not-an-object', `expected an object, found ${showValue(value)}`);
}

/** @throws OptionError, always. */
export function fail(path: string, code: string, detail: string): never {
  throw new OptionError({ path, code, detail });
}
