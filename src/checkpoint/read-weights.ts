import type { ParamSink, StoredNumbers } from 'tfjs-backend-simd';
import { WeightError } from '../errors.js';
import type { TensorSpec } from '../layers/param-spec.js';
import { dequantize, readScales, storedNumbers, toFloat32 } from './dtypes.js';
import { ROW_GROUP, transposeKernels, transposeRows } from './layout.js';
import { elementCount, nameOf, type StoredTensor } from './stored-tensor.js';

/** Memory that is used again while a checkpoint is read: what is thrown away makes the collector run every few pieces. */
export interface BufferPool {
  /** Memory of that many bytes, whatever is in it. */
  take(bytes: number): Uint8Array<ArrayBuffer>;
  /** What `take` gave is needed no longer; the caller must not look at it again. */
  give(buffer: Uint8Array<ArrayBuffer>): void;
}

/** Below this the collector hardly notices. */
const SMALL = 2 ** 16;

/** A pool of buffers of `size` bytes; what is much smaller, or larger, is made and left to the collector. */
export function bufferPool(size: number): BufferPool {
  const free: ArrayBuffer[] = [];
  return {
    take(bytes) {
      if (bytes < SMALL || bytes > size) return new Uint8Array(bytes);
      return new Uint8Array(free.pop() ?? new ArrayBuffer(size), 0, bytes);
    },
    give({ buffer, length }) {
      if (length >= SMALL && buffer.byteLength === size) free.push(buffer);
    },
  };
}

/** Elements read at a time where values must be converted or transposed, so that a matrix is in memory once, not twice. */
const PIECE = 2 ** 20;

