import { quote, SafetensorsError } from '../errors.js';
import { recognize } from '../file-signature.js';
import { type ByteSource, readBytes } from './byte-source.js';
import { isJsonObject, type Json, type JsonObject, parseJson } from './json.js';
import {
  DTYPE_BITS,
  elementCount,
  MAX_RANK,
  MAX_TENSORS,
  nameOf,
  type StoredTensor,
  type TensorMap,
} from './stored-tensor.js';

/** A tensor that is to be written. */
export interface PlannedTensor {
  readonly name: string;
  /** As safetensors writes it. */
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** A tensor that is to be written; `pieces` gives its row-major little-endian bytes, and is called once. */
export interface NewTensor extends PlannedTensor {
  pieces(): AsyncIterable<Uint8Array>;
}

export const byteLengthOf = ({ dtype, shape }: PlannedTensor): number =>
  (elementCount(shape) * DTYPE_BITS.get(dtype)!) / 8;

/** The beginning of a safetensors file, and the order in which its tensors follow. */
export interface SafetensorsPlan<T extends PlannedTensor> {
  /** Length and JSON, padded with spaces to a multiple of 8. */
  readonly header: Uint8Array<ArrayBuffer>;
  readonly tensors: readonly T[];
  /** Bytes of the whole file. */
  readonly size: number;
}

/**
 * Lays out a safetensors file as the reference writer does: wide dtypes first, then by name, so that every tensor is aligned and equal
 * checkpoints give equal files.
 */
export function planSafetensors<T extends PlannedTensor>(
  tensors: readonly T[],
  metadata: Readonly<Record<string, string>>,
): SafetensorsPlan<T> {
  const sorted = [...tensors].sort(
    (a, b) => DTYPE_BITS.get(b.dtype)! - DTYPE_BITS.get(a.dtype)! || (a.name < b.name ? -1 : 1),
  );
  let end = 0;
  const entries = sorted.map((tensor) => {
    const begin = end;
    end += byteLengthOf(tensor);
    const { name, dtype, shape } = tensor;
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const keys = Object.keys(metadata).sort();
  const described = Object.fromEntries([
    ['__metadata__', Object.fromEntries(keys.map((key) => [key, metadata[key]]))],
    ...entries,
  ]);
  const json = new TextEncoder().encode(JSON.stringify(described));
  const length = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return { header, tensors: sorted, size: header.length + end };
}

const MAX_U64 = 2n ** 64n - 1n;
const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** One checked entry of a header. `begin` and `end` count bytes from the start of the data. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** Checks one entry by itself: fields, dtype, integers, and byte count against shape. Throws SafetensorsError at `offsetOf()`. */
export function readEntry(
  name: string,
  value: Json,
  file: string,
  offsetOf: () => number | undefined,
): SafetensorsEntry {
  const fail = (code: string, detail: string, unsupported = false): never => {
    throw new SafetensorsError({ file, offset: offsetOf(), path: nameOf(name), code, detail, unsupported });
  };
  if (!isJsonObject(value)) return fail('entry', 'the entry is not an object');
  for (const field of ['dtype', 'shape', 'data_offsets']) {
    if (!(field in value)) fail('entry', `the entry lacks ${field}`);
  }
  const dtype = value['dtype']!;
  if (typeof dtype !== 'string') return fail('dtype', 'dtype is not a string');
  const bits = DTYPE_BITS.get(dtype);
  if (bits === undefined) return fail('dtype', `unknown dtype ${quote(dtype)}`);

  const rank = Array.isArray(value['shape']) ? value['shape'].length : 0;
  if (rank > MAX_RANK) fail('rank', `${rank} dimensions; the limit is ${MAX_RANK}`, true);
  const dims = integers(value, 'shape', fail);
  const offsets = integers(value, 'data_offsets', fail);
  if (offsets.length !== 2) fail('offsets', `data_offsets has ${offsets.length} items, not two`);
  const [begin, end] = offsets as [bigint, bigint];
  if (begin > end) fail('offsets-reversed', `begin ${begin} is greater than end ${end}`);

  const needed = byteCount(dims, bits, fail);
  if (end - begin !== needed) {
    fail('byte-count', `${dtype} [${dims}] needs ${needed} bytes, the offsets give ${end - begin}`);
  }
  if ([...dims, end].some((size) => size > MAX_SAFE)) fail('too-large', 'a size or offset above 2^53');
  return { name, dtype, shape: dims.map(Number), begin: Number(begin), end: Number(end) };
}

type Fail = (code: string, detail: string) => never;

function integers(entry: JsonObject, field: 'shape' | 'data_offsets', fail: Fail): bigint[] {
  const code = field === 'shape' ? 'shape' : 'offsets';
  const items = entry[field]!;
  if (!Array.isArray(items)) return fail(code, `${field} is not a list`);
  return items.map((item: Json) => {
    if (typeof item !== 'bigint') return fail(code, `${field} holds something that is not written as an integer`);
    return item >= 0n && item <= MAX_U64 ? item : fail(code, `${field} holds a number outside 0 to 2^64-1`);
  });
}

/** Exact, and refused where 64 bits would overflow on the way, as the reference reader does. */
function byteCount(dims: readonly bigint[], bits: number, fail: Fail): bigint {
  let product = 1n;
  for (const size of [...dims, BigInt(bits)]) {
    product *= size;
    if (product > MAX_U64) fail('overflow', 'the number of elements or bits does not fit 64 bits');
  }
  return product % 8n === 0n ? product / 8n : fail('byte-boundary', `${product} bits are not whole bytes`);
}

/** Checks the entries together: they must cover the data exactly, one after another. Throws SafetensorsError. */
export function checkSpans(entries: readonly SafetensorsEntry[], dataStart: number, size: number, file: string): void {
  const fail = (code: string, detail: string, entry?: SafetensorsEntry) =>
    new SafetensorsError({
      file,
      path: entry && nameOf(entry.name),
      code,
      detail,
      offset: dataStart + (entry ? entry.begin : position),
    });
  let position = 0;
  for (const entry of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const { begin, end } = entry;
    if (begin < position) throw fail('offsets-overlap', `begins at ${begin}, inside the tensor before it`, entry);
    if (begin > position)
      throw fail('offsets-hole', `begins at ${begin}, ${begin - position} bytes belong to no tensor`, entry);
    if (dataStart + end > size) {
      throw fail('data-past-end', `ends at byte ${dataStart + end} of a file of ${size} (is it cut short?)`, entry);
    }
    position = end;
  }
  if (dataStart + position !== size) {
    throw fail('trailing-bytes', `${size - dataStart - position} bytes after the last tensor`);
  }
}

/** 32 MiB: twice the header of 100,000 tensors. (The reference reader takes 100 MB, which no file in use comes near.) */
const MAX_HEADER_BYTES = 32 * 2 ** 20;
/** Longer lists mean nothing in a header; of a shape, the rank is the stricter limit. */
const MAX_LIST = 65_536;
const LENGTH_BYTES = 8;

/** What the header of a safetensors file says; tensor bytes are read on request. */
export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: TensorMap;
}

/**
 * Opens a safetensors file: reads and checks the header, and no tensor. Follows the format's text and the order of checks of its
 * reference reader (length, UTF-8, JSON, entries, offsets without hole or overlap, byte counts, nothing after the last tensor);
 * stricter in one thing: a name that is there twice is refused. Throws SafetensorsError with the rule and the byte offset.
 */
export async function readSafetensors(source: ByteSource, file: string): Promise<SafetensorsFile> {
  const length = await headerLength(source, file);
  const bytes = await readExactly(source, LENGTH_BYTES, LENGTH_BYTES + length, file);
  const { value, offsetOf } = parseJson(bytes, {
    file,
    ErrorClass: SafetensorsError,
    exactIntegers: true,
    base: LENGTH_BYTES,
    maxBytes: MAX_HEADER_BYTES,
    maxArrayLength: MAX_LIST,
  });
  if (!isJsonObject(value))
    throw new SafetensorsError({ file, code: 'header', detail: 'not a JSON object', offset: 8 });

  const { __metadata__: metadata, ...described } = value;
  const names = Object.keys(described);
  if (names.length > MAX_TENSORS) {
    const detail = `${names.length} tensors; the limit is ${MAX_TENSORS}`;
    throw new SafetensorsError({ file, code: 'tensor-count', detail, unsupported: true });
  }
  const entries = names.map((name) => readEntry(name, described[name]!, file, () => offsetOf(name)));
  const dataStart = LENGTH_BYTES + length;
  checkSpans(entries, dataStart, source.size, file);
  const tensors = new Map(entries.map((entry) => [entry.name, storedTensor(entry, source, dataStart, file)]));
  return { metadata: readMetadata(metadata, file, () => offsetOf('__metadata__')), tensors };
}

async function headerLength(source: ByteSource, file: string): Promise<number> {
  const fail = async (code: string, detail: string) => {
    const looksLike = recognize(await readBytes(source, 0, Math.min(512, source.size)))?.what;
    const looks = looksLike !== undefined && looksLike !== 'a safetensors file';
    return looks
      ? new SafetensorsError({ file, code: 'not-safetensors', detail: `this is ${looksLike}`, offset: 0 })
      : new SafetensorsError({ file, code, detail, offset: 0 });
  };
  if (source.size < LENGTH_BYTES) throw await fail('file-too-short', `${source.size} bytes, at least 8 are needed`);
  const length = new DataView((await readExactly(source, 0, LENGTH_BYTES, file)).buffer).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw await fail('header-too-large', `header of ${length} bytes; the limit is ${MAX_HEADER_BYTES}`);
  }
  if (LENGTH_BYTES + Number(length) > source.size) {
    throw await fail('header-past-end', `header of ${length} bytes in a file of ${source.size}`);
  }
  return Number(length);
}

function readMetadata(
  value: Json | undefined,
  file: string,
  offsetOf: () => number | undefined,
): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  if (value === undefined || value === null) return metadata; // the reference reader lets null pass
  const fail = (detail: string) =>
    new SafetensorsError({ file, path: '__metadata__', code: 'metadata', detail, offset: offsetOf() });
  if (!isJsonObject(value)) throw fail('not a map of strings');
  for (const [name, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw fail(`${JSON.stringify(name.slice(0, 60))} is not a string`);
    metadata[name] = text;
  }
  return metadata;
}

function storedTensor(entry: SafetensorsEntry, source: ByteSource, dataStart: number, file: string): StoredTensor {
  const { name, dtype, shape } = entry;
  const byteLength = entry.end - entry.begin;
  const start = dataStart + entry.begin;
  const read = async (begin = 0, end = byteLength, space?: Uint8Array<ArrayBuffer>) => {
    if (source.readInto === undefined || space === undefined) {
      return readExactly(source, start + begin, start + end, file);
    }
    await source.readInto(start + begin, space);
    return space;
  };
  return { name, dtype, shape, byteLength, file, read };
}

/** A file that shrinks while it is read must not give a tensor of another size. */
async function readExactly(source: ByteSource, start: number, end: number, file: string) {
  const bytes = await readBytes(source, start, end);
  if (bytes.byteLength === end - start) return bytes;
  const detail = `asked for ${end - start} bytes, got ${bytes.byteLength}`;
  throw new SafetensorsError({ file, code: 'short-read', detail, offset: start });
}
