import { type BackendValues, DataStorage, type DataType, engine, KernelBackend, util } from '@tensorflow/tfjs-core';
import type { KernelExports } from './binary.js';
import type { Heap } from './heap.js';
import { encodeStrings, freeStored, type Numbers, newNumbers, type Stored, unpackTo } from './stored.js';
import type { ThreadPool } from './thread-pool.js';

type DataId = object;

/** What tfjs asks of a backend: data in, data out, counted references. The numbers lie in one WebAssembly memory. */
export class TensorMemory extends KernelBackend {
  protected readonly storage: DataStorage<Stored>;

  constructor(
    readonly kernels: KernelExports,
    readonly heap: Heap,
    readonly pool: ThreadPool,
  ) {
    super();
    this.storage = new DataStorage(this, engine());
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
    const stored = newNumbers(this.heap, 'write', dtype, size);
    this.storage.set(dataId, { ...stored, refCount });
    if (size > 0) this.view(stored.block.address, size, dtype).set(values as ArrayLike<number>);
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
    freeStored(this.heap, stored);
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
