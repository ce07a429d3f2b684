import {
  type StaticRegexReplaceAttrs,
  type StringNGramsAttrs,
  type StringToHashBucketFastAttrs,
  util,
} from '@tensorflow/tfjs-core';
import type { KernelContext } from '../kernel-context.js';
import { fault, type Inputs, input, type Kernel, type KernelTable } from '../kernel-context.js';
import type { Numbers } from '../tensor-memory.js';

/** The strings of an input. @throws BackendError where it holds numbers. */
function stringsOf(backend: KernelContext, kernel: string, inputs: Inputs, name: string): Uint8Array[] {
  const strings = backend.stringsOf(input(inputs, name));
  if (strings === undefined) throw fault(kernel, 'unsupported-dtype', `${name} must be strings`);
  return strings;
}

/** Parts of `bytes` between bytes of `delimiters`, or single bytes where there are none. */
function split(bytes: Uint8Array, delimiters: Uint8Array, skipEmpty: boolean): Uint8Array[] {
  if (bytes.length === 0) return [];
  if (delimiters.length === 0) return Array.from(bytes, (_, i) => bytes.subarray(i, i + 1));
  const cuts = [...bytes.keys()].filter((i) => delimiters.includes(bytes[i]!));
  const parts = [...cuts, bytes.length].map((end, i) => bytes.subarray(i === 0 ? 0 : cuts[i - 1]! + 1, end));
  return skipEmpty ? parts.filter(({ length }) => length > 0) : parts;
}

/** The parts of all strings, as a sparse tensor: indices, values, shape. */
const stringSplit: Kernel = (backend, inputs, attributes) => {
  const [delimiters] = stringsOf(backend, 'StringSplit', inputs, 'delimiter');
  const skipEmpty = attributes['skipEmpty'] === true;
  const lines = stringsOf(backend, 'StringSplit', inputs, 'input').map((line) => split(line, delimiters!, skipEmpty));
  const places = lines.flatMap((parts, row) => parts.map((_, column) => [row, column]));
  const indices = backend.output([places.length, 2], 'int32');
  const shape = backend.output([2], 'int32');
  backend.valuesOf(indices).set(places.flat());
  backend.valuesOf(shape).set([lines.length, Math.max(0, ...lines.map(({ length }) => length))]);
  return [indices, backend.stringOutput([places.length], lines.flat()), shape];
};

/** `parts` with `separator` between them. */
function join(parts: readonly Uint8Array[], separator: Uint8Array): Uint8Array {
  const bytes = parts.flatMap((part, i) => (i === 0 ? [part] : [separator, part]));
  const joined = new Uint8Array(bytes.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of bytes) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** All n-grams of one row, of every width; padding counts as tokens before and after the row. */
function nGramsOf(row: readonly Uint8Array[], attributes: StringNGramsAttrs): Uint8Array[] {
  const { separator, nGramWidths, leftPad, rightPad, padWidth, preserveShortSequences } = attributes;
  const [between, left, right] = [separator, leftPad, rightPad].map((text) => util.encodeString(text));
  const ofWidth = (width: number, padding: number) => {
    const padded = [...new Array(padding).fill(left), ...row, ...new Array(padding).fill(right)];
    const count = Math.max(0, padded.length - width + 1);
    return Array.from({ length: count }, (_, i) => join(padded.slice(i, i + width), between!));
  };
  const all = nGramWidths.flatMap((width) => ofWidth(width, Math.min(padWidth < 0 ? width - 1 : padWidth, width - 1)));
  if (all.length > 0 || !preserveShortSequences || row.length === 0) return all;
  const padding = Math.max(padWidth, 0);
  return ofWidth(row.length + 2 * padding, padding); // the whole row, where it is shorter than every width
}

/** @throws BackendError where the splits do not rise from 0 to the number of strings. */
function checkSplits(splits: Numbers, size: number): void {
  const wrong = (detail: string) => fault('StringNGrams', 'splits', detail);
  if (splits.length === 0) return;
  if (splits[0] !== 0) throw wrong(`First split value must be 0, got ${splits[0]}`);
  for (let i = 1; i < splits.length; i++) {
    if (splits[i]! >= splits[i - 1]! && splits[i]! <= size) continue;
    throw wrong(`Invalid split value ${splits[i]}, must be in [${splits[i - 1]}, ${size}]`);
  }
  const last = splits.at(-1);
  if (last !== size) throw wrong(`Last split value must be data size. Expected ${size}, got ${last}`);
}

/** The n-grams of the rows of a ragged tensor of strings, as another one: values and splits. */
const stringNGrams: Kernel = (backend, inputs, attributes) => {
  const data = stringsOf(backend, 'StringNGrams', inputs, 'data');
  const dataSplits = input(inputs, 'dataSplits');
  const splits = backend.valuesOf(dataSplits).slice();
  checkSplits(splits, data.length);
  const rows = Array.from(splits.subarray(1), (end, i) =>
    data.length === 0 ? [] : nGramsOf(data.slice(splits[i], end), attributes as unknown as StringNGramsAttrs),
  );
  const output = backend.output(dataSplits.shape, 'int32');
  const target = backend.valuesOf(output);
  target.fill(0);
  rows.forEach((row, i) => {
    target[i + 1] = target[i]! + row.length;
  });
  const all = rows.flat();
  return [backend.stringOutput([all.length], all), output];
};

/** Each string's fingerprint, modulo the number of buckets. */
const toHashBucket: Kernel = (backend, inputs, attributes) => {
  const strings = stringsOf(backend, 'StringToHashBucketFast', inputs, 'input');
  const { numBuckets } = attributes as unknown as StringToHashBucketFastAttrs;
  const output = backend.output(input(inputs, 'input').shape, 'int32');
  const hashes = strings.map((bytes) => util.fingerPrint64(bytes).modulo(numBuckets).getLowBitsUnsigned());
  backend.valuesOf(output).set(hashes);
  return output;
};

/** Replaces what a regular expression finds, once or everywhere. */
const regexReplace: Kernel = (backend, inputs, attributes) => {
  const { pattern, rewrite, replaceGlobal } = attributes as unknown as StaticRegexReplaceAttrs;
  const expression = new RegExp(pattern, replaceGlobal ? 'g' : '');
  const strings = stringsOf(backend, 'StaticRegexReplace', inputs, 'x').map((bytes) =>
    util.encodeString(util.decodeString(bytes).replace(expression, rewrite)),
  );
  return backend.stringOutput(input(inputs, 'x').shape, strings);
};

/** Kernels on strings. */
export const stringKernels: KernelTable = {
  StringSplit: stringSplit,
  StringNGrams: stringNGrams,
  StringToHashBucketFast: toHashBucket,
  StaticRegexReplace: regexReplace,
};
