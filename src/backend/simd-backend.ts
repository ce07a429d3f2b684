import {
  type BackendValues,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import type { KernelExports } from './binary.js';
import type { Heap } from './heap.js';
import { FORMAT, type WeightFormat } from './memory-map.js';
import type { ThreadPool } from './thread-pool.js';

type DataId = object;
export type NumericType = 'float32' | 'int32' | 'bool';
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
interface Stored {
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

/** An output under construction: what tfjs wants to know, and where it lies. */
export interface Output extends TensorInfo {
  readonly address: number;
}

export const bytesOf = (dtype: DataType): number => (dtype === 'bool' ? 1 : 4);

/** Bytes of packed weights: whole panels of 8 columns; int8 in pairs of rows. */
export function packedBytes(format: WeightFormat, rows: number, columns: number): number {
  const cells = Math.ceil(columns / 8) * 8 * (format === 'int8' ? rows + (rows % 2) : rows);
  return cells * (format === 'f32' ? 4 : format === 'int8' ? 1 : 2);
}

const unsupported = (place: string, dtype: string) =>
  new BackendError({
    place: `simd: ${place}`,
    rule: 'unsupported-dtype',
    detail: `${dtype} is not supported by this backend`,
    unsupported: true,
  });

/** The tfjs backend: tensors live in one WebAssembly memory, kernels in registered functions (kernels/). */
export class SimdBackend extends KernelBackend {
  private readonly storage: DataStorage<Stored>;
  /** Blocks to be given back when the kernel that is running ends. */
  private readonly borrowed: { address: number; bytes: number }[] = [];
  /** Where packed weights were unpacked for the kernel that is running. */
  private readonly unpacked = new Map<DataId, number>();
  private created: TensorInfo[] = [];
  private running = '';

  constructor(
    readonly kernels: KernelExports,
    readonly heap: Heap,
    readonly pool: ThreadPool,
  ) {
    super();
    this.storage = new DataStorage(this, engine());
  }

  // ---- what kernels use

  /** Runs a kernel: scratch memory is given back at its end, and outputs too if it throws. */
  call<T>(name: string, kernel: () => T): T {
    const [mark, created, outer] = [this.borrowed.length, this.created, this.running];
    this.created = [];
    this.running = name;
    try {
      return kernel();
    } catch (error) {
      for (const { dataId } of this.created) if (this.storage.has(dataId)) this.disposeData(dataId);
      throw error;
    } finally {
      if (mark === 0) this.unpacked.clear();
      while (this.borrowed.length > mark) {
        const { address, bytes } = this.borrowed.pop()!;
        this.heap.free(address, bytes);
      }
      this.created = created;
      this.running = outer;
    }
  }

  /** A new tensor with undefined contents. */
  output(shape: readonly number[], dtype: DataType): Output {
    if (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') throw unsupported(this.running, dtype);
    const size = util.sizeFromShape(shape as number[]);
    const bytes = size * bytesOf(dtype);
    const block = { address: this.heap.alloc(bytes), bytes };
    const dataId = {};
    this.storage.set(dataId, { dtype, size, refCount: 1, block });
    const output = { dataId, shape: [...shape], dtype, address: block.address };
    this.created.push(output);
    return output;
  }

  /** Memory until the end of the running kernel. */
  scratch(bytes: number): number {
    const address = this.heap.alloc(bytes);
    this.borrowed.push({ address, bytes });
    return address;
  }

  /** Where the numbers of a tensor lie, in row-major order; packed weights are unpacked for the running kernel. */
  addressOf(tensor: TensorInfo): number {
    const stored = this.storage.get(tensor.dataId);
    if (stored.block !== undefined) return stored.block.address;
    if (stored.packed === undefined) throw unsupported(this.running, stored.dtype);
    const known = this.unpacked.get(tensor.dataId);
    if (known !== undefined) return known;
    const address = this.scratch(stored.size * 4);
    this.unpackTo(stored.packed, address);
    this.unpacked.set(tensor.dataId, address);
    return address;
  }

  /** The packed weights of a tensor, if it is one that was packed. */
  packedOf(tensor: TensorInfo): Packed | undefined {
    return this.storage.get(tensor.dataId).packed;
  }

  /** The strings of a tensor, UTF-8 encoded, or undefined where it holds numbers. */
  stringsOf(tensor: TensorInfo): Uint8Array[] | undefined {
    return this.storage.get(tensor.dataId).strings;
  }

  /** A view of `size` numbers, valid until something is allocated. */
  view(address: number, size: number, dtype: DataType): Numbers {
    const { f32, i32, u8 } = this.heap;
    if (dtype === 'float32') return f32.subarray(address / 4, address / 4 + size);
    return dtype === 'int32' ? i32.subarray(address / 4, address / 4 + size) : u8.subarray(address, address + size);
  }

  /** Views of several tensors' numbers. */
  viewsOf<T extends readonly TensorInfo[]>(...tensors: T): { [K in keyof T]: Numbers } {
    const addresses = tensors.map((tensor) => this.addressOf(tensor)); // first all that may allocate, then the views
    const views = tensors.map(({ shape, dtype }, i) => this.view(addresses[i]!, util.sizeFromShape(shape), dtype));
    return views as { [K in keyof T]: Numbers };
  }

  /** A view of a tensor's numbers. */
  valuesOf(tensor: TensorInfo): Numbers {
    return this.viewsOf(tensor)[0];
  }

  /** The same data under another shape. */
  alias(tensor: TensorInfo, shape: readonly number[]): TensorInfo {
    this.incRef(tensor.dataId);
    const info = { dataId: tensor.dataId, shape: [...shape], dtype: tensor.dtype };
    this.created.push(info);
    return info;
  }

  /** Gives up an intermediate tensor of the running kernel. */
  release(tensor: TensorInfo): void {
    const at = this.created.indexOf(tensor);
    if (at >= 0) this.created.splice(at, 1);
    this.disposeData(tensor.dataId);
  }

  /** Replaces the numbers of a [rows, columns] tensor by their packed form; all tensors that share them see the same values as before. */
  pack(tensor: TensorInfo, rows: number, columns: number): Packed {
    const stored = this.storage.get(tensor.dataId);
    if (stored.packed?.rows === rows) return stored.packed;
    const from = this.addressOf(tensor);
    const bytes = packedBytes('f32', rows, columns);
    const packed: Packed = {
      ...{ format: 'f32', rows, columns, bytes },
      ...{ address: this.heap.alloc(bytes), scales: 0, scaleBytes: 0 },
    };
    this.kernels.packWeight(FORMAT.f32, from, packed.address, 0, rows, columns, rows);
    this.freeStored(stored);
    this.storage.set(tensor.dataId, { dtype: stored.dtype, size: stored.size, refCount: stored.refCount, packed });
    return packed;
  }

  /** Takes packed weights into the storage. The block belongs to the backend from here on. */
  adopt(packed: Packed): DataId {
    const dataId = {};
    this.storage.set(dataId, { dtype: 'float32', size: packed.rows * packed.columns, refCount: 1, packed });
    return dataId;
  }

  /** A tensor of strings. */
  stringOutput(shape: readonly number[], strings: Uint8Array[]): TensorInfo {
    const dataId = {};
    this.storage.set(dataId, { dtype: 'string', size: strings.length, refCount: 1, strings });
    const info: TensorInfo = { dataId, shape: [...shape], dtype: 'string' };
    this.created.push(info);
    return info;
  }

  private freeStored({ block, packed }: Stored): void {
    if (block !== undefined) this.heap.free(block.address, block.bytes);
    if (packed === undefined) return;
    this.heap.free(packed.address, packed.bytes);
    if (packed.scaleBytes > 0) this.heap.free(packed.scales, packed.scaleBytes);
  }

  private unpackTo(packed: Packed, address: number): void {
    const { format, rows, columns, scales } = packed;
    this.kernels.unpackWeight(FORMAT[format], packed.address, scales, address, columns, rows);
  }

  // ---- what tfjs asks for

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(dataId: DataId, values: BackendValues, shape: number[], dtype: DataType, refCount: number): void {
    const size = util.sizeFromShape(shape);
    if (dtype === 'string') {
      const strings = Array.from(values as ArrayLike<string | Uint8Array>, (value) =>
        typeof value === 'string' ? util.encodeString(value) : value,
      );
      this.storage.set(dataId, { dtype, size, refCount, strings });
      return;
    }
    if (dtype === 'complex64') throw unsupported('write', dtype);
    const bytes = size * bytesOf(dtype);
    const block = { address: this.heap.alloc(bytes), bytes };
    this.storage.set(dataId, { dtype, size, refCount, block });
    if (size > 0) this.view(block.address, size, dtype).set(values as ArrayLike<number>);
  }

  override readSync(dataId: DataId): BackendValues {
    const { dtype, size, block, packed, strings } = this.storage.get(dataId);
    if (strings !== undefined) return strings;
    // `slice` copies, also out of shared memory: nobody outside may hold a view of ours.
    if (block !== undefined) return this.view(block.address, size, dtype).slice() as BackendValues;
    return this.call('read', () => {
      const address = this.scratch(size * 4);
      this.unpackTo(packed!, address);
      return this.view(address, size, dtype).slice() as BackendValues;
    });
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
    this.freeStored(stored);
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
