import type { TensorInfo } from '@tensorflow/tfjs-core';
import { COPY_DIMS, COPY_SOURCE, COPY_TARGET, JOB } from '../memory-map.js';
import type { SimdBackend } from '../simd-backend.js';
import { type Kernel, sizeOf } from './table.js';

/** Elements of any shape, moved from one stride pattern to another; addresses in bytes, strides in elements. */
export interface Copy {
  readonly from: number;
  readonly to: number;
  readonly elementBytes: number;
  readonly dims: readonly number[];
  readonly fromStrides: readonly number[];
  readonly toStrides: readonly number[];
}

interface Dimension {
  readonly size: number;
  readonly from: number;
  readonly to: number;
}

/** Drops dimensions of one element and joins neighbours that run through both sides without a gap. */
function collapse({ dims, fromStrides, toStrides }: Copy): Dimension[] {
  const result: Dimension[] = [];
  dims.forEach((size, d) => {
    if (size === 1) return;
    const [from, to] = [fromStrides[d]!, toStrides[d]!];
    const outer = result.at(-1);
    if (outer !== undefined && outer.from === from * size && outer.to === to * size) {
      result[result.length - 1] = { size: outer.size * size, from, to };
    } else result.push({ size, from, to });
  });
  return result.length > 0 ? result : [{ size: 1, from: 1, to: 1 }];
}

/** Copies tensors of any shape. */
export function copyStrided(backend: SimdBackend, copy: Copy): void {
  if (sizeOf(copy.dims) > 0) run(backend, copy.from, copy.to, copy.elementBytes, collapse(copy));
}

/** One copy job, or one for each index of an outer dimension that its parameters have no room for. */
function run(backend: SimdBackend, from: number, to: number, bytes: number, dims: readonly Dimension[]): void {
  if (dims.length > COPY_SOURCE - COPY_DIMS) {
    const [outer, ...inner] = dims as [Dimension, ...Dimension[]];
    for (let i = 0; i < outer.size; i++) {
      run(backend, from + i * outer.from * bytes, to + i * outer.to * bytes, bytes, inner);
    }
    return;
  }
  const parameters = new Array<number>(COPY_TARGET + dims.length).fill(0);
  [parameters[0], parameters[1], parameters[2], parameters[3]] = [from, to, bytes, dims.length];
  dims.forEach((dim, d) => {
    parameters[COPY_DIMS + d] = dim.size;
    parameters[COPY_SOURCE + d] = dim.from * bytes;
    parameters[COPY_TARGET + d] = dim.to * bytes;
  });
  backend.pool.run(JOB.copy, dims.length > 2 ? dims[0]!.size : 1, parameters);
}

/**
 * Lets a kernel that only moves elements work on strings too: it moves their numbers in the list of all strings, and these then
 * say which string goes where.
 */
export function movingStrings(kernel: Kernel): Kernel {
  return (backend, inputs, attributes) => {
    const all: Uint8Array[] = [];
    const indices: TensorInfo[] = [];
    const replaced = Object.entries(inputs).map(([name, tensor]): [string, TensorInfo] => {
      const strings = backend.stringsOf(tensor);
      if (strings === undefined) return [name, tensor];
      const first = all.length;
      all.push(...strings);
      const numbers = backend.output(tensor.shape, 'int32');
      backend.valuesOf(numbers).set(strings.map((_, i) => first + i));
      indices.push(numbers);
      return [name, numbers];
    });
    if (indices.length === 0) return kernel(backend, inputs, attributes);
    const moved = kernel(backend, Object.fromEntries(replaced), attributes);
    const named = [moved].flat().map((tensor) => {
      const strings = Array.from(backend.valuesOf(tensor), (i) => all[i]!);
      backend.release(tensor);
      return backend.stringOutput(tensor.shape, strings);
    });
    for (const tensor of indices) backend.release(tensor);
    return Array.isArray(moved) ? named : named[0]!;
  };
}
