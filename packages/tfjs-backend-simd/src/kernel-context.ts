import { type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { BackendError } from './errors.js';
import {
  bytesOf,
  type Numbers,
  newNumbers,
  type Packed,
  packedBytes,
  packFloats,
  TensorMemory,
  unpackRow,
  unpackTo,
  unsupportedType,
} from './tensor-memory.js';

/** An output under construction: what tfjs wants to know, and where it is. */
export interface Output extends TensorInfo {
  readonly address: number;
}

/** Scratch memory of one part of a kernel that may be kept while jobs wait; more is given back, after they have run. */
const MOST_KEPT_BYTES = 2 ** 22;

const impossibleShape = (kernel: string, shape: readonly number[]) =>
  new BackendError({ path: `simd: ${kernel}`, code: 'shape', detail: `there is no tensor [${shape}]` });

/** What kernels (kernels/) work with: outputs, scratch memory, and where the numbers of a tensor are. */
export class KernelContext extends TensorMemory {
  /** Blocks to be given back when the kernel that is running ends; `of` is the dataId of weights that were unpacked there. */
  private readonly borrowed: { address: number; bytes: number; of: object | undefined }[] = [];
  /** Where packed weights were unpacked for the kernel that is running. */
  private readonly unpacked = new Map<object, number>();
  private created: TensorInfo[] = [];
  private running = '';

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
      this.giveBack(mark);
      this.created = created;
      this.running = outer;
    }
  }

  /** Runs a part of a kernel that takes place many times: scratch memory is given back at its end, unless jobs that use it wait. */
  part(work: () => void): void {
    const mark = this.borrowed.length;
    try {
      work();
      if (this.pool.waits && this.borrowedFrom(mark) > MOST_KEPT_BYTES) this.pool.settle();
    } finally {
      if (!this.pool.waits) this.giveBack(mark);
    }
  }

  private borrowedFrom(mark: number): number {
    let sum = 0;
    for (let i = mark; i < this.borrowed.length; i++) sum += this.borrowed[i]!.bytes;
    return sum;
  }

  private giveBack(mark: number): void {
    while (this.borrowed.length > mark) {
      const { address, bytes, of } = this.borrowed.pop()!;
      this.heap.free(address, bytes);
      if (of !== undefined) this.unpacked.delete(of);
    }
  }

  /** A new tensor with undefined contents. @throws BackendError (`unsupported-dtype`) unless it holds numbers; `shape`. */
  output(shape: readonly number[], dtype: DataType): Output {
    if (!shape.every((n) => n >= 0)) throw impossibleShape(this.running, shape); // what tfjs makes of a window larger than its image
    const stored = newNumbers(this.heap, this.running, dtype, util.sizeFromShape(shape as number[]));
    const output = { dataId: {}, shape: [...shape], dtype, address: stored.block.address };
    this.storage.set(output.dataId, stored);
    this.created.push(output);
    return output;
  }

  /** A new float32 [rows, columns] tensor in panels, as `pack` makes them, with undefined contents. */
  packedOutput(rows: number, columns: number): Output {
    const bytes = packedBytes('f32', rows, columns);
    const packed: Packed = {
      ...{ format: 'f32', rows, columns, bytes, scales: 0, scaleBytes: 0 },
      address: this.heap.alloc(bytes),
    };
    const output: Output = {
      ...{ dataId: this.adopt(packed), shape: [rows, columns], dtype: 'float32' },
      address: packed.address,
    };
    this.created.push(output);
    return output;
  }

  /** A tensor of strings. */
  stringOutput(shape: readonly number[], strings: Uint8Array[]): TensorInfo {
    const info: TensorInfo = { dataId: {}, shape: [...shape], dtype: 'string' };
    this.storage.set(info.dataId, { dtype: 'string', size: strings.length, refCount: 1, strings });
    this.created.push(info);
    return info;
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

  /** Memory until the end of the running kernel, or of the part of it that is running. */
  scratch(bytes: number, of?: object): number {
    const address = this.heap.alloc(bytes);
    this.borrowed.push({ address, bytes, of });
    return address;
  }

  /** Where the numbers of a tensor are, in row-major order; packed weights are unpacked for the running kernel. */
  addressOf(tensor: TensorInfo): number {
    const stored = this.storage.get(tensor.dataId);
    if (stored.block !== undefined) return stored.block.address;
    if (stored.packed === undefined) throw unsupportedType(this.running, stored.dtype);
    const known = this.unpacked.get(tensor.dataId);
    if (known !== undefined) return known;
    const address = this.scratch(stored.size * 4, tensor.dataId);
    unpackTo(this.kernels, stored.packed, address);
    this.unpacked.set(tensor.dataId, address);
    return address;
  }

  /** Where a tensor's numbers are kept, packed or not. */
  placeOf(tensor: TensorInfo): number | undefined {
    const { block, packed } = this.storage.get(tensor.dataId);
    return (block ?? packed)?.address;
  }

  /** Where the numbers of a tensor are for as long as it lives. Panels, which have no such place, are refused. */
  fixedAddressOf(tensor: TensorInfo): number {
    const { block } = this.storage.get(tensor.dataId);
    util.assert(block !== undefined, () => `${this.running}: [${tensor.shape}] is kept in panels`);
    return block!.address;
  }

  /** Lets `notes` be forgotten when the numbers of this tensor are freed. */
  note(tensor: TensorInfo): void {
    this.storage.get(tensor.dataId).noted = true;
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

  /** The strings of a tensor, UTF-8 encoded, or undefined where it holds numbers. */
  stringsOf(tensor: TensorInfo): Uint8Array[] | undefined {
    return this.storage.get(tensor.dataId).strings;
  }

  /** The panels of a tensor [rows, columns], if they are what it is kept as. */
  packedOf(tensor: TensorInfo): Packed | undefined {
    const { packed } = this.storage.get(tensor.dataId);
    return packed?.table ? undefined : packed;
  }

  /** Copies rows of a table [count, width], by number, to `target`: only they are unpacked. */
  copyRows(table: TensorInfo, rows: ArrayLike<number>, target: number): void {
    const bytes = table.shape[1]! * bytesOf(table.dtype);
    const { packed } = this.storage.get(table.dataId);
    const from = packed?.table ? 0 : this.addressOf(table);
    for (let i = 0; i < rows.length; i++) {
      const to = target + i * bytes;
      if (packed?.table) unpackRow(this.kernels, packed, rows[i]!, to);
      else this.heap.u8.copyWithin(to, from + rows[i]! * bytes, from + (rows[i]! + 1) * bytes);
    }
  }

  /** Replaces the numbers of a [rows, columns] tensor by their packed form; all tensors that share them see the same values as before. */
  pack(tensor: TensorInfo, rows: number, columns: number): Packed {
    const stored = this.storage.get(tensor.dataId);
    if (stored.packed?.rows === rows && !stored.packed.table) return stored.packed;
    const packed = packFloats(this.kernels, this.heap, this.addressOf(tensor), rows, columns);
    this.free(stored);
    this.storage.delete(tensor.dataId); // or it would be counted twice
    this.storage.set(tensor.dataId, { dtype: stored.dtype, size: stored.size, refCount: stored.refCount, packed });
    return packed;
  }

  /** Takes packed weights into the storage. The block belongs to the backend from here on. */
  adopt(packed: Packed): object {
    const dataId = {};
    this.storage.set(dataId, { dtype: 'float32', size: packed.rows * packed.columns, refCount: 1, packed });
    return dataId;
  }
}

/** Inputs by name; a list of tensors has the names 0, 1, … */
export type Inputs = Readonly<Record<string, TensorInfo>>;
export type Attributes = Readonly<Record<string, unknown>>;

/** A kernel: reads its inputs, returns new tensors. Numbers and shapes were checked by tfjs's op. */
export type Kernel = (backend: KernelContext, inputs: Inputs, attributes: Attributes) => TensorInfo | TensorInfo[];

/** Kernels by the names that tfjs-core calls them. */
export type KernelTable = Readonly<Record<string, Kernel>>;

/** An input that the kernel cannot do without. */
export const input = (inputs: Inputs, name: string): TensorInfo => inputs[name]!;

/** The inputs of kernels that take a list. */
export const listOf = (inputs: Inputs): TensorInfo[] => Object.values(inputs);

/** Number of elements. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((size, n) => size * n, 1);

/** Strides, in elements, of a contiguous tensor: one for each dimension. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    strides[d] = stride;
    stride *= shape[d]!;
  }
  return strides;
}

/** The error for an input that breaks a rule of its kernel. */
export const fault = (kernel: string, code: string, detail: string): BackendError =>
  new BackendError({ path: `simd: ${kernel}`, code, detail, unsupported: code.startsWith('unsupported') });

/** @throws BackendError (`unsupported-dtype`) where one of `tensors`, which may be left out, is not float32. */
export function requireFloats(kernel: string, ...tensors: readonly (TensorInfo | undefined)[]): void {
  const other = tensors.find((tensor) => tensor !== undefined && tensor.dtype !== 'float32');
  if (other !== undefined) throw fault(kernel, 'unsupported-dtype', `only float32, not ${other.dtype}`);
}
