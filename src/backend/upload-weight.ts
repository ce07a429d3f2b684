import { engine, type Tensor2D } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import { FORMAT, type WeightFormat } from './memory-map.js';
import { quantise, toBf16, toF16 } from './narrow.js';
import { SimdBackend } from './simd-backend.js';
import { type Packed, packedBytes } from './stored.js';

/** A weight matrix as it comes from a file. */
export interface WeightUpload {
  /** How it is kept in memory, and used. */
  readonly format: WeightFormat;
  /**
   * Row-major: Float32Array for f32, the bits as Uint16Array for bf16 and f16, Int8Array for int8. A Float32Array is rounded to
   * the format where that is narrower (to nearest, ties to even; int8 symmetrically, one scale an output channel).
   */
  readonly data: Float32Array | Uint16Array | Int8Array;
  /** What an int8 number of each output channel stands for: [out]. Only with an Int8Array. */
  readonly scales?: Float32Array;
  /** [in, out]. */
  readonly shape: readonly [number, number];
  /** Does `data` lie as [out, in], as PyTorch stores it? Default: [in, out]. */
  readonly transposed?: boolean;
}

/** Bytes that are staged at once on their way into the panels. */
const STAGE = 4 * 1024 * 1024;

const fault = (rule: string, detail: string) => new BackendError({ place: 'simd: uploadWeight', rule, detail });

interface Words {
  readonly data: Float32Array | Uint16Array | Int8Array;
  readonly scales: Float32Array | undefined;
}

/** The numbers in the element type of their format. */
function wordsOf({ format, data, scales, shape, transposed = false }: WeightUpload): Words {
  const expected = { f32: Float32Array, bf16: Uint16Array, f16: Uint16Array, int8: Int8Array }[format];
  if (data instanceof expected) return { data, scales };
  if (!(data instanceof Float32Array))
    throw fault('wrong-type', `${format} wants a ${expected.name} or a Float32Array`);
  if (format === 'int8') {
    const { words, scales: own } = quantise(data, shape, transposed);
    return { data: words, scales: own };
  }
  return { data: format === 'bf16' ? toBf16(data) : toF16(data), scales };
}

function check({ format, data, scales, shape }: WeightUpload): void {
  const [rows, columns] = shape;
  if (!(format in FORMAT)) throw fault('unknown-format', `${format} is not one of ${Object.keys(FORMAT).join(', ')}`);
  if (data.length !== rows * columns) throw fault('wrong-size', `${data.length} numbers for [${rows}, ${columns}]`);
  const needed = format === 'int8' && data instanceof Int8Array;
  if (needed !== (scales !== undefined)) throw fault('wrong-scales', 'scales belong to int8 numbers, and only to them');
  if (scales !== undefined && scales.length !== columns) {
    throw fault('wrong-scales', `${scales.length} scales for ${columns} output channels`);
  }
}

/** The first exponent of f16 numbers that the kernels' own encoding has no room for: 128 and more, infinities, NaN. */
const F16_TOO_LARGE = 22;
const exponentOf = (word: number) => (word >> 10) & 31;

function place(backend: SimdBackend, upload: WeightUpload): Packed {
  const { shape, transposed = false } = upload;
  const [rows, columns] = shape;
  const at = transposed ? (i: number, j: number) => j * rows + i : (i: number, j: number) => i * columns + j;
  const { data, scales } = wordsOf(upload);
  const { format } = upload;
  if (format === 'f16' && (data as Uint16Array).some((word) => exponentOf(word) >= F16_TOO_LARGE)) {
    throw fault('too-large', 'f16 weights must be finite and below 128; upload them as f32');
  }
  const bytes = packedBytes(format, rows, columns);
  const address = backend.heap.alloc(bytes);
  const scaleBytes = scales === undefined ? 0 : Math.ceil(columns / 8) * 8 * 4;
  const scaleAddress = scaleBytes > 0 ? backend.heap.alloc(scaleBytes) : 0;
  if (scales !== undefined) backend.view(scaleAddress, columns, 'float32').set(scales);
  // An odd last row of int8 has no partner: its place must be zero.
  if (format === 'int8' && rows % 2 === 1) backend.heap.u8.fill(0, address, address + bytes);
  stage(backend, data, at, shape, (from, row, count) => {
    backend.kernels.packWeight(FORMAT[format], from, address, row, count, columns, rows);
  });
  return { format, rows, columns, address, bytes, scales: scaleAddress, scaleBytes };
}

/** Carries row-major slabs of the matrix into our memory, and hands each to `pack`. */
function stage(
  backend: SimdBackend,
  data: Float32Array | Uint16Array | Int8Array,
  at: (i: number, j: number) => number,
  [rows, columns]: readonly [number, number],
  pack: (from: number, row: number, count: number) => void,
): void {
  const perSlab = Math.max(1, Math.floor(STAGE / Math.max(1, columns * data.BYTES_PER_ELEMENT)));
  const straight = at(0, 1) === 1 || columns === 1;
  const slab = new (data.constructor as Float32ArrayConstructor)(straight ? 0 : Math.min(perSlab, rows) * columns);
  backend.call('uploadWeight', () => {
    const from = backend.scratch(Math.min(perSlab, rows) * columns * data.BYTES_PER_ELEMENT);
    const target = new (data.constructor as Float32ArrayConstructor)(
      ...([backend.heap.u8.buffer, from, Math.min(perSlab, rows) * columns] as unknown as [
        ArrayBuffer,
        number,
        number,
      ]),
    );
    for (let row = 0; row < rows; row += perSlab) {
      const count = Math.min(perSlab, rows - row);
      if (straight) target.set(data.subarray(row * columns, (row + count) * columns));
      else {
        for (let i = 0; i < count; i++) {
          for (let j = 0; j < columns; j++) slab[i * columns + j] = data[at(row + i, j)]!;
        }
        target.set(slab);
      }
      pack(from, row, count);
    }
  });
}

/**
 * Uploads the weight of a linear layer in the given format, packed for `GitLinear`; to every other kernel, and when it is read,
 * it is a float32 [in, out] tensor with the values that the format stands for. Needs the simd backend to be the current one (or to
 * be given).
 * @throws BackendError (`not-current`, `unknown-format`, `wrong-type`, `wrong-size`, `wrong-scales`, `too-large`, `memory-limit`).
 */
export function uploadWeight(upload: WeightUpload, backend: unknown = engine().backend): Tensor2D {
  if (!(backend instanceof SimdBackend)) throw fault('not-current', 'the current backend is not simd');
  check(upload);
  const dataId = backend.adopt(place(backend, upload));
  return engine().makeTensorFromDataId(dataId, [...upload.shape], 'float32', backend) as Tensor2D;
}
