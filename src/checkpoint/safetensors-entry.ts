import { quote, SafetensorsError } from '../errors.js';
import { isJsonObject, type Json, type JsonObject } from './json.js';
import { DTYPE_BITS, MAX_RANK, nameOf } from './stored-tensor.js';

const MAX_U64 = 2n ** 64n - 1n;
const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** One checked entry of a header. `begin` and `end` count bytes from the start of the data. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
  /** Where its name stands in the file. */
  readonly offset: number | undefined;
}

interface Where {
  readonly file: string;
  readonly offset: number | undefined;
}

/** Checks one entry by itself: fields, dtype, integers, and byte count against shape. Throws SafetensorsError. */
export function readEntry(name: string, value: Json, where: Where): SafetensorsEntry {
  const fail = (code: string, detail: string, unsupported = false): never => {
    throw new SafetensorsError({ ...where, path: nameOf(name), code, detail, unsupported });
  };
  if (!isJsonObject(value)) return fail('entry', 'the entry is not an object');
  for (const field of ['dtype', 'shape', 'data_offsets']) {
    if (!(field in value)) fail('entry', `the entry lacks ${field}`);
  }
  const dtype = value['dtype']!;
  if (typeof dtype !== 'string') return fail('dtype', 'dtype is not a string');
  const bits = DTYPE_BITS.get(dtype);
  if (bits === undefined) return fail('dtype', `unknown dtype ${quote(dtype)}`);

  const dims = integers(value, 'shape', fail);
  const offsets = integers(value, 'data_offsets', fail);
  if (offsets.length !== 2) fail('offsets', `data_offsets has ${offsets.length} items, not two`);
  const [begin, end] = offsets as [bigint, bigint];
  if (begin > end) fail('offsets-reversed', `begin ${begin} is greater than end ${end}`);

  const needed = byteCount(dims, bits, fail);
  if (end - begin !== needed) {
    fail('byte-count', `${dtype} [${dims.slice(0, MAX_RANK)}] needs ${needed} bytes, the offsets give ${end - begin}`);
  }
  if (dims.length > MAX_RANK) fail('rank', `${dims.length} dimensions; the limit is ${MAX_RANK}`, true);
  if ([...dims, end].some((size) => size > MAX_SAFE)) fail('too-large', 'a size or offset above 2^53');
  return { name, dtype, shape: dims.map(Number), begin: Number(begin), end: Number(end), offset: where.offset };
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
