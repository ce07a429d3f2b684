import { WeightError } from '../errors.js';
import type { TensorSpec } from '../layers/param-spec.js';
import { toFloat32 } from './dtype.js';
import { dequantise, readScales } from './int8.js';
import { turnKernels, turnRows } from './layout.js';
import { elementCount, nameOf, type StoredTensor } from './stored-tensor.js';

/** Bytes read at a time where values must be converted or turned, so that a matrix is in memory once, not twice. */
const CHUNK_BYTES = 4 * 2 ** 20;

/**
 * Reads one stored tensor as the float32 values that a parameter holds, turned to its layout.
 * Throws WeightError: `unsupported-dtype`, `non-finite` for NaN and infinity, which no trained weight has and which would only
 * show much later, as an empty caption; `bad-scale` or `int8-range` for int8 weights.
 */
export async function readWeights(stored: StoredTensor, spec: TensorSpec): Promise<Float32Array<ArrayBuffer>> {
  if (spec.layout === 'conv2d' || (stored.dtype === 'F32' && spec.layout === 'as-is')) {
    const widen = await widenerOf(stored);
    const values = widen(await stored.read(), 0);
    if (spec.layout === 'as-is') return values;
    const turned = new Float32Array(values.length);
    turnKernels(values, spec.shape, turned);
    return turned;
  }
  const result = new Float32Array(elementCount(spec.shape));
  const inputs = spec.layout === 'linear' ? spec.shape[1]! : 1;
  for await (const { values, first } of readPieces(stored, inputs)) {
    if (spec.layout === 'linear') turnRows(values, first / inputs, spec.shape[0]!, inputs, result);
    else result.set(values, first);
  }
  return result;
}

/**
 * The float32 values of a stored tensor as they lie in the file, some megabytes at a time; `first` is the index of a piece's first
 * element, always a multiple of `unit`. Throws as `readWeights`.
 */
export async function* readPieces(
  stored: StoredTensor,
  unit = 1,
): AsyncGenerator<{ readonly values: Float32Array<ArrayBuffer>; readonly first: number }, void, void> {
  const count = elementCount(stored.shape);
  if (count === 0) return;
  const widen = await widenerOf(stored);
  const itemBytes = stored.byteLength / count;
  const step = Math.max(1, Math.floor(CHUNK_BYTES / (itemBytes * unit))) * unit;
  for await (const { bytes, begin } of chunks(stored, step * itemBytes)) {
    const first = begin / itemBytes;
    yield { values: widen(bytes, first), first };
  }
}

/** From bytes of a tensor to finite float32; `first` is the index of their first element. */
type Widen = (bytes: Uint8Array<ArrayBuffer>, first: number) => Float32Array<ArrayBuffer>;

async function widenerOf(stored: StoredTensor): Promise<Widen> {
  if (stored.dtype !== 'I8' || stored.scales === undefined) {
    return (bytes, first) => finite(stored, toFloat32(stored, bytes), first);
  }
  const scales = await readScales(stored.scales);
  return (bytes, first) => finite(stored, dequantise(stored, bytes, first, scales), first);
}

/** A tensor's bytes piece by piece; the next piece is already being read while one is worked on. */
async function* chunks(stored: StoredTensor, size: number) {
  const read = (begin: number) => {
    const bytes = stored.read(begin, Math.min(stored.byteLength, begin + size));
    bytes.catch(() => undefined); // awaited below, unless the work on an earlier piece throws first
    return bytes;
  };
  let next = read(0);
  for (let begin = 0; begin < stored.byteLength; begin += size) {
    const bytes = await next;
    if (begin + size < stored.byteLength) next = read(begin + size);
    yield { bytes, begin };
  }
}

/** x * 0 is 0 for every finite x and NaN for the others; four sums, because one would wait for itself. */
function allFinite(values: Float32Array): boolean {
  const even = values.length & ~3;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let i = 0; i < even; i += 4) {
    a += values[i]! * 0;
    b += values[i + 1]! * 0;
    c += values[i + 2]! * 0;
    d += values[i + 3]! * 0;
  }
  for (let i = even; i < values.length; i++) a += values[i]! * 0;
  return a + b + c + d === 0;
}

function finite(stored: StoredTensor, values: Float32Array<ArrayBuffer>, first: number): Float32Array<ArrayBuffer> {
  if (allFinite(values)) return values;
  const index = values.findIndex((value) => !Number.isFinite(value));
  throw new WeightError({
    file: stored.file,
    place: nameOf(stored.name),
    rule: 'non-finite',
    detail: `value ${first + index} is ${values[index]}${stored.dtype === 'F64' ? ' as float32' : ''}`,
  });
}
