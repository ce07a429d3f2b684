import { OptionError, quote } from '../errors.js';

/** `maxNewTokens` → `max_new_tokens`. */
export type SnakeCase<S extends string> = S extends `${infer First}${infer Rest}`
  ? `${First extends Uppercase<First> ? `_${Lowercase<First>}` : First}${SnakeCase<Rest>}`
  : S;

/** The options of `T` in camelCase and in snake_case; null is as good as not given. */
export type EitherCase<T> = { readonly [K in keyof T]?: T[K] | null | undefined } & {
  readonly [K in keyof T & string as SnakeCase<K>]?: T[K] | null | undefined;
};

/** Options by their camelCase names, of types not checked yet. */
export type Given = Readonly<Record<string, unknown>>;

const camelCase = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/**
 * Options as camelCase, whichever case they were given in; what is undefined is left out.
 *
 * @throws OptionError `not-an-object`; `unknown-option` and `given-twice`, naming the option as the caller wrote it.
 */
export function readOptions(options: unknown, known: readonly string[], whose: string): Given {
  if (options === undefined || options === null) return {};
  if (typeof options !== 'object' || Array.isArray(options)) {
    const detail = `the options of ${whose} are an object, not ${Array.isArray(options) ? 'a list' : typeof options}`;
    throw new OptionError({ path: 'options', code: 'not-an-object', detail });
  }
  const given: Record<string, unknown> = {};
  for (const [written, value] of Object.entries(options)) {
    const name = camelCase(written);
    if (!known.includes(name)) {
      const detail = `${whose} has no option ${quote(written)}; it has ${known.join(', ')}`;
      throw new OptionError({ path: quote(written).slice(1, -1), code: 'unknown-option', detail });
    }
    if (value === undefined) continue;
    if (name in given)
      throw new OptionError({
        path: written,
        code: 'given-twice',
        detail: `it is there as ${name} and as ${written}`,
      });
    given[name] = value;
  }
  return given;
}

/** Options without those that are null. */
export const withoutNulls = (given: Given): Given =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));

export function contradiction(path: string, detail: string): never {
  throw new OptionError({ path, code: 'contradiction', detail });
}

export function wrongType(path: string, expected: string, value: unknown): never {
  const found = typeof value === 'string' ? quote(value) : Array.isArray(value) ? 'a list' : String(typeof value);
  throw new OptionError({ path, code: 'wrong-type', detail: `expected ${expected}, found ${found}` });
}

/** An AbortSignal of whatever realm, or nothing. */
export function checkSignal({ signal }: Given): void {
  if (signal === undefined || signal === null) return;
  if (typeof signal !== 'object' || !('throwIfAborted' in signal)) wrongType('signal', 'an AbortSignal', signal);
}
