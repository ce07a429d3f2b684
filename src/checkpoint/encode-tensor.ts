import { WeightError } from '../errors.js';
import { type BufferPool, piecePool, readPieces } from './open-checkpoint.js';
import type { NewTensor } from './safetensors.js';
import { eachChannel, INT8_LIMIT, nameOf, type StoredTensor, scaleName } from './stored-tensor.js';

/** From float32 to narrower numbers: each the nearest, ties to even, as PyTorch's and NumPy's conversions do. */

/** float32 as half floats: 5 bits of exponent, 10 of fraction. Too large becomes infinite; below 2^-25 nothing is left. */
export function toHalfBits(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = words[i]!;
    const sign = (word >>> 16) & 0x8000;
    const size = word & 0x7fffffff;
    if (size >= 0x47800000) bits[i] = sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00);
    else if (size < 0x38800000) bits[i] = sign | nearestEven(Math.abs(values[i]!) * 2 ** 24);
    else bits[i] = sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13); // a carry reaches the exponent
  }
  return bits;
}

/** Of a number below 2^51: adding so much leaves a double no room for a fraction, and the processor rounds it as it should be. */
const nearestEven = (value: number): number => value + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;

/** float32 as bfloat16: its upper half, rounded. */
export function toBrainBits(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = words[i]!;
    bits[i] = Number.isNaN(values[i]) ? 0x7fc0 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/** Channels of numbers below count as zeros, here and in the backends: a scale near the smallest float would itself be rounded. */
const SMALLEST_CHANNEL = 2 ** -100;

/** Takes the pieces of a tensor one after another and gives the scale of each output channel: its largest size over 127. */
export function scaleFinder(shape: readonly number[]): {
  add(values: Float32Array, first: number): void;
  scales(): Float32Array<ArrayBuffer>;
} {
  const largest = new Float32Array(shape[0]!);
  return {
    add(values, first) {
      eachChannel(values.length, first, shape, (channel, begin, end) => {
        let most = largest[channel]!;
        for (let i = begin; i < end; i++) most = Math.max(most, Math.abs(values[i]!));
        largest[channel] = most;
      });
    },
    scales: () => largest.map((size) => (size > SMALLEST_CHANNEL ? size / INT8_LIMIT : 0)),
  };
}

/**
 * A piece of a tensor in steps of its channels' scales (into `numbers`, if given), to the nearest, ties to even; a channel of zeros stays zero. In float32,
 * as `simd` computes it: so a converted file has the numbers that the backend makes of the file before.
 */
export function toInt8(
  values: Float32Array,
  first: number,
  shape: readonly number[],
  scales: Float32Array,
  numbers = new Int8Array(values.length),
): Int8Array<ArrayBuffer> {
  eachChannel(values.length, first, shape, (channel, begin, end) => {
    const scale = scales[channel]!;
    if (scale === 0) return void numbers.fill(0, begin, end);
    const factor = Math.fround(1 / scale);
    for (let i = begin; i < end; i++) numbers[i] = nearestEven(Math.fround(values[i]! * factor));
  });
  return numbers;
}

/** Throws WeightError (`f16-overflow`, `bf16-overflow`) where rounding made a finite weight infinite. */
export function checkOverflow(
  stored: StoredTensor,
  values: Float32Array,
  bits: Uint16Array,
  dtype: 'F16' | 'BF16',
  first: number,
): void {
  const infinite = dtype === 'F16' ? 0x7c00 : 0x7f80;
  const at = bits.findIndex((word) => (word & 0x7fff) >= infinite);
  if (at < 0) return;
  const advice = dtype === 'F16' ? 'above 65504, the largest f16; use bf16' : 'above the largest bf16; use f32';
  throw new WeightError({
    file: stored.file,
    path: nameOf(stored.name),
    code: `${dtype.toLowerCase()}-overflow`,
    detail: `value ${first + at} is ${values[at]}, ${advice}`,
  });
}

/** Number formats that weights can be converted to. */
export const CONVERT_DTYPES = ['f32', 'f16', 'bf16', 'int8'] as const;
export type ConvertDtype = (typeof CONVERT_DTYPES)[number];

/** Notes what a conversion loses. */
export interface Losses {
  /** Weights that were not 0 and are now. */
  flushed: number;
}

/**
 * A stored tensor in another number format, read when its pieces are asked for, some megabytes at a time (in memory of `pool`, which tensors may share
 * that are read one after the other). For int8 that is the weight and its scales, which belong into one file.
 *
 * Reading throws as `readWeights`, and WeightError: `f16-overflow`, `bf16-overflow`, or `f16-underflow` for a matrix whose largest
 * weight is below the smallest normal f16, so that all of it would lose precision.
 */
export function encodeTensor(
  stored: StoredTensor,
  dtype: ConvertDtype,
  losses: Losses,
  pool = piecePool(),
): NewTensor[] {
  const { name, shape } = stored;
  switch (dtype) {
    case 'f32':
      return [{ name, shape, dtype: 'F32', pieces: () => floats(stored, pool) }];
    case 'f16':
      return [{ name, shape, dtype: 'F16', pieces: () => halves(stored, losses, pool) }];
    case 'bf16':
      return [{ name, shape, dtype: 'BF16', pieces: () => brains(stored, pool) }];
    case 'int8':
      return quantized(stored, pool);
  }
}

const bytesOf = (array: Float32Array | Uint16Array | Int8Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

async function* floats(stored: StoredTensor, pool?: BufferPool): AsyncGenerator<Uint8Array> {
  for await (const { values } of readPieces(stored, pool)) yield bytesOf(values);
}

const SMALLEST_NORMAL_HALF = 2 ** -14;

async function* halves(stored: StoredTensor, losses: Losses, pool?: BufferPool): AsyncGenerator<Uint8Array> {
  let largest = 0;
  for await (const { values, first } of readPieces(stored, pool)) {
    const bits = toHalfBits(values);
    checkOverflow(stored, values, bits, 'F16', first);
    for (let i = 0; i < bits.length; i++) {
      largest = Math.max(largest, Math.abs(values[i]!));
      if ((bits[i]! & 0x7fff) === 0 && values[i] !== 0) losses.flushed++;
    }
    yield bytesOf(bits);
  }
  // A bias that small hardly counts; a matrix multiplies what comes in, and its relative precision does.
  if (stored.shape.length < 2 || largest === 0 || largest >= SMALLEST_NORMAL_HALF) return;
  throw new WeightError({
    file: stored.file,
    path: nameOf(stored.name),
    code: 'f16-underflow',
    detail: `its largest value is ${largest.toPrecision(3)}, below 6.1e-5, the smallest normal f16; use bf16`,
  });
}

async function* brains(stored: StoredTensor, pool?: BufferPool): AsyncGenerator<Uint8Array> {
  for await (const { values, first } of readPieces(stored, pool)) {
    const bits = toBrainBits(values);
    checkOverflow(stored, values, bits, 'BF16', first);
    yield bytesOf(bits);
  }
}

/** The scales come before the weights in the file, and are found by reading the tensor once more. */
function quantized(stored: StoredTensor, pool: BufferPool): NewTensor[] {
  const { name, shape } = stored;
  let found: Promise<Float32Array> | undefined;
  const scales = (): Promise<Float32Array> => {
    found ??= findScales(stored, pool);
    return found;
  };
  return [
    {
      name,
      shape,
      dtype: 'I8',
      async *pieces() {
        const known = await scales();
        for await (const { values, first } of readPieces(stored, pool)) {
          const space = pool.take(values.length);
          toInt8(values, first, shape, known, new Int8Array(space.buffer, 0, values.length));
          yield space;
          pool.give(space);
        }
      },
    },
    {
      name: scaleName(name),
      shape: [shape[0]!],
      dtype: 'F32',
      async *pieces() {
        yield bytesOf(await scales());
      },
    },
  ];
}

async function findScales(stored: StoredTensor, pool?: BufferPool): Promise<Float32Array> {
  const finder = scaleFinder(stored.shape);
  for await (const { values, first } of readPieces(stored, pool)) finder.add(values, first);
  return finder.scales();
}
