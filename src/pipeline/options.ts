/** How a pipeline reads its options: transformers.js's names and ours, in either case, made from the declarations. */
import { OptionError, quote } from '../errors.js';
import { type OptionTable, showValue } from '../options.js';

/** `maxNewTokens` → `max_new_tokens`. */
export type SnakeCase<S extends string> = S extends `${infer First}${infer Rest}`
  ? `${First extends Uppercase<First> ? `_${Lowercase<First>}` : First}${SnakeCase<Rest>}`
  : S;

/** The options of `T` in camelCase and in snake_case; null is as good as not given. */
export type EitherCase<T> = { readonly [K in keyof T]?: T[K] | null | undefined } & {
  readonly [K in keyof T & string as SnakeCase<K>]?: T[K] | null | undefined;
};

/** Options by our names, of types not checked yet. */
export type Given = Readonly<Record<string, unknown>>;

/** Every accepted spelling of some options, and the name that it stands for. */
export type Spellings = ReadonlyMap<string, string>;

const camelCase = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
export const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Names in both cases, and Hugging Face's names for those that a table declares. */
export function spellingsOf(names: Iterable<string>, table: OptionTable = {}): Spellings {
  const spellings = new Map<string, string>();
  for (const name of names) {
    const { huggingFace = name } = (table[name] ?? {}) as { readonly huggingFace?: string };
    for (const spelling of [name, huggingFace]) {
      spellings.set(camelCase(spelling), name).set(snakeCase(spelling), name);
    }
  }
  return spellings;
}

/**
 * Options by our names, whichever spelling they were given in; what is undefined is left out.
 *
 * @param neutral options that are not supported, by their snake_case names, with the values that they may have all the same.
 * @throws OptionError `not-an-object`; `unknown-option`, `unsupported-option` and `given-twice`, naming the option as the caller wrote it.
 */
export function readOptions(
  options: unknown,
  spellings: Spellings,
  whose: string,
  neutral: Readonly<Record<string, readonly unknown[]>> = {},
): Given {
  if (options === undefined || options === null) return {};
  if (typeof options !== 'object' || Array.isArray(options)) {
    const detail = `the options of ${whose} are an object, not ${showValue(options)}`;
    throw new OptionError({ path: 'options', code: 'not-an-object', detail });
  }
  const given: Record<string, unknown> = {};
  for (const [written, value] of Object.entries(options)) {
    const name = spellings.get(written);
    if (name === undefined) {
      checkUnsupported(written, value, whose, spellings, neutral);
      continue;
    }
    if (value === undefined) continue;
    if (name in given) {
      throw new OptionError({ path: written, code: 'given-twice', detail: `${name} is there under another name too` });
    }
    given[name] = value;
  }
  return given;
}

function checkUnsupported(
  written: string,
  value: unknown,
  whose: string,
  spellings: Spellings,
  neutral: Readonly<Record<string, readonly unknown[]>>,
): void {
  const path = quote(written).slice(1, -1);
  const values = Object.hasOwn(neutral, snakeCase(written)) ? neutral[snakeCase(written)] : undefined;
  if (values === undefined) {
    const known = [...new Set(spellings.values())].join(', ');
    throw new OptionError({ path, code: 'unknown-option', detail: `${whose} has no such option; it has ${known}` });
  }
  if (value === undefined || value === null || values.includes(value) || isEmpty(value)) return;
  const detail = `not supported; leave it out${values.length > 0 ? ` or give ${values.map((one) => JSON.stringify(one)).join(' or ')}` : ''}`;
  throw new OptionError({ path, code: 'unsupported-option', detail, unsupported: true });
}

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

/** Options without those that are null. */
export const withoutNulls = (given: Given): Given =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));

export function contradiction(path: string, detail: string): never {
  throw new OptionError({ path, code: 'contradiction', detail });
}

export function wrongType(path: string, expected: string, value: unknown): never {
  throw new OptionError({ path, code: 'wrong-type', detail: `expected ${expected}, found ${showValue(value)}` });
}

/** An AbortSignal of whatever realm, or nothing. */
export function checkSignal({ signal }: Given): void {
  if (signal === undefined || signal === null) return;
  if (typeof signal !== 'object' || !('throwIfAborted' in signal)) wrongType('signal', 'an AbortSignal', signal);
}
