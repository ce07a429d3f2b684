import { type BackendValues, DataStorage, type DataType, engine, KernelBackend, util } from '@tensorflow/tfjs-core';
import { FAST_K_BLOCK, Format } from './abi.js';
import { BackendError } from './errors.js';
import type { Heap } from './heap.js';
import type { KernelExports } from './platform.js';
import type { ThreadPool } from './thread-pool.js';

/** How weights are kept in memory, and what the kernels call it. */
export const FORMATS = {
  f32: Format.f32,
  bf16: Format.bf16,
  f16: Format.f16,
  int8: Format.int8,
  'int8-fast': Format.int8Fast,
} as const;
export type WeightFormat = keyof typeof FORMATS;

export type Numbers = Float32Array | Int32Array | Uint8Array;

/**
 * Weights of a linear layer in panels (assembly/pack.ts); `scales`, one a column, belong to int8 and int8-fast. A `table` is the same for a tensor
 * [columns, rows] whose rows are gathered: each of them is a column here.
 */
export interface Packed {
  readonly format: WeightFormat;
  readonly table?: boolean;
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
  /** Someone has noted where it is (`notes`). */
  noted?: boolean;
}

export const bytesOf = (dtype: DataType): number => (dtype === 'bool' ? 1 : 4);

/** Rows that a panel holds together, and bytes of a number in it. */
const PANELS: Readonly<Record<WeightFormat, readonly [together: number, bytes: number]>> = {
  f32: [1, 4],
  bf16: [1, 2],
  f16: [1, 2],
  int8: [2, 1],
  'int8-fast': [16, 1],
};

/** Does a format have a scale for each column? */
export const hasScales = (format: WeightFormat): boolean => PANELS[format][1] === 1;

/** Bytes of packed weights: whole panels of 8 columns. int8-fast has the sums of its blocks with them, 4 bytes each. */
export function packedBytes(format: WeightFormat, rows: number, columns: number): number {
  const [together, bytes] = PANELS[format];
  const sums = format === 'int8-fast' ? Math.ceil(rows / FAST_K_BLOCK) * 4 : 0;
  return Math.ceil(columns / 8) * 8 * (Math.ceil(rows / together) * together * bytes + sums);
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

/** The float32 numbers of the tensor at `address`, from packed weights. */
export function unpackTo(kernels: KernelExports, packed: Packed, address: number): void {
  const { format, rows, columns, scales, table } = packed;
  if (!table) {
    kernels.unpackWeight(FORMATS[format], packed.address, scales, address, columns, rows);
    return;
  }
  for (let row = 0; row < columns; row++) unpackRow(kernels, packed, row, address + row * rows * 4);
}

/** One row of a table as float32 at `address`. */
export function unpackRow(kernels: KernelExports, packed: Packed, row: number, address: number): void {
  kernels.unpackColumn(FORMATS[packed.format], packed.address, packed.scales, address, row, packed.rows);
}

/** float32 [rows, columns] at `from`, packed into a block of its own. */
export function packFloats(kernels: KernelExports, heap: Heap, from: number, rows: number, columns: number): Packed {
  const bytes = packedBytes('f32', rows, columns);
  const address = heap.alloc(bytes);
  kernels.packPanels(from, columns * 4, address, rows, columns, rows);
  return { format: 'f32', rows, columns, bytes, address, scales: 0, scaleBytes: 0 };
}

type DataId = object;

/** What tfjs asks of a backend: data in, data out, counted references. The numbers are in one WebAssembly memory. */
export class TensorMemory extends KernelBackend {
  protected readonly storage: DataStorage<Stored>;
  private foundDots: number | undefined;
  private known = new WeakMap<object, unknown>();

  constructor(
    readonly kernels: KernelExports,
    readonly heap: Heap,
    readonly pool: ThreadPool,
  ) {
    super();
    this.storage = new DataStorage(this, engine());
  }

  /** How products of int8-fast are computed here (`Dots`): found out when it is first asked for. */
  get dots(): number {
    this.foundDots ??= this.kernels.bestDots();
    return this.foundDots;
  }

  /** What kernels have found out about objects of their callers, addresses included: all of it is forgotten when a noted tensor is freed (`note`). */
  get notes(): WeakMap<object, unknown> {
    return this.known;
  }

  /** Frees what is stored; whoever noted where it was has to look again. */
  protected free(stored: Stored): void {
    if (stored.noted) this.known = new WeakMap();
    freeStored(this.heap, stored);
  }

  /** A view of `size` numbers, valid until something is allocated. */
  view(address: number, size: number, dtype: DataType): Numbers {
    const { f32, i32, u8 } = this.heap;
    if (dtype === 'float32') return f32.subarray(address / 4, address / 4 + size);
    return dtype === 'int32' ? i32.subarray(address / 4, address / 4 + size) : u8.subarray(address, address + size);
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(dataId: DataId, values: BackendValues, shape: number[], dtype: DataType, refCount: number): void {
    const size = util.sizeFromShape(shape);
    if (dtype === 'string') {
      this.storage.set(dataId, { dtype, size, refCount, strings: encodeStrings(values) });
      return;
    }
    // tfjs lets ragged lists through, with more or fewer values than the shape has. All are kept, and where some are missing those there
    // are begin again, as most kernels of its cpu backend have it.
    const given = (values as ArrayLike<number>).length;
    const stored = newNumbers(this.heap, 'write', dtype, Math.max(size, given));
    this.storage.set(dataId, { ...stored, size: given, refCount });
    const numbers = this.view(stored.block.address, stored.size, dtype);
    numbers.set(values as ArrayLike<number>);
    for (let i = given; i < size; i++) numbers[i] = given > 0 ? numbers[i % given]! : 0;
  }

  override readSync(dataId: DataId): BackendValues {
    const { dtype, size, block, packed, strings } = this.storage.get(dataId);
    if (strings !== undefined) return strings;
    // `slice` copies, also out of shared memory: nobody outside may hold a view of ours.
    if (block !== undefined) return this.view(block.address, size, dtype).slice() as BackendValues;
    const address = this.heap.alloc(size * 4);
    try {
      unpackTo(this.kernels, packed!, address);
      return this.view(address, size, dtype).slice() as BackendValues;
    } finally {
      this.heap.free(address, size * 4); // also where script has no room for so many
    }
  }

  override async read(dataId: DataId): Promise<BackendValues> {
    return this.readSync(dataId);
  }

  override refCount(dataId: DataId): number {
    return this.storage.has(dataId) ? this.storage.get(dataId).refCount : 0;
  }

  override incRef(dataId: DataId): void {
    this.storage.get(dataId).refCount++;
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.storage.has(dataId)) return true;
    const stored = this.storage.get(dataId);
    stored.refCount--;
    if (!force && stored.refCount > 0) return false;
    this.free(stored);
    this.storage.delete(dataId);
    return true;
  }

  override numDataIds(): number {
    return this.storage.numDataIds();
  }

  /** Also says how many bytes of our memory are in use, and how far it has grown. */
  override memory(): { unreliable: boolean; simdBytesInUse: number; simdBytesGrown: number } {
    const { used, size } = this.heap.stats();
    return { unreliable: false, simdBytesInUse: used, simdBytesGrown: size };
  }

  override timerAvailable(): boolean {
    return true;
  }

  override async time(f: () => void): Promise<{ kernelMs: number }> {
    const start = util.now();
    f();
    return { kernelMs: util.now() - start };
  }

  override floatPrecision(): 16 | 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  override dispose(): void {
    this.pool.stop();
  }
}
