import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { getBackend, memory } from '@tensorflow/tfjs-core';
import { type ByteSource, fromBytes, type ModelFiles } from '../../src/checkpoint/byte-source.js';
import {
  elementCount,
  type HostArray,
  readValues,
  type StoredTensor,
  type TensorMap,
} from '../../src/checkpoint/stored-tensor.js';
import type { Image2TextError } from '../../src/errors.js';
import { useBackend } from '../support/backends.js';
import { type HostileCase, ROOT } from '../support/fixtures.js';
import { expectTypedError } from '../support/typed-error.js';

/** A folder of the fixtures as model files. */
export const folder = (path: string): ModelFiles => ({
  label: path.split('/').at(-1)!,
  open: async (name) =>
    name !== '' && existsSync(`${path}/${name}`) ? fromBytes(readFileSync(`${path}/${name}`)) : undefined,
});

/** A source that counts the bytes read from it. */
export function counting(bytes: Uint8Array): { source: ByteSource; read: () => number } {
  let count = 0;
  const inner = fromBytes(bytes);
  const slice = (start: number, end: number) => {
    count += Math.min(end, bytes.length) - start;
    return inner.slice(start, end);
  };
  return { source: { size: bytes.length, slice }, read: () => count };
}

/** A safetensors file with this header text (or object) and data. */
export function safetensorsBytes(
  header: string | object,
  data: Uint8Array = new Uint8Array(),
): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

/** A stored tensor over float32 values in memory. */
export function storedF32(name: string, shape: readonly number[], values: Float32Array): StoredTensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const read = async (begin = 0, end = bytes.length) => bytes.slice(begin, end) as Uint8Array<ArrayBuffer>;
  return { name, dtype: 'F32', shape, byteLength: bytes.length, file: 'memory', read };
}

/** What a program (an ES module that may import sources) prints, run by Node with so much heap. Rejects where it does not end well. */
export async function runNode(program: string, { heapMegabytes }: { readonly heapMegabytes: number }): Promise<string> {
  const options = [
    `--max-old-space-size=${heapMegabytes}`,
    '--import',
    'tsx',
    '--input-type=module',
    '--eval',
    program,
  ];
  const { stdout } = await promisify(execFile)(process.execPath, options, { cwd: ROOT });
  return stdout;
}

/** The error that `body` must throw: typed, one line, bounded; no tensor left, no prototype touched. */
export async function failure(what: string, body: () => Promise<unknown>): Promise<Image2TextError> {
  if (!getBackend()) await useBackend('cpu');
  const tensors = memory().numTensors;
  let error: unknown;
  try {
    await body();
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error !== undefined, `${what}: should have failed`);
  expectTypedError(error, what);
  assert.ok(error.file !== undefined && error.code !== '', `${what}: no file or rule in ${error.message}`);
  assert.equal(memory().numTensors, tensors, `${what}: tensors leaked`);
  return error;
}

const special: Readonly<Record<string, number>> = {
  inf: Number.POSITIVE_INFINITY,
  '-inf': Number.NEGATIVE_INFINITY,
  nan: Number.NaN,
  '-0': -0,
};

/** The numbers of the manifest (64-bit integers and special floats are strings there) against a tensor's. */
function sameValues(got: HostArray, expected: readonly (number | string | boolean)[], what: string): void {
  assert.equal(got.length, expected.length, `${what}: count`);
  expected.forEach((value, index) => {
    const found = got[index]!;
    if (typeof found === 'bigint') assert.equal(found, BigInt(value), `${what}[${index}]`);
    else
      assert.ok(Object.is(found, special[String(value)] ?? Number(value)), `${what}[${index}]: ${found}, not ${value}`);
  });
}

/** Every tensor of the case, and no other, with dtype, shape and values. */
export async function expectTensorsOf(entry: HostileCase, tensors: TensorMap): Promise<void> {
  const expected = Object.entries(entry.tensors ?? {});
  if (entry.tensors) assert.deepEqual([...tensors.keys()].sort(), expected.map(([name]) => name).sort(), entry.file);
  for (const [name, { dtype, shape, values }] of expected) {
    const stored = tensors.get(name)!;
    assert.equal(stored.dtype, dtype, `${entry.file}: ${name}`);
    assert.deepEqual(stored.shape, shape, `${entry.file}: ${name}`);
    sameValues(await readValues(stored), values, `${entry.file}: ${name}`);
  }
  for (const stored of tensors.values()) {
    const count = elementCount(stored.shape);
    assert.equal((await readValues(stored)).length, count, `${entry.file}: ${stored.name}`);
  }
}
