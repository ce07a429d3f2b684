import { quote, WeightError } from '../errors.js';
import { elementCount, nameOf, type StoredTensor, type TensorMap } from './stored-tensor.js';

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
 * Joins each I8 tensor of a quantised file with its scales, which then are no tensors of their own any more; other files pass
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
export function dequantise(
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

/** Visits the parts of a piece of `count` elements, of which `first` is the first in its tensor, that lie in one output channel each. */
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
