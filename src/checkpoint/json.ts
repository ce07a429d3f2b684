import { ConfigError, type ErrorFacts } from '../errors.js';
import { recognize } from '../file-signature.js';

/**
 * RFC 8259 JSON, strictly: what `JSON.parse` lets pass and a header must not (duplicate names, numbers that lose digits, lone
 * surrogates) is refused, objects have no prototype, and depth and count are bounded.
 */
export type Json = null | boolean | string | number | bigint | readonly Json[] | JsonObject;
/** Has no prototype, so `__proto__` and `constructor` are names like any other. */
export interface JsonObject {
  readonly [name: string]: Json;
}

export interface JsonLimits {
  /** Integers (no fraction, no exponent, not -0) become `bigint`, so that no digit is lost and `1.0` is told from `1`. */
  readonly exactIntegers: boolean;
  readonly maxDepth: number;
  readonly maxObjects: number;
  readonly maxArrays: number;
  /** Of all kinds, containers included. */
  readonly maxValues: number;
  /** Items of one array. */
  readonly maxArrayLength: number;
  /** Names of one object. */
  readonly maxNames: number;
}

/** Makes the error for a broken rule, by its code, at an index of the text; the reader throws it. */
export type JsonFault = (code: string, detail: string, index: number) => Error;

const MAX_NUMBER_LENGTH = 1000;
const LITERALS: readonly (readonly [string, Json])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
];

/** What a string literal with escapes means; undefined where one is not of JSON. */
function unescapeString(literal: string): string | undefined {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return undefined;
  }
}

const isDigit = (code: number) => code >= 0x30 && code <= 0x39;

/** The value, and the index of each name of the outermost object. */
export interface JsonText {
  readonly value: Json;
  readonly indexOf: ReadonlyMap<string, number>;
}

