import assert from 'node:assert/strict';
import { Image2TextError } from '../../src/errors.js';

/** Fails unless `error` is one of ours, of class `Type`, in one bounded line, and no prototype was touched. */
export function expectTypedError<E extends Image2TextError>(
  error: unknown,
  what: string,
  Type: new (...facts: never[]) => E = Image2TextError as never,
): asserts error is E {
  if (error instanceof assert.AssertionError) throw error;
  assert.ok(error instanceof Type, `${what}: untyped ${error instanceof Error ? error.stack : error}`);
  assert.ok(!/[\r\n]/.test(error.message) && error.message.length <= 300, `${what}: ${error.message}`);
  expectNoPollution(what);
}

/** Fails where a file's `__proto__` reached the prototype of all objects. */
export const expectNoPollution = (what?: string): void =>
  assert.equal(({} as { polluted?: unknown }).polluted, undefined, what);
