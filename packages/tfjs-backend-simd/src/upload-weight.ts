import { engine, type Tensor2D } from '@tensorflow/tfjs-core';
import { BackendError } from './errors.js';
import { FORMAT, type WeightFormat } from './memory-map.js';
import { SimdBackend } from './simd-backend.js';
import { newPanels, packChannels } from './weight-panels.js';

/** A weight matrix as a program has it. */
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

const fault = (code: string, detail: string) => new BackendError({ path: 'simd: uploadWeight', code, detail });

const ARRAYS = { f32: Float32Array, bf16: Uint16Array, f16: Uint16Array, int8: Int8Array } as const;

function check({ format, data, scales, shape }: WeightUpload): void {
  const [rows, columns] = shape;
  if (!(format in FORMAT)) throw fault('unknown-format', `${format} is not one of ${Object.keys(FORMAT).join(', ')}`);
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
 * it is a float32 [in, out] tensor with the values that the format stands for. Needs the simd backend to be the current one (or to
 * be given).
 * @throws BackendError (`not-current`, `unknown-format`, `wrong-type`, `wrong-size`, `wrong-scales`, `non-finite`, `too-large`, `memory-limit`).
 */
export function uploadWeight(upload: WeightUpload, backend: unknown = engine().backend): Tensor2D {
  if (!(backend instanceof SimdBackend)) throw fault('not-current', 'the current backend is not simd');
  check(upload);
  const { format, data, scales, shape, transposed = false } = upload;
  const packed = newPanels(backend.heap, format, ...shape);
  const weight = engine().makeTensorFromDataId(backend.adopt(packed), [...shape], 'float32', backend) as Tensor2D;
  try {
    if (scales !== undefined) backend.view(packed.scales, scales.length, 'float32').set(scales);
    const source = data instanceof Float32Array ? 'f32' : format;
    const found = packChannels(backend, packed, 0, { data, source, turned: transposed, given: scales !== undefined });
    if (found !== undefined) throw fault(found, REASONS[found]);
    return weight;
  } catch (error) {
    weight.dispose();
    throw error;
  }
}