/** Reads one JSON text. Throws what `fault` makes. */
export function parseJsonText(text: string, limits: JsonLimits, fault: JsonFault): JsonText {
  const indexOf = new Map<string, number>();
  let at = 0;
  let objects = 0;
  let arrays = 0;
  let values = 0;

  const fail = (code: string, detail: string, index = at): never => {
    throw fault(code, detail, index);
  };
  const found = () => (at < text.length ? JSON.stringify(text[at]) : 'the end');
  const codeAt = () => text.charCodeAt(at); // NaN at the end: compares false with everything

  function space(): void {
    while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at++;
  }

  function expect(character: string): void {
    if (text[at] !== character) fail('json-syntax', `expected ${JSON.stringify(character)}, found ${found()}`);
    at++;
  }

  /** After `open`: items until `close`, separated by commas, none of them left out. */
  function list(close: string, depth: number, item: () => void): void {
    if (depth > limits.maxDepth) fail('json-depth', `nested deeper than ${limits.maxDepth}`);
    at++;
    space();
    if (text[at] === close) {
      at++;
      return;
    }
    for (;;) {
      item();
      space();
      if (text[at] === close) break;
      expect(',');
      space();
    }
    at++;
  }

  function object(depth: number): JsonObject {
    if (++objects > limits.maxObjects) fail('json-size', `more than ${limits.maxObjects} objects`);
    const result: { [name: string]: Json } = Object.create(null);
    let names = 0;
    list('}', depth, () => {
      const start = at;
      if (++names > limits.maxNames) fail('json-size', `an object of more than ${limits.maxNames} names`);
      const name = text[at] === '"' ? string() : fail('json-syntax', `expected a name in quotes, found ${found()}`);
      if (name in result) fail('duplicate-key', `the name ${JSON.stringify(name.slice(0, 60))} is there twice`, start);
      if (depth === 1) indexOf.set(name, start);
      space();
      expect(':');
      result[name] = value(depth);
    });
    return result;
  }

  function array(depth: number): Json[] {
    if (++arrays > limits.maxArrays) fail('json-size', `more than ${limits.maxArrays} arrays`);
    const result: Json[] = [];
    list(']', depth, () => {
      if (result.length >= limits.maxArrayLength) {
        fail('json-size', `an array of more than ${limits.maxArrayLength} items`);
      }
      result.push(value(depth));
    });
    return result;
  }

  /** An escaped string is left to JSON.parse, which is linear: joined piece by piece, it would take a hundred times its size. */
  function string(): string {
    const start = at++;
    let escaped = false;
    while (text[at] !== '"') {
      if (!(codeAt() >= 0x20)) {
        fail('json-syntax', at < text.length ? 'control character in a string' : 'a string does not end');
      }
      if (text[at] === '\\') {
        escaped = true;
        at++;
      }
      at++;
    }
    at++;
    if (!escaped) return text.slice(start + 1, at - 1);
    const result = unescapeString(text.slice(start, at)) ?? fail('json-syntax', 'unknown escape in a string', start);
    if (/\p{Surrogate}/u.test(result)) fail('json-surrogate', 'lone surrogate in a string', start);
    return result;
  }

  function digits(): void {
    if (!isDigit(codeAt())) fail('json-syntax', `expected a digit, found ${found()}`);
    while (isDigit(codeAt())) at++;
  }

  function number(): number | bigint {
    const start = at;
    if (text[at] === '-') at++;
    if (text[at] === '0') at++;
    else digits();
    let integer = true;
    if (text[at] === '.') {
      integer = false;
      at++;
      digits();
    }
    if (text[at] === 'e' || text[at] === 'E') {
      integer = false;
      at++;
      if (text[at] === '+' || text[at] === '-') at++;
      digits();
    }
    if (at - start > MAX_NUMBER_LENGTH) fail('json-number', 'a number with over a thousand digits', start);
    const literal = text.slice(start, at);
    const result = Number(literal);
    if (!Number.isFinite(result)) fail('json-number', `${literal.slice(0, 30)} is out of range`, start);
    return limits.exactIntegers && integer && literal !== '-0' ? BigInt(literal) : result;
  }

  function value(depth: number): Json {
    if (++values > limits.maxValues) fail('json-size', `more than ${limits.maxValues} values`);
    space();
    const first = text[at];
    if (first === '{') return object(depth + 1);
    if (first === '[') return array(depth + 1);
    if (first === '"') return string();
    if (first === '-' || isDigit(codeAt())) return number();
    for (const [word, meaning] of LITERALS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    return fail('json-syntax', `expected a value, found ${found()}`);
  }

  const result = value(0);
  space();
  if (at < text.length) fail('json-syntax', `text after the end: ${found()}`);
  return { value: result, indexOf };
}

/** 32 MiB: three times the largest tokenizer.json of a WordPiece vocabulary (LaBSE, half a million words). */
const MAX_FILE_BYTES = 32 * 2 ** 20;
/**
 * An empty object costs a hundred times its two letters. Enough for a header or an index of 100,000 tensors and for the largest
 * vocabularies in use, too little to fill the memory.
 */
const LIMITS: Omit<JsonLimits, 'exactIntegers'> = {
  maxDepth: 64,
  maxObjects: 110_000,
  maxArrays: 400_000,
  maxValues: 2_000_000,
  maxArrayLength: 1_000_000,
  maxNames: 150_000,
};
const BYTE_ORDER_MARK = 0xfeff;

/** The class of error that a reader throws. */
export type ErrorClass = new (facts: ErrorFacts) => Error;

export interface JsonBytesOptions {
  /** How to name the file in messages. */
  readonly file: string;
  readonly ErrorClass: ErrorClass;
  /** Integers become `bigint`; default false. */
  readonly exactIntegers?: boolean;
  /** Added to the offsets in messages: where the JSON begins in its file. */
  readonly base?: number;
  /** Default 32 MiB. */
  readonly maxBytes?: number;
  /** Items of one array. Default 1,000,000. */
  readonly maxArrayLength?: number;
}

/** A JSON value and where the names of its outermost object are, in bytes of the file. */
export interface ParsedJson {
  readonly value: Json;
  offsetOf(name: string): number | undefined;
}

export const isJsonObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Reads JSON bytes strictly: UTF-8 without a byte order mark, no duplicate name (escaped or not), no lone surrogate, at most 64
 * levels deep. Objects have no prototype. Throws `ErrorClass` with the byte offset.
 */
export function parseJson(bytes: Uint8Array, options: JsonBytesOptions): ParsedJson {
  const { file, ErrorClass, base = 0, maxBytes = MAX_FILE_BYTES } = options;
  const fail = (code: string, detail: string, offset: number) => new ErrorClass({ file, code, detail, offset });
  if (bytes.byteLength > maxBytes) throw fail('json-size', `more than ${maxBytes} bytes`, base);
  const text = decodeText(bytes, (code, detail) => fail(code, detail, base));
  const ascii = text.length === bytes.byteLength;
  const toOffset = (index: number) => base + (ascii ? index : new TextEncoder().encode(text.slice(0, index)).length);
  const { value, indexOf } = parseJsonText(
    text,
    {
      ...LIMITS,
      maxArrayLength: options.maxArrayLength ?? LIMITS.maxArrayLength,
      exactIntegers: options.exactIntegers ?? false,
    },
    (code, detail, index) => fail(code, detail, toOffset(index)),
  );
  const offsetOf = (name: string) => {
    const index = indexOf.get(name);
    return index === undefined ? undefined : toOffset(index);
  };
  return { value, offsetOf };
}

function decodeText(bytes: Uint8Array, fail: (code: string, detail: string) => Error): string {
  const [first, second] = bytes;
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)) {
    throw fail('not-utf8', 'UTF-16 text; JSON files of a checkpoint are UTF-8');
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw fail('not-utf8', `not UTF-8 text${cause instanceof RangeError ? ' (too long)' : ''}`);
  }
  if (text.charCodeAt(0) === BYTE_ORDER_MARK) throw fail('byte-order-mark', 'begins with a byte order mark; remove it');
  return text;
}

/** Reads a whole JSON file; numbers are doubles. Says what the bytes are when they are something else. Throws `ErrorClass`. */
export function parseJsonFile(bytes: Uint8Array, file: string, ErrorClass: ErrorClass): Json {
  const looksLike = recognize(bytes)?.what;
  if (looksLike !== undefined && looksLike !== 'JSON') {
    throw new ErrorClass({ file, code: 'not-json', detail: `expected JSON, found ${looksLike}`, offset: 0 });
  }
  return parseJson(bytes, { file, ErrorClass }).value;
}

/** `parseJsonFile` for config.json and its kind: throws ConfigError. */
export const readJson = (bytes: Uint8Array, file: string): unknown => parseJsonFile(bytes, file, ConfigError);
