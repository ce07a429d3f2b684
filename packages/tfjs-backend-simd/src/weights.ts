import { engine, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core';
import { BackendError } from './errors.js';
import { blockBytes, type Heap } from './heap.js';
import { KernelContext } from './kernel-context.js';
import { FORMATS, hasScales, type Packed, packedBytes, type WeightFormat } from './tensor-memory.js';

/** Output channels of a weight, as a file or a program has them. */
export interface Channels {
  /** Numbers of `source`: Float32Array for f32, the bits as Uint16Array for bf16 and f16, Int8Array for int8. */
  readonly data: Float32Array | Uint16Array | Int8Array;
  readonly source: WeightFormat;
  /** [channels, in], as PyTorch stores them; otherwise [in, channels]. */
  readonly transposed: boolean;
  /** The scales are in the panels already; only where int8 stays int8. */
  readonly given?: boolean;
}

/** Why numbers cannot be kept in a format. */
export type PackFault = 'non-finite' | 'too-large';

/** Numbers that are staged at once on their way into the panels: they stay in the second-level cache. */
const STAGE = 2 ** 18;

/** Sizes from which on a number is too large: bf16 would round it to infinity, the kernels' f16 has no room for 128. */
const TOO_LARGE: Readonly<Record<WeightFormat, number>> = {
  f32: Number.POSITIVE_INFINITY,
  bf16: 2 ** 128 - 2 ** 119,
  f16: 128 - 2 ** -5,
  int8: Number.POSITIVE_INFINITY,
  'int8-fast': Number.POSITIVE_INFINITY,
};

const scaleBytesOf = (format: WeightFormat, columns: number): number =>
  hasScales(format) ? Math.ceil(columns / 8) * 8 * 4 : 0;

/** Room for the panels of a weight [rows, columns]. */
export function newPanels(heap: Heap, format: WeightFormat, rows: number, columns: number): Packed {
  const bytes = packedBytes(format, rows, columns);
  const scaleBytes = scaleBytesOf(format, columns);
  const address = heap.alloc(bytes);
  try {
    return { format, rows, columns, address, bytes, scales: scaleBytes > 0 ? heap.alloc(scaleBytes) : 0, scaleBytes };
  } catch (error) {
    heap.free(address, bytes);
    throw error;
  }
}

/**
 * Puts output channels, from channel `first` (a multiple of 8) on, into their panels, rounded to the format: to the nearest, ties to even; int8
 * symmetrically, the largest of a channel becomes ±127 (in int8-fast less where sums of its products would not fit 16 bits, see
 * assembly/pack.ts). All channels up to the last of the weight come in multiples of 8.
 */
export function packChannels(
  backend: KernelContext,
  packed: Packed,
  first: number,
  channels: Channels,
): PackFault | undefined {
  const { rows } = packed;
  const count = rows === 0 ? 0 : channels.data.length / rows;
  const strip = Math.max(8, Math.floor(STAGE / Math.max(1, rows)) & ~7);
  return backend.call('pack weight', () => {
    const size = Math.min(strip, count) * rows;
    const floats = backend.scratch((size + 8) * 4); // widening goes in eights
    const words = channels.source === 'f32' ? floats : backend.scratch(size * channels.data.BYTES_PER_ELEMENT);
    const spare = backend.scratch(rows * 32);
    for (let from = 0; from < count; from += strip) {
      const width = Math.min(strip, count - from);
      carry(backend, channels, words, rows, from, width);
      if (words !== floats) backend.kernels.widenStored(FORMATS[channels.source], words, floats, width * rows);
      const largest = backend.kernels.largest(floats, width * rows); // NaN counts as infinite
      if (largest === Number.POSITIVE_INFINITY) return 'non-finite';
      if (largest >= TOO_LARGE[packed.format]) return 'too-large';
      packFloats(backend, packed, first + from, floats, width, spare, channels);
    }
    return undefined;
  });
}

/** Channels `from` to `from + width` into our memory, without gaps. */
function carry(
  { heap }: KernelContext,
  { data, transposed }: Channels,
  to: number,
  rows: number,
  from: number,
  width: number,
): void {
  const size = data.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const part = (start: number, count: number) => bytes.subarray(start * size, (start + count) * size);
  if (transposed) {
    heap.u8.set(part(from * rows, width * rows), to);
    return;
  }
  const columns = data.length / rows;
  for (let row = 0; row < rows; row++) heap.u8.set(part(row * columns + from, width), to + row * width * size);
}

function packFloats(
  { kernels }: KernelContext,
  packed: Packed,
  first: number,
  floats: number,
  width: number,
  spare: number,
  { transposed, given = false }: Channels,
): void {
  const { format, rows } = packed;
  const to = packed.address + packedBytes(format, rows, first);
  const rowBytes = (transposed ? rows : width) * 4;
  const scales = packed.scales + first * 4;
  kernels.packStrip(FORMATS[format], floats, rowBytes, transposed, to, scales, given, rows, width, spare);
}

/** Numbers as a file stores them, with the names that safetensors has for their types. */
export interface StoredNumbers {
  readonly dtype: string;
  /** Float32Array for F32, the bits as Uint16Array for BF16 and F16, Int8Array for I8. */
  readonly data: Float32Array | Uint16Array | Int8Array;
  /** Of I8: what one of them is worth in each output channel of the whole weight. */
  readonly scales?: Float32Array | undefined;
}

/** Takes the numbers of one parameter as a file stores them, piece by piece and in order, straight into the backend's memory. */
export interface ParamSink {
  /** The types that it takes; all others must be made F32 first. */
  readonly dtypes: readonly string[];
  /**
   * Takes numbers from element `first` of the stored tensor on; of a linear weight whole rows, multiples of 8 of them up to its last.
   * Says where they cannot be taken. Their memory is the caller's again.
   */
  add(numbers: StoredNumbers, first: number): PackFault | 'int8-range' | undefined;
  /** The parameter; its values are undefined before all numbers are added. The caller disposes of it. */
  readonly tensor: Tensor;
}

/**
 * Begins a parameter that a file has as `shape`. `linear`: a weight [out, in], kept as panels in `format` and read as [in, out]; `embedding`: a
 * table whose rows are gathered, kept in `format` too, with a scale for each row in int8 (and in int8-fast, where it is kept as int8); `as-is`:
 * float32. Undefined for convolutions.
 * @throws BackendError (`memory-limit`).
 */
export function startParam(
  backend: KernelContext,
  shape: readonly number[],
  layout: string,
  format: WeightFormat,
): ParamSink | undefined {
  if (layout === 'linear') return startWeight(backend, shape as [number, number], format);
  const table = tableFormat(layout, format);
  if (table !== undefined) return startWeight(backend, shape as [number, number], table, true);
  return layout === 'conv2d' ? undefined : startNumbers(backend, shape);
}

/** What `startParam` allocates; for layouts that it leaves to others, float32 numbers. */
export function paramBytes(shape: readonly number[], layout: string, format: WeightFormat): number {
  const packed = layout === 'linear' ? format : tableFormat(layout, format);
  if (packed === undefined) return blockBytes(shape.reduce((a, b) => a * b, 1) * 4);
  const [outputs, inputs] = shape as [number, number];
  const scaleBytes = scaleBytesOf(packed, outputs);
  return blockBytes(packedBytes(packed, inputs, outputs)) + (scaleBytes > 0 ? blockBytes(scaleBytes) : 0);
}

/** How an embedding is packed, where it is: its rows are gathered and never multiplied, so what int8-fast gives up would be for nothing. */
function tableFormat(layout: string, format: WeightFormat): WeightFormat | undefined {
  if (layout !== 'embedding' || format === 'f32') return undefined;
  return format === 'int8-fast' ? 'int8' : format;
}

const SOURCES: Readonly<Record<string, WeightFormat>> = { F32: 'f32', BF16: 'bf16', F16: 'f16', I8: 'int8' };

function startWeight(
  backend: KernelContext,
  [outputs, inputs]: readonly [number, number],
  format: WeightFormat,
  table = false,
): ParamSink {
  const packed = { ...newPanels(backend.heap, format, inputs, outputs), table };
  const tensorShape = table ? [outputs, inputs] : [inputs, outputs];
  return {
    dtypes: Object.keys(SOURCES).filter((dtype) => dtype !== 'I8' || format === 'int8'),
    tensor: engine().makeTensorFromDataId(backend.adopt(packed), tensorShape, 'float32', backend),
    add({ dtype, data, scales }, first) {
      const [channel, count] = [first / inputs, data.length / inputs];
      if (data instanceof Int8Array && data.includes(-128)) return 'int8-range'; // files of int8 weights leave it out
      const own = scales?.subarray(channel, channel + count);
      if (own !== undefined) backend.view(packed.scales + channel * 4, count, 'float32').set(own);
      const channels = { data, source: SOURCES[dtype]!, transposed: true, given: own !== undefined };
      return packChannels(backend, packed, channel, channels);
    },
  };
}

function startNumbers(backend: KernelContext, shape: readonly number[]): ParamSink {
  const { dataId, address } = backend.call('startParam', () => backend.output(shape, 'float32'));
  return {
    dtypes: ['F32'],
    tensor: engine().makeTensorFromDataId(dataId, [...shape], 'float32', backend),
    add({ data }, first) {
      const at = address / 4 + first;
      backend.heap.f32.set(data, at);
      return backend.kernels.largest(at * 4, data.length) < Number.POSITIVE_INFINITY ? undefined : 'non-finite';
    },
  };
}

/** A weight matrix as a program has it. */
export interface WeightUpload {
  /** How it is kept in memory, and used. */
  readonly format: WeightFormat;
  /**
   * Row-major: Float32Array for f32 and int8-fast, the bits as Uint16Array for bf16 and f16, Int8Array for int8. A Float32Array is rounded to
   * the format where that is narrower (to nearest, ties to even; int8 and int8-fast symmetrically, one scale an output channel).
   */
  readonly data: Float32Array | Uint16Array | Int8Array;
  /** What an int8 number of each output channel is worth: [out]. Only with an Int8Array. */
  readonly scales?: Float32Array;
  /** [in, out]. */
  readonly shape: readonly [number, number];
  /** Is `data` [out, in], as PyTorch stores it? Default: [in, out]. */
  readonly transposed?: boolean;
}

const fault = (code: string, detail: string) => new BackendError({ path: 'simd: uploadWeight', code, detail });

const ARRAYS = {
  f32: Float32Array,
  bf16: Uint16Array,
  f16: Uint16Array,
  int8: Int8Array,
  'int8-fast': Float32Array,
} as const;

function check({ format, data, scales, shape }: WeightUpload): void {
  const [rows, columns] = shape;
  if (!(format in ARRAYS)) throw fault('unknown-format', `${format} is not one of ${Object.keys(ARRAYS).join(', ')}`);
  if (!(data instanceof Float32Array || data instanceof ARRAYS[format]))
    throw fault('wrong-type', `${format} wants a ${ARRAYS[format].name} or a Float32Array`);
  if (!shape.every((n) => Number.isInteger(n) && n >= 0) || data.length !== rows * columns)
    throw fault('wrong-size', `${data.length} numbers for [${rows}, ${columns}]`);
  const needed = format === 'int8' && data instanceof Int8Array;
  if (needed !== (scales !== undefined)) throw fault('wrong-scales', 'scales belong to int8 numbers, and only to them');
  if (scales !== undefined && scales.length !== columns) {
    throw fault('wrong-scales', `${scales.length} scales for ${columns} output channels`);
  }
  if (scales?.every(Number.isFinite) === false) throw fault('non-finite', 'scales must be finite');
}

const REASONS = {
  'non-finite': 'weights must be finite',
  'too-large': 'f16 weights must be below 128, bf16 ones below 3.39e38; upload them as f32',
};

/**
 * Uploads the weight of a linear layer in the given format, packed for `GitLinear`; to every other kernel, and when it is read,
 * it is a float32 [in, out] tensor with the values that the format represents. Needs the simd backend to be the current one (or to
 * be given).
 * @throws BackendError (`not-current`, `unknown-format`, `wrong-type`, `wrong-size`, `wrong-scales`, `non-finite`, `too-large`, `memory-limit`).
 */
export function uploadWeight(upload: WeightUpload, backend: unknown = engine().backend): Tensor2D {
  if (!(backend instanceof KernelContext)) throw fault('not-current', 'the current backend is not simd');
  check(upload);
  const { format, data, scales, shape, transposed = false } = upload;
  const packed = newPanels(backend.heap, format, ...shape);
  const weight = engine().makeTensorFromDataId(backend.adopt(packed), [...shape], 'float32', backend) as Tensor2D;
  try {
    if (scales !== undefined) backend.view(packed.scales, scales.length, 'float32').set(scales);
    const source = data instanceof Float32Array ? 'f32' : format;
    const found = packChannels(backend, packed, 0, {
      data,
      source,
      transposed: transposed,
      given: scales !== undefined,
    });
    if (found !== undefined) throw fault(found, REASONS[found]);
    return weight;
  } catch (error) {
    weight.dispose();
    throw error;
  }
}
