/** float32 numbers in narrower formats, whole arrays at a time: a model has some 150 million of them. */

/** The nearest bf16, ties to even, as bits. */
export function toBf16(data: Float32Array): Uint16Array {
  const bits = bitsOf(data);
  const words = new Uint16Array(data.length);
  for (let i = 0; i < words.length; i++) {
    const x = bits[i]!;
    words[i] = (x & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return words;
}

/** Sizes from which on f16 is infinite (65520), and from which on it has all its digits (2^-14), as float32 bits. */
const F16_INFINITE = 0x477ff000;
const F16_NORMAL = 0x38800000;

/** The nearest f16, ties to even, as bits; too large numbers become infinite. */
export function toF16(data: Float32Array): Uint16Array {
  const bits = bitsOf(data);
  const words = new Uint16Array(data.length);
  const sum = new Float32Array(1);
  const sumBits = new Int32Array(sum.buffer);
  for (let i = 0; i < words.length; i++) {
    const sign = (bits[i]! >>> 16) & 0x8000;
    const size = bits[i]! & 0x7fffffff;
    if (size >= F16_INFINITE) words[i] = size > 0x7f800000 ? 0x7e00 : sign | 0x7c00;
    else if (size >= F16_NORMAL) words[i] = sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
    else {
      sum[0] = Math.abs(data[i]!) + 0.5; // the last place of numbers from 0.5 on is 2^-24, f16's smallest step
      words[i] = sign | (sumBits[0]! - 0x3f000000);
    }
  }
  return words;
}

/** int8 numbers, and for each output channel what they stand for: symmetric, the largest of a channel becomes ±127. */
export interface Quantised {
  readonly words: Int8Array;
  readonly scales: Float32Array;
}

/** [in, out] numbers, or with `transposed` [out, in] ones, as int8 in the same order. */
export function quantise(
  data: Float32Array,
  [inputs, outputs]: readonly [number, number],
  transposed: boolean,
): Quantised {
  const [rows, columns] = transposed ? [outputs, inputs] : [inputs, outputs];
  const scales = new Float32Array(outputs);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const channel = transposed ? row : column;
      const size = Math.abs(data[i]!);
      if (size > scales[channel]!) scales[channel] = size;
    }
  }
  const factors = Float64Array.from(scales, (top) => (top > 0 ? 127 / top : 0));
  const words = new Int8Array(data.length);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      words[i] = Math.round(data[i]! * factors[transposed ? row : column]!);
    }
  }
  for (let channel = 0; channel < outputs; channel++) scales[channel] = scales[channel]! / 127;
  return { words, scales };
}

const bitsOf = (data: Float32Array) => new Uint32Array(data.buffer, data.byteOffset, data.length);
