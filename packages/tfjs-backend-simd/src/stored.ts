import type { BackendValues, DataType } from '@tensorflow/tfjs-core';
import { util } from '@tensorflow/tfjs-core';
import type { KernelExports } from './binary.js';
import { BackendError } from './errors.js';
import type { Heap } from './heap.js';
import { FORMAT, type WeightFormat } from './memory-map.js';

export type Numbers = Float32Array | Int32Array | Uint8Array;

/** Weights of a linear layer in panels (assembly/pack.ts); `scales`, one a column, belong to int8. */
export interface Packed {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
  readonly address: number;
  readonly bytes: number;
  readonly scales: number;
  readonly scaleBytes: number;
}

/** The data behind one dataId. */
export interface Stored {
  readonly dtype: DataType;
  readonly size: number;
  refCount: number;
  /** Plain numbers in our memory, … */
  readonly block?: { readonly address: number; readonly bytes: number };
  /** … packed weights in our memory, … */
  readonly packed?: Packed;
  /** … or strings, which stay in JavaScript. */
  readonly strings?: Uint8Array[];
}

export const bytesOf = (dtype: DataType): number => (dtype === 'bool' ? 1 : 4);

/** Bytes of packed weights: whole panels of 8 columns; int8 in pairs of rows. */
export function packedBytes(format: WeightFormat, rows: number, columns: number): number {
  const cells = Math.ceil(columns / 8) * 8 * (format === 'int8' ? rows + (rows % 2) : rows);
  return cells * (format === 'f32' ? 4 : format === 'int8' ? 1 : 2);
}

/** The error for a type that `path` cannot work with. */
export const unsupportedType = (path: string, dtype: string) =>
  new BackendError({
    path: `simd: ${path}`,
    code: 'unsupported-dtype',
    detail: `${dtype} is not supported by this backend`,
    unsupported: true,
  });

/** A new block for `size` numbers of undefined value. @throws BackendError for types that are no numbers. */
export function newNumbers(heap: Heap, path: string, dtype: DataType, size: number) {
  if (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') throw unsupportedType(path, dtype);
  const bytes = size * bytesOf(dtype);
  return { dtype, size, refCount: 1, block: { address: heap.alloc(bytes), bytes } };
}

/** Strings as tfjs keeps them: in UTF-8. What a buffer never set stays a hole. */
export const encodeStrings = (values: BackendValues): Uint8Array[] =>
  (values as (string | Uint8Array)[]).map((value) => (typeof value === 'string' ? util.encodeString(value) : value));

export function freeStored(heap: Heap, { block, packed }: Stored): void {
  if (block !== undefined) heap.free(block.address, block.bytes);
  if (packed === undefined) return;
  heap.free(packed.address, packed.bytes);
  if (packed.scaleBytes > 0) heap.free(packed.scales, packed.scaleBytes);
}

/** float32 [rows, columns] at `address`, from packed weights. */
export function unpackTo(kernels: KernelExports, packed: Packed, address: number): void {
  const { format, rows, columns, scales } = packed;
  kernels.unpackWeight(FORMAT[format], packed.address, scales, address, columns, rows);
}

/** float32 [rows, columns] at `from`, packed into a block of its own. */
export function packFloats(kernels: KernelExports, heap: Heap, from: number, rows: number, columns: number): Packed {
  const bytes = packedBytes('f32', rows, columns);
  const address = heap.alloc(bytes);
  kernels.packPanels(from, columns * 4, address, rows, columns, rows);
  return { format: 'f32', rows, columns, bytes, address, scales: 0, scaleBytes: 0 };
}
