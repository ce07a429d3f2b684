import { quote, TokenizerError } from '../errors.js';
import { faultOf } from './vocabulary.js';

/**
 * An object of a JSON file, with its place for errors. Only own properties are read, so `__proto__` is a name like any
 * other.
 */
export interface JsonObject {
  readonly file: string;
  /** Dotted path in the file; empty for the root. */
  readonly path: string;
  readonly value: Readonly<Record<string, unknown>>;
}

/** A token as the files write it: a name, or an `AddedToken` object. */
export interface TokenEntry {
  readonly content: string;
  readonly special: boolean;
}

/** Longest name of a special or added token: what a text may be compared with at each of its characters. */
const NAME_LIMIT = 256;

const placeOf = (parent: string, key: string): string => (parent === '' ? shorten(key) : `${parent}.${shorten(key)}`);
const shorten = (key: string): string => (/^\w{1,60}$/.test(key) ? key : quote(key));

/** Throws the error about `key` of `at`, or about `at` itself where `key` is undefined. */
export function failAt(
  at: JsonObject,
  key: string | undefined,
  code: string,
  detail: string,
  unsupported = false,
): never {
  const path = key === undefined ? at.path : placeOf(at.path, key);
  throw new TokenizerError({ file: at.file, path: path === '' ? undefined : path, code, detail, unsupported });
}

/** What a value is, in words. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'string') return quote(value);
  return typeof value === 'object' ? 'an object' : String(value);
}

export function asObject(value: unknown, file: string, path: string): JsonObject {
  const at = { file, path, value: {} };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    failAt(at, undefined, 'wrong-type', `must be an object, not ${describe(value)}`);
  }
  return { file, path, value: value as Record<string, unknown> };
}

/** The value of an own key; undefined where it is absent or null. */
export function fieldOf(at: JsonObject, key: string): unknown {
  return Object.hasOwn(at.value, key) ? (at.value[key] ?? undefined) : undefined;
}

export function objectOf(at: JsonObject, key: string): JsonObject | undefined {
  const value = fieldOf(at, key);
  return value === undefined ? undefined : asObject(value, at.file, placeOf(at.path, key));
}

export function listOf(at: JsonObject, key: string): readonly unknown[] | undefined {
  const value = fieldOf(at, key);
  if (value !== undefined && !Array.isArray(value)) {
    failAt(at, key, 'wrong-type', `must be an array, not ${describe(value)}`);
  }
  return value as readonly unknown[] | undefined;
}

export function booleanOf(at: JsonObject, key: string): boolean | undefined {
  const value = fieldOf(at, key);
  if (value !== undefined && typeof value !== 'boolean') {
    failAt(at, key, 'wrong-type', `must be true or false, not ${describe(value)}`);
  }
  return value as boolean | undefined;
}

export function stringOf(at: JsonObject, key: string): string | undefined {
  const value = fieldOf(at, key);
  if (value !== undefined && typeof value !== 'string') {
    failAt(at, key, 'wrong-type', `must be a string, not ${describe(value)}`);
  }
  return value as string | undefined;
}

/** A token written as a name or as an object with `content`. */
export function tokenEntryOf(at: JsonObject, key: string): TokenEntry | undefined {
  const value = fieldOf(at, key);
  if (value === undefined) return undefined;
  if (typeof value === 'string') return { content: checkedName(at, key, value), special: true };
  return addedTokenOf(asObject(value, at.file, placeOf(at.path, key)));
}

/** An `AddedToken` object: its content must be matched as it stands. */
export function addedTokenOf(at: JsonObject): TokenEntry {
  const content = stringOf(at, 'content') ?? failAt(at, 'content', 'missing-field', 'a token needs its content');
  for (const key of ['lstrip', 'rstrip', 'single_word']) {
    if (booleanOf(at, key) === true) failAt(at, key, 'unsupported-option', 'must be false for BERT tokens', true);
  }
  return { content: checkedName(at, 'content', content), special: booleanOf(at, 'special') ?? false };
}

function checkedName(at: JsonObject, key: string, name: string): string {
  const fault = name === '' ? 'is empty' : name.length > NAME_LIMIT ? `is longer than ${NAME_LIMIT}` : faultOf(name);
  return fault === undefined ? name : failAt(at, key, 'illegal-token', `${quote(name)} ${fault}`);
}
