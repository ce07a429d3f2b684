import { WeightError } from '../errors.js';
import { eachChannel, INT8_LIMIT } from './int8.js';
import { nameOf, type StoredTensor } from './stored-tensor.js';

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

/** Adding 2^52 leaves a double no room for a fraction, and the processor rounds it as it should be. */
const nearestEven = (value: number): number => value + 2 ** 52 - 2 ** 52;

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
    scales: () => largest.map((size) => size / INT8_LIMIT),
  };
}

/** A piece of a tensor in steps of its channels' scales; a channel of zeros stays zero. */
export function toInt8(
  values: Float32Array,
  first: number,
  shape: readonly number[],
  scales: Float32Array,
): Int8Array<ArrayBuffer> {
  const numbers = new Int8Array(values.length);
  eachChannel(values.length, first, shape, (channel, begin, end) => {
    const scale = scales[channel]!;
    if (scale === 0) return;
    for (let i = begin; i < end; i++) {
      // A scale near the smallest float is itself rounded: it could ask for more than 127 steps.
      numbers[i] = Math.max(-INT8_LIMIT, Math.min(INT8_LIMIT, Math.round(values[i]! / scale)));
    }
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
