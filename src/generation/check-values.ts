/** Checks of single values: each returns the value, or throws an OptionError whose `place` is the option's name. */
import { OptionError, quote } from '../errors.js';
import type { VocabularyFacts } from './types.js';

/** Options as they come from outside the types. */
export type Given = Readonly<Record<string, unknown>>;

const INTEGER_LIMIT = Number.MAX_SAFE_INTEGER;

export function fail(path: string, code: string, detail: string): never {
  throw new OptionError({ path, code, detail });
}

/** Options or facts as an object of unknowns. */
export function asGiven(value: unknown, path: string): Given {
  if (typeof value === 'object' && value !== null) return value as Given;
  return fail(path, 'not-an-object', `expected an object, found ${show(value)}`);
}

/** A value in an error message; objects are not asked to describe themselves. */
export function show(value: unknown): string {
  if (typeof value === 'string') return quote(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' && value !== null ? 'an object' : quote(String(value)).slice(1, -1);
}

export function number(given: Given, name: string, byDefault: number, least: number, most: number): number {
  const value = given[name] ?? byDefault;
  if (typeof value !== 'number' || Number.isNaN(value))
    return fail(name, 'not-a-number', `expected a number, found ${show(value)}`);
  if (value < least || value > most)
    return fail(name, 'out-of-range', `expected ${range(least, most)}, found ${value}`);
  return value;
}

export function integer(given: Given, name: string, byDefault: number, least: number, most = INTEGER_LIMIT): number {
  const value = number(given, name, byDefault, least, most);
  return Number.isInteger(value) ? value : fail(name, 'not-an-integer', `expected a whole number, found ${value}`);
}

/** A list of at least one token id of the vocabulary, copied. */
export function checkIds(ids: unknown, path: string, vocabulary: VocabularyFacts): readonly number[] {
  if (!Array.isArray(ids)) return fail(path, 'wrong-type', `expected a list of token ids, found ${show(ids)}`);
  if (ids.length === 0) return fail(path, 'empty', 'expected at least one token id');
  const odd = ids.findIndex(
    (id: unknown) => !Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocabulary.size,
  );
  if (odd >= 0) {
    fail(`${path}[${odd}]`, 'not-a-token', `${show(ids[odd])} is no id of a vocabulary of ${vocabulary.size} tokens`);
  }
  return [...(ids as number[])];
}

export function checkVocabulary(vocabulary: VocabularyFacts): void {
  const given = asGiven(vocabulary, 'vocabulary');
  const size = integer(given, 'size', 0, 2);
  integer(given, 'bosId', -1, 0, size - 1);
  integer(given, 'eosId', -1, 0, size - 1);
}

/** An AbortSignal, from whatever realm, or nothing. */
export function checkSignal(value: unknown): AbortSignal | undefined {
  const signal = value as Partial<AbortSignal> | null | undefined;
  if (signal === undefined || signal === null) return undefined;
  if (typeof signal === 'object' && typeof signal.throwIfAborted === 'function') return signal as AbortSignal;
  return fail('signal', 'wrong-type', `expected an AbortSignal, found ${show(value)}`);
}

const range = (least: number, most: number): string =>
  most === INTEGER_LIMIT ? `${least} or more` : `${least === Number.MIN_VALUE ? 'more than 0' : least} to ${most}`;