/** A tensor whose first bytes are on their way. */
export interface Reading {
  /** How many bytes that is. */
  readonly bytesAhead: number;
  /**
   * The float32 values that the parameter holds, transposed to its layout; in `target` where it is given, which has that many elements.
   * Call it once. Throws as `readWeights`.
   */
  finish(target?: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>>;
  /**
   * Instead of `finish`: streams the numbers into `sink` in their order in the file, not transposed, and not widened where it takes them so. Resolves to
   * whether it took them; not if one is too large for it. Throws as `readWeights`.
   */
  streamInto(sink: Omit<ParamSink, 'tensor'>): Promise<boolean>;
}

/** Begins to read a tensor, so that the disk works while another one is being transposed. An error shows in `finish` only. */
export function beginReading(stored: StoredTensor, { shape, layout }: TensorSpec, pool?: BufferPool): Reading {
  const count = elementCount(shape);
  const [outputs = 1, inputs = 1] = shape;
  const units = { 'as-is': 1, linear: inputs * ROW_GROUP, conv2d: count };
  const { pieces, rawPieces, bytesAhead } = beginPieces(stored, units[layout], pool);
  return {
    bytesAhead,
    async finish(target = new Float32Array(count)) {
      for await (const piece of pieces()) {
        const { values, first } = piece;
        if (layout === 'linear') {
          if (!transposeRows(values, first / inputs, outputs, inputs, target)) throw nonFinite(stored, piece);
          continue;
        }
        if (!allFinite(values)) throw nonFinite(stored, piece);
        if (layout === 'conv2d') transposeKernels(values, shape, target);
        else target.set(values, first);
      }
      return target;
    },
    async streamInto(sink) {
      const asStored = sink.dtypes.includes(stored.dtype);
      for await (const piece of rawPieces()) {
        const numbers = asStored ? piece.stored() : { dtype: 'F32', data: piece.values() };
        const fault = sink.add(numbers, piece.first);
        if (fault === 'too-large') return false;
        if (fault !== undefined) throw nonFinite(stored, { values: piece.values(), first: piece.first }); // int8 throws its own
      }
      return true;
    },
  };
}

/**
 * Reads one stored tensor as the float32 values that a parameter holds, transposed to its layout.
 * Throws WeightError: `unsupported-dtype`, `non-finite` for NaN and infinity, which no trained weight has and which would only
 * show much later, as an empty caption; `bad-scale` or `int8-range` for int8 weights.
 */
export const readWeights = (stored: StoredTensor, spec: TensorSpec): Promise<Float32Array<ArrayBuffer>> =>
  beginReading(stored, spec).finish();

/** Some values of a tensor as the file has them; `first` is the index of their first element. */
export interface Piece {
  readonly values: Float32Array<ArrayBuffer>;
  readonly first: number;
}
type Pieces = AsyncGenerator<Piece, void, void>;

/** A piece that is widened when it is asked for. */
interface RawPiece {
  readonly first: number;
  stored(): StoredNumbers;
  values(): Float32Array<ArrayBuffer>;
}

/**
 * The float32 values of a stored tensor as the file has them, a million or so at a time. Those of a piece are gone when the next is
 * asked for. Throws as `readWeights`.
 */
export async function* readPieces(stored: StoredTensor): Pieces {
  for await (const piece of beginPieces(stored, 1).pieces()) {
    if (!allFinite(piece.values)) throw nonFinite(stored, piece);
    yield piece;
  }
}

/** Memory for pieces, to be shared by the tensors of a checkpoint. */
export const piecePool = (): BufferPool => bufferPool(4 * PIECE);

/** Pieces whose `first` is a multiple of `unit`. The first of them is being read when this returns. */
function beginPieces(
  stored: StoredTensor,
  unit: number,
  pool = piecePool(),
): { readonly bytesAhead: number; pieces(): Pieces; rawPieces(): AsyncGenerator<RawPiece, void, void> } {
  const count = elementCount(stored.shape);
  const step = count === 0 ? 0 : Math.min(count, Math.max(1, Math.floor(PIECE / unit)) * unit);
  const itemBytes = count === 0 ? 0 : stored.byteLength / count;
  const read = (first: number) => {
    const end = Math.min(count, first + step);
    const room = pool.take((end - first) * itemBytes);
    const bytes = stored.read(first * itemBytes, end * itemBytes, room);
    return promptly(bytes.then((found) => ({ found, room })));
  };
  const widener = promptly(widenerOf(stored, pool));
  const begun = read(0);
  async function* rawPieces(): AsyncGenerator<RawPiece, void, void> {
    const { widen, scales } = await widener;
    let next = begun;
    for (let first = 0; first < count; first += step) {
      const { found, room } = await next;
      if (first + step < count) next = read(first + step); // while this piece is worked on
      const made: { values?: Float32Array<ArrayBuffer> } = {};
      yield {
        first,
        stored: () => ({ dtype: stored.dtype, data: storedNumbers(stored, found), scales }),
        values: () => (made.values ??= widen(found, first)),
      };
      if (made.values !== undefined && made.values.buffer !== found.buffer) pool.give(bytesOf(made.values));
      pool.give(room);
    }
  }
  async function* pieces(): Pieces {
    for await (const { first, values } of rawPieces()) yield { values: values(), first };
  }
  return { bytesAhead: step * itemBytes, pieces, rawPieces };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** The promise itself; that nobody waits for it yet, or ever, is no mistake. */
function promptly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** From bytes of a tensor to float32; `first` is the index of their first element. */
interface Widener {
  widen(bytes: Uint8Array<ArrayBuffer>, first: number): Float32Array<ArrayBuffer>;
  readonly scales: Float32Array | undefined;
}

async function widenerOf(stored: StoredTensor, pool: BufferPool): Promise<Widener> {
  if (stored.dtype === 'F32') return { widen: (bytes) => toFloat32(stored, bytes), scales: undefined };
  const scales = stored.dtype === 'I8' && stored.scales !== undefined ? await readScales(stored.scales) : undefined;
  const itemBytes = stored.byteLength / elementCount(stored.shape);
  const widen = (bytes: Uint8Array<ArrayBuffer>, first: number) => {
    const room = pool.take((bytes.length / itemBytes) * 4);
    const values = new Float32Array(room.buffer, 0, room.length / 4);
    if (scales === undefined) return toFloat32(stored, bytes, values);
    dequantize(stored, bytes, first, scales, values);
    return values;
  };
  return { widen, scales };
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

function nonFinite(stored: StoredTensor, { values, first }: Piece): WeightError {
  const index = values.findIndex((value) => !Number.isFinite(value));
  return new WeightError({
    file: stored.file,
    path: nameOf(stored.name),
    code: 'non-finite',
    detail: `value ${first + index} is ${values[index]}${stored.dtype === 'F64' ? ' as float32' : ''}`,
  });
}
