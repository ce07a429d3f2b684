import type { WeightFormat } from 'tfjs-backend-simd';
import { type Image2TextError, quote, WeightError } from '../errors.js';

/** A tensor in a file: what its header says, and its bytes on request. */
export interface StoredTensor {
  readonly name: string;
  /** As safetensors writes it: F32, F16, BF16, F64, I64, … */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The file that holds it, for messages. */
  readonly file: string;
  /**
   * Its bytes [begin, end), row-major and little-endian; all of them by default. Only these are read. They may come in `space`, if that is
   * given and has their length, or in memory of their own.
   */
  read(begin?: number, end?: number, space?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /** I8 weights of a quantized file: what one is worth in each output channel, F32 [out]. */
  readonly scales?: StoredTensor;
}

/** The tensors of a checkpoint by name. */
export type TensorMap = ReadonlyMap<string, StoredTensor>;

/** Bits of one element of each dtype that the safetensors format knows. */
export const DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
]);

/** Limits on any checkpoint, far above what a model of this kind has. */
export const MAX_TENSORS = 100_000;
export const MAX_RANK = 8;

/** A tensor's name for a message: as it is when plain, else quoted, escaped and cut. */
export const nameOf = (name: string): string => (/^[\w./-]{1,100}$/.test(name) ? name : quote(name));

export const elementCount = (shape: readonly number[]): number => shape.reduce((count, size) => count * size, 1);

/**
 * The same tensors under other names (`undefined` drops one). Throws WeightError (`name-collision`) when two would get the same.
 */
export function renameTensors(tensors: TensorMap, rename: (name: string) => string | undefined): TensorMap {
  const renamed = new Map<string, StoredTensor>();
  for (const [name, stored] of tensors) {
    const to = rename(name);
    if (to === undefined) continue;
    const other = renamed.get(to);
    if (other) throw collision(stored, other, to);
    renamed.set(to, to === name ? stored : { ...stored, name: to });
  }
  return renamed;
}

function collision(stored: StoredTensor, other: StoredTensor, name: string): Image2TextError {
  return new WeightError({
    file: stored.file,
    path: nameOf(name),
    code: 'name-collision',
    detail: stored.file === other.file ? 'two tensors mean this one' : `also in ${other.file}`,
  });
}

/** Further names for tensors that are there (weights that the model ties); a name that exists already is left as it is. */
export function aliasTensors(tensors: TensorMap, aliases: Readonly<Record<string, string>>): TensorMap {
  const result = new Map(tensors);
  for (const [alias, name] of Object.entries(aliases)) {
    const stored = tensors.get(name);
    if (stored && !result.has(alias)) result.set(alias, { ...stored, name: alias });
  }
  return result;
}

/**
 * From stored bytes to numbers. Bytes are little-endian, as is every machine that runs JavaScript today. Typed arrays demand
 * alignment and files do not give it, so a view is taken where it can be and a copy where it must be.
 */

/** How the weights of linear layers can be kept in memory. A format of the backend that is missing here does not compile. */
export const WEIGHT_FORMATS = Object.keys({ f32: 0, bf16: 0, f16: 0, int8: 0, 'int8-fast': 0 } satisfies Record<
  WeightFormat,
  0
>) as readonly WeightFormat[];

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

/**
 * Weights of eight bits, "int8 per output channel symmetric v1". In a safetensors file whose metadata names the scheme, a tensor
 * NAME of dtype I8 and shape [out, …] holds whole numbers from -127 to 127, and NAME.scale, F32 [out], what one of them is worth in
 * each output channel (each row of an embedding): the weight is number * scale. All other tensors are as everywhere.
 */
export const QUANTIZATION_KEY = 'image2text.quantization';
export const INT8_SCHEME = 'int8 per output channel symmetric v1';
export const INT8_LIMIT = 127;

const SUFFIX = '.scale';
export const scaleName = (name: string): string => name + SUFFIX;

/** What a file's metadata must say where any of its tensors is in this scheme. */
export const INT8_METADATA: Readonly<Record<string, string>> = { [QUANTIZATION_KEY]: INT8_SCHEME };

