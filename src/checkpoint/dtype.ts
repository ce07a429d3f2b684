import { WeightError } from '../errors.js';
import { nameOf, type StoredTensor } from './stored-tensor.js';

/**
 * From stored bytes to numbers. Bytes are little-endian, as is every machine that runs JavaScript today. Typed arrays demand
 * alignment and files do not give it, so a view is taken where it can be and a copy where it must be.
 */

/** What messages need to know of a tensor. */
export type TensorLabel = Pick<StoredTensor, 'name' | 'dtype' | 'file'>;

interface ArrayType<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer, offset: number, length: number): A;
}

function view<A>(type: ArrayType<A>, bytes: Uint8Array<ArrayBuffer>): A {
  const size = type.BYTES_PER_ELEMENT;
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new type(aligned.buffer, aligned.byteOffset, aligned.byteLength / size);
}

let halves: Float32Array | undefined;

/** All 65,536 half floats, widened: sign, 5 bits of exponent, 10 of fraction. */
function halfTable(): Float32Array {
  if (halves) return halves;
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    let size = (1 + fraction / 1024) * 2 ** (exponent - 15);
    if (exponent === 0) size = fraction * 2 ** -24;
    if (exponent === 31) size = fraction ? Number.NaN : Number.POSITIVE_INFINITY;
    table[bits] = bits & 0x8000 ? -size : size;
  }
  halves = table;
  return table;
}

/** Widens into `target` where it is given, which has the right length. */
type Widen = (bytes: Uint8Array<ArrayBuffer>, target?: Float32Array<ArrayBuffer>) => Float32Array<ArrayBuffer>;

const widenHalf: Widen = (bytes, target) => {
  const bits = view(Uint16Array, bytes);
  const table = halfTable();
  const values = target ?? new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]!]!;
  return values;
};

/** A bfloat16 is the upper half of a float32. */
const widenBrain: Widen = (bytes, target) => {
  const bits = view(Uint16Array, bytes);
  const values = target ?? new Float32Array(bits.length);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return values;
};

const roundDoubles: Widen = (bytes, target) => {
  const doubles = view(Float64Array, bytes);
  if (target === undefined) return new Float32Array(doubles);
  target.set(doubles);
  return target;
};

const TO_FLOAT32: ReadonlyMap<string, Widen> = new Map([
  ['F32', (bytes: Uint8Array<ArrayBuffer>) => view<Float32Array<ArrayBuffer>>(Float32Array, bytes)],
  ['F16', widenHalf],
  ['BF16', widenBrain],
  ['F64', roundDoubles],
]);

/** Dtypes that become weights; all others are for buffers, or refused. */
export const WEIGHT_DTYPES: readonly string[] = [...TO_FLOAT32.keys()];

/** Can this tensor become a weight? I8 can where the file says what its numbers are worth. */
export const isWeight = ({ dtype, scales }: Pick<StoredTensor, 'dtype' | 'scales'>): boolean =>
  WEIGHT_DTYPES.includes(dtype) || (dtype === 'I8' && scales !== undefined);

/**
 * Stored F32, F16, BF16 or F64 (rounded once) as float32: F32 is a view where it can be, others are widened into `target` if it is given.
 * Throws WeightError (`unsupported-dtype`) for any other dtype.
 */
export function toFloat32(
  tensor: TensorLabel,
  bytes: Uint8Array<ArrayBuffer>,
  target?: Float32Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  const widen = TO_FLOAT32.get(tensor.dtype);
  if (!widen) throw unsupportedDtype(tensor, WEIGHT_DTYPES);
  return widen(bytes, target);
}

/** Stored F32, F16, BF16 or I8 without widening them, halves as their bits: a view where it can be. */
export function storedNumbers(
  tensor: TensorLabel,
  bytes: Uint8Array<ArrayBuffer>,
): Float32Array | Uint16Array | Int8Array {
  if (tensor.dtype === 'F32') return view<Float32Array>(Float32Array, bytes);
  if (tensor.dtype === 'I8') return view<Int8Array>(Int8Array, bytes);
  if (tensor.dtype === 'F16' || tensor.dtype === 'BF16') return view<Uint16Array>(Uint16Array, bytes);
  throw unsupportedDtype(tensor, ['F32', 'F16', 'BF16', 'I8']);
}

/** Host numbers of a stored tensor. */
export type HostArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

const HOST_ARRAYS: ReadonlyMap<string, (bytes: Uint8Array<ArrayBuffer>) => HostArray> = new Map<
  string,
  (bytes: Uint8Array<ArrayBuffer>) => HostArray
>([
  ...[...TO_FLOAT32].map(([dtype, widen]) => [dtype, (bytes: Uint8Array<ArrayBuffer>) => widen(bytes)] as const),
  ['F64', (bytes) => view<Float64Array>(Float64Array, bytes)],
  ['I64', (bytes) => view<BigInt64Array>(BigInt64Array, bytes)],
  ['U64', (bytes) => view<BigUint64Array>(BigUint64Array, bytes)],
  ['I32', (bytes) => view<Int32Array>(Int32Array, bytes)],
  ['U32', (bytes) => view<Uint32Array>(Uint32Array, bytes)],
  ['I16', (bytes) => view<Int16Array>(Int16Array, bytes)],
  ['U16', (bytes) => view<Uint16Array>(Uint16Array, bytes)],
  ['I8', (bytes) => view<Int8Array>(Int8Array, bytes)],
  ['U8', (bytes) => bytes],
  ['BOOL', (bytes) => bytes],
]);

/** Dtypes whose values can be read. */
export const READABLE_DTYPES: readonly string[] = [...HOST_ARRAYS.keys()];

/** Reads a tensor's numbers as they are stored (halves widened). Throws WeightError (`unsupported-dtype`). */
export async function readValues(tensor: StoredTensor): Promise<HostArray> {
  const decode = HOST_ARRAYS.get(tensor.dtype);
  if (!decode) throw unsupportedDtype(tensor, READABLE_DTYPES);
  return decode(await tensor.read());
}

export function unsupportedDtype(tensor: TensorLabel, supported: readonly string[]): WeightError {
  return new WeightError({
    file: tensor.file,
    path: nameOf(tensor.name),
    code: 'unsupported-dtype',
    detail: `stored as ${tensor.dtype}; this can read ${supported.join(', ')}`,
    unsupported: true,
  });
}
