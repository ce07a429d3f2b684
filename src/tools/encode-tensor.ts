import { scaleName } from '../checkpoint/int8.js';
import { checkOverflow, scaleFinder, toBrainBits, toHalfBits, toInt8 } from '../checkpoint/narrow.js';
import { readPieces } from '../checkpoint/read-weights.js';
import { nameOf, type StoredTensor } from '../checkpoint/stored-tensor.js';
import { WeightError } from '../errors.js';
import type { NewTensor } from './write-safetensors.js';

/** Number formats that weights can be converted to. */
export const CONVERT_DTYPES = ['f32', 'f16', 'bf16', 'int8'] as const;
export type ConvertDtype = (typeof CONVERT_DTYPES)[number];

/** Notes what a conversion loses. */
export interface Losses {
  /** Weights that were not 0 and are now. */
  flushed: number;
}

/**
 * A stored tensor in another number format, read when its pieces are asked for, some megabytes at a time. For int8 that is the weight
 * and its scales, which belong into one file.
 *
 * Reading throws as `readWeights`, and WeightError: `f16-overflow`, `bf16-overflow`, or `f16-underflow` for a matrix whose largest
 * weight is below the smallest normal f16, so that all of it would lose precision.
 */
export function encodeTensor(stored: StoredTensor, dtype: ConvertDtype, losses: Losses): NewTensor[] {
  const { name, shape } = stored;
  switch (dtype) {
    case 'f32':
      return [{ name, shape, dtype: 'F32', pieces: () => floats(stored) }];
    case 'f16':
      return [{ name, shape, dtype: 'F16', pieces: () => halves(stored, losses) }];
    case 'bf16':
      return [{ name, shape, dtype: 'BF16', pieces: () => brains(stored) }];
    case 'int8':
      return quantised(stored);
  }
}

const bytesOf = (array: Float32Array | Uint16Array | Int8Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

async function* floats(stored: StoredTensor): AsyncGenerator<Uint8Array> {
  for await (const { values } of readPieces(stored)) yield bytesOf(values);
}

const SMALLEST_NORMAL_HALF = 2 ** -14;

async function* halves(stored: StoredTensor, losses: Losses): AsyncGenerator<Uint8Array> {
  let largest = 0;
  for await (const { values, first } of readPieces(stored)) {
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

async function* brains(stored: StoredTensor): AsyncGenerator<Uint8Array> {
  for await (const { values, first } of readPieces(stored)) {
    const bits = toBrainBits(values);
    checkOverflow(stored, values, bits, 'BF16', first);
    yield bytesOf(bits);
  }
}

/** The scales come before the weights in the file, and are found by reading the tensor once more. */
function quantised(stored: StoredTensor): NewTensor[] {
  const { name, shape } = stored;
  let found: Promise<Float32Array> | undefined;
  const scales = (): Promise<Float32Array> => {
    found ??= findScales(stored);
    return found;
  };
  return [
    {
      name,
      shape,
      dtype: 'I8',
      async *pieces() {
        const known = await scales();
        for await (const { values, first } of readPieces(stored)) yield bytesOf(toInt8(values, first, shape, known));
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

async function findScales(stored: StoredTensor): Promise<Float32Array> {
  const finder = scaleFinder(stored.shape);
  for await (const { values, first } of readPieces(stored)) finder.add(values, first);
  return finder.scales();
}
