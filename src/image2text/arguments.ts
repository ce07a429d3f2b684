import { OptionError } from '../errors.js';

// What TypeScript promises, checked for callers without it: a wrong argument is named before anything is computed.

const kindOf = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'a list'
      : value === undefined
        ? 'nothing'
        : `a value of type ${typeof value}`;

const wrong = (path: string, expected: string, found: unknown): OptionError =>
  new OptionError({ path, code: 'wrong-type', detail: `expected ${expected}, found ${kindOf(found)}` });

/**
 * Options that are an object, with no name beside `known` (all names are welcome where it is undefined).
 *
 * @throws OptionError naming the option.
 */
export function checkOptions<O extends object>(options: O | undefined, known?: readonly (keyof O & string)[]): O {
  const given = options ?? ({} as O);
  if (options === null || typeof given !== 'object' || Array.isArray(given))
    throw wrong('options', 'an object', options);
  const odd =
    known === undefined ? undefined : Object.keys(given).find((name) => !known.includes(name as keyof O & string));
  if (odd !== undefined) {
    throw new OptionError({
      path: odd,
      code: 'unknown-option',
      detail: `there is no option of this name; known are ${known?.join(', ')}`,
    });
  }
  const { prompt } = given as { prompt?: unknown };
  if (prompt !== undefined && typeof prompt !== 'string') throw wrong('prompt', 'a text', prompt);
  const { trace } = given as { trace?: unknown };
  if (trace !== undefined && typeof trace !== 'function') throw wrong('trace', 'a function', trace);
  return given;
}

/** A list of texts. */
export function checkTexts(path: string, texts: unknown): readonly string[] {
  if (!Array.isArray(texts)) throw wrong(path, 'a list of texts', texts);
  texts.forEach((text: unknown, n) => {
    if (typeof text !== 'string') throw wrong(`${path}[${n}]`, 'a text', text);
  });
  return texts as readonly string[];
}

/** A text, or a list of them, as a list. */
export const checkTextOrTexts = (path: string, texts: unknown): readonly string[] =>
  typeof texts === 'string' ? [texts] : checkTexts(path, texts);

/** One image or video, where a list would be taken for several. */
export function checkOne(path: string, item: unknown): void {
  if (Array.isArray(item)) throw wrong(path, `one ${path}`, item);
}