/**
 * Joins each I8 tensor of a quantized file with its scales, which then are no tensors of their own any more; other files pass
 * unchanged. Nothing is read. Throws WeightError `unknown-quantization`, `missing-scale`, `scale-dtype` or `scale-shape`.
 */
export function attachScales(tensors: TensorMap, metadata: Readonly<Record<string, string>>, file: string): TensorMap {
  const scheme = metadata[QUANTIZATION_KEY];
  if (scheme === undefined) return tensors;
  if (scheme !== INT8_SCHEME) {
    const detail = `${quote(scheme)}; this can read ${quote(INT8_SCHEME)}`;
    throw new WeightError({ file, path: QUANTIZATION_KEY, code: 'unknown-quantization', detail, unsupported: true });
  }
  const joined = new Map(tensors);
  for (const [name, stored] of tensors) {
    if (stored.dtype !== 'I8') continue;
    const scales = tensors.get(scaleName(name));
    if (scales === undefined) throw fault(stored, 'missing-scale', `there is no ${nameOf(scaleName(name))}`);
    if (scales.dtype !== 'F32') throw fault(scales, 'scale-dtype', `scales are F32, these are ${scales.dtype}`);
    if (stored.shape.length === 0 || scales.shape.length !== 1 || scales.shape[0] !== stored.shape[0]) {
      const detail = `[${scales.shape}] for int8 weights of [${stored.shape}], which need one scale for each of the first`;
      throw fault(scales, 'scale-shape', detail);
    }
    joined.delete(scaleName(name));
    joined.set(name, { ...stored, scales });
  }
  return joined;
}

/** The scales of an int8 tensor. Throws WeightError (`bad-scale`) for one that is below 0, or gives no finite weights. */
export async function readScales(scales: StoredTensor): Promise<Float32Array<ArrayBuffer>> {
  const bytes = (await scales.read()).slice(); // aligned, whatever the file
  const values = new Float32Array(bytes.buffer);
  const odd = values.findIndex((value) => !(value >= 0 && Math.fround(value * INT8_LIMIT) < Number.POSITIVE_INFINITY));
  if (odd >= 0) throw fault(scales, 'bad-scale', `scale ${odd} is ${values[odd]}; a finite number from 0 on is needed`);
  return values;
}

/**
 * int8 weights as float32 into `values`, which has their number. `first`: which element of the tensor `bytes` begins with.
 * Throws WeightError (`int8-range`) for -128, which the scheme leaves out so that negating never overflows.
 */
export function dequantize(
  stored: StoredTensor,
  bytes: Uint8Array<ArrayBuffer>,
  first: number,
  scales: Float32Array,
  values: Float32Array,
): void {
  const numbers = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let least = 0;
  eachChannel(numbers.length, first, stored.shape, (channel, begin, end) => {
    const scale = scales[channel]!;
    let low = 0;
    for (let i = begin; i < end; i++) {
      const number = numbers[i]!;
      if (number < low) low = number;
      values[i] = number * scale;
    }
    least = Math.min(least, low);
  });
  if (least < -INT8_LIMIT) {
    const path = first + numbers.indexOf(least);
    throw fault(stored, 'int8-range', `value ${path} is ${least}; the scheme goes from -127 to 127`);
  }
}

/** Visits the parts of a piece of `count` elements, of which `first` is the first in its tensor, that belong to one output channel each. */
export function eachChannel(
  count: number,
  first: number,
  shape: readonly number[],
  visit: (channel: number, begin: number, end: number) => void,
): void {
  const width = elementCount(shape.slice(1));
  for (let begin = 0; begin < count; ) {
    const channel = Math.floor((first + begin) / width);
    const end = Math.min(count, (channel + 1) * width - first);
    visit(channel, begin, end);
    begin = end;
  }
}

const fault = (stored: StoredTensor, code: string, detail: string) =>
  new WeightError({ file: stored.file, path: nameOf(stored.name), code, detail });
