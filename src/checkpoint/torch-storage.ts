import { TorchFileError } from '../errors.js';
import type { LoadStorage } from './pickle.js';
import { isKind, type PickleStorage, type PickleTensor } from './pickle-values.js';
import { elementCount, nameOf, type StoredTensor } from './stored-tensor.js';
import { STORAGES } from './torch-globals.js';

/** Where a container keeps one storage: its bytes [begin, end). */
export type ReadStorage = (begin: number, end: number) => Promise<Uint8Array<ArrayBuffer>>;

/**
 * Reads persistent ids ('storage', class, key, location, count); the location is only a label. The same key must always mean
 * the same storage.
 */
export function storageLoader(): { readonly load: LoadStorage; readonly storages: ReadonlyMap<string, PickleStorage> } {
  const storages = new Map<string, PickleStorage>();
  const load: LoadStorage = ({ items }, fail) => {
    const [tag, type, key, location, count, viewOf] = items;
    if (items.length < 5 || items.length > 6 || tag !== 'storage') throw fail('storage-id', 'not the id of a storage');
    if (viewOf !== undefined && viewOf !== null)
      throw fail('storage-id', 'a view of a storage (torch before 0.4)', true);
    const known = isKind(type, 'global') ? STORAGES.get(type.name) : undefined;
    if (!known) throw fail('storage-id', 'the type is not a storage class');
    if (typeof key !== 'string' || !/^[\w-]{1,64}$/.test(key)) throw fail('storage-id', 'the key is not a plain name');
    if (typeof location !== 'string') throw fail('storage-id', 'the location is not a string');
    if (typeof count !== 'number' || count < 0)
      throw fail('storage-id', 'the number of elements is not a natural number');
    const storage: PickleStorage = { kind: 'storage', ...known, key, count };
    const before = storages.get(key);
    if (before && (before.dtype !== storage.dtype || before.count !== count)) {
      throw fail('storage-id', `storage ${key} is named twice, with another type or size`);
    }
    storages.set(key, before ?? storage);
    return before ?? storage;
  };
  return { load, storages };
}

/** A strided view of a storage as a stored tensor: row-major bytes, whatever its strides. */
export function torchTensor(name: string, view: PickleTensor, readStorage: ReadStorage, file: string): StoredTensor {
  const { dtype, itemBytes } = view.storage;
  const byteLength = elementCount(view.shape) * itemBytes;
  const first = view.offset * itemBytes;
  const read = async (begin = 0, end = byteLength) => {
    if (begin % itemBytes !== 0 || end % itemBytes !== 0) throw halfElement(name, file);
    if (begin === end) return new Uint8Array();
    if (isContiguous(view)) return readStorage(first + begin, first + end);
    return gather(view, begin / itemBytes, end / itemBytes, readStorage);
  };
  return { name, dtype, shape: view.shape, byteLength, file, read };
}

const halfElement = (name: string, file: string) =>
  new TorchFileError({ file, path: nameOf(name), code: 'read-range', detail: 'asked for a part of an element' });

function isContiguous({ shape, strides }: PickleTensor): boolean {
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== step) return false;
    step *= shape[axis]!;
  }
  return true;
}

/**
 * Elements [begin, end) of a view in row-major order; reads the span of the storage that the view covers. Bits are copied, not
 * numbers: as floats, a NaN could change. Eight bytes go as two words, an innermost axis more.
 */
async function gather(view: PickleTensor, begin: number, end: number, readStorage: ReadStorage) {
  const { itemBytes } = view.storage;
  const words = itemBytes === 8 ? 2 : 1;
  const shape = [...view.shape, words];
  const strides = [...view.strides.map((stride) => stride * words), 1];
  const span = view.shape.reduce((sum, size, axis) => sum + (size - 1) * view.strides[axis]!, 1);
  const from = wordsOf(await readStorage(view.offset * itemBytes, (view.offset + span) * itemBytes), itemBytes / words);
  const bytes = new Uint8Array((end - begin) * itemBytes);
  const to = wordsOf(bytes, itemBytes / words);
  const index = unravel(begin * words, shape);
  let at = index.reduce((sum, position, axis) => sum + position * strides[axis]!, 0);
  for (let i = 0; i < to.length; i++) {
    to[i] = from[at]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      at -= shape[axis]! * strides[axis]!;
      index[axis] = 0;
    }
  }
  return bytes;
}

function wordsOf(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array | Uint16Array | Uint32Array {
  if (size === 1) return bytes;
  return size === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer);
}

/** The position along each axis of the `index`th element, row-major. */
function unravel(index: number, shape: readonly number[]): number[] {
  const position = shape.map(() => 0);
  let rest = index;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    position[axis] = rest % shape[axis]!;
    rest = Math.floor(rest / shape[axis]!);
  }
  return position;
}
