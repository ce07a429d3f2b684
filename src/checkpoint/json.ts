import { ConfigError, type ErrorFacts } from '../errors.js';
import { recogniseBytes } from './disguise.js';
import { type Json, type JsonObject, parseJsonText } from './json-text.js';

export type { Json, JsonObject } from './json-text.js';

/** 64 MiB: ten times the largest tokenizer.json in use. */
const MAX_FILE_BYTES = 64 * 2 ** 20;
/** An empty object costs a hundred times its two letters: enough for a header of 100,000 tensors, too few to fill the memory. */
const LIMITS = { maxDepth: 64, maxObjects: 110_000, maxArrays: 400_000 };
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
  /** Default 64 MiB. */
  readonly maxBytes?: number;
}

/** A JSON value and where the names of its outermost object stand, in bytes of the file. */
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
    { ...LIMITS, exactIntegers: options.exactIntegers ?? false },
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
  const disguise = recogniseBytes(bytes);
  if (disguise !== undefined && disguise !== 'JSON') {
    throw new ErrorClass({ file, code: 'not-json', detail: `expected JSON, found ${disguise}`, offset: 0 });
  }
  return parseJson(bytes, { file, ErrorClass }).value;
}

/** `parseJsonFile` for config.json and its kind: throws ConfigError. */
export const readJson = (bytes: Uint8Array, file: string): unknown => parseJsonFile(bytes, file, ConfigError);
