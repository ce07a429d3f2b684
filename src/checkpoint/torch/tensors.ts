import { quote, TorchFileError } from '../../errors.js';
import { elementCount, MAX_RANK, MAX_TENSORS, nameOf, type StoredTensor } from '../stored-tensor.js';
import {
  isKind,
  kindOf,
  type LoadStorage,
  type PickleDict,
  type PickleFail,
  type PickleGlobal,
  type PickleInert,
  type PickleStorage,
  type PickleTensor,
  type PickleValue,
} from './pickle.js';

/**
 * Every name that a checkpoint may mention, compared exactly; all others are refused where they stand. Nothing is ever looked up in
 * a module, imported or evaluated: a name is either in these tables or an error.
 */

/** Element type and size of each storage class of torch. */
export const STORAGES: ReadonlyMap<string, { readonly dtype: string; readonly itemBytes: number }> = new Map([
  ['torch.FloatStorage', { dtype: 'F32', itemBytes: 4 }],
  ['torch.HalfStorage', { dtype: 'F16', itemBytes: 2 }],
  ['torch.BFloat16Storage', { dtype: 'BF16', itemBytes: 2 }],
  ['torch.DoubleStorage', { dtype: 'F64', itemBytes: 8 }],
  ['torch.LongStorage', { dtype: 'I64', itemBytes: 8 }],
  ['torch.IntStorage', { dtype: 'I32', itemBytes: 4 }],
  ['torch.ShortStorage', { dtype: 'I16', itemBytes: 2 }],
  ['torch.CharStorage', { dtype: 'I8', itemBytes: 1 }],
  ['torch.ByteStorage', { dtype: 'U8', itemBytes: 1 }],
  ['torch.BoolStorage', { dtype: 'BOOL', itemBytes: 1 }],
  ['torch.ComplexFloatStorage', { dtype: 'C64', itemBytes: 8 }],
]);

type Build = (args: readonly PickleValue[], fail: PickleFail) => PickleValue;

/** What REDUCE may make. */
const BUILDERS: ReadonlyMap<string, Build> = new Map<string, Build>([
  ['collections.OrderedDict', orderedDict],
  ['torch._utils._rebuild_tensor', (args, fail) => rebuildTensor(args, [4], fail)],
  ['torch._utils._rebuild_tensor_v2', (args, fail) => rebuildTensor(args, [6, 7], fail)],
  ['torch._utils._rebuild_parameter', parameter],
  ['torch.Size', size],
  ['torch.device', (): PickleInert => ({ kind: 'inert', name: 'torch.device' })],
]);

/** Values that training code leaves beside the weights. */
const INERT: ReadonlySet<string> = new Set(
  'float32 float float64 double float16 half bfloat16 int64 long int32 int16 int8 uint8 bool'
    .split(' ')
    .map((name) => `torch.${name}`),
);

/** Legal in files of torch, and nothing that we can make a weight of. */
const UNSUPPORTED: ReadonlyMap<string, string> = new Map([
  ['torch._utils._rebuild_sparse_tensor', 'a sparse tensor'],
  ['torch._utils._rebuild_sparse_csr_tensor', 'a sparse tensor'],
  ['torch._utils._rebuild_qtensor', 'a quantised tensor'],
  ['torch._utils._rebuild_tensor_v3', 'a tensor of a newer dtype'],
  ['torch._utils._rebuild_meta_tensor_no_storage', 'a tensor without data'],
  ['torch._utils._rebuild_parameter_with_state', 'a parameter with attributes'],
  ['torch._tensor._rebuild_from_type_v2', 'a tensor subclass'],
  ['torch.storage.UntypedStorage', 'an untyped storage'],
  ['torch.ComplexDoubleStorage', 'complex numbers'],
  ['torch.QInt8Storage', 'quantised numbers'],
  ['torch.QUInt8Storage', 'quantised numbers'],
  ['torch.QInt32Storage', 'quantised numbers'],
  ['numpy.core.multiarray._reconstruct', 'a numpy array'],
  ['numpy._core.multiarray._reconstruct', 'a numpy array'],
  ['numpy.core.multiarray.scalar', 'a numpy number'],
  ['numpy._core.multiarray.scalar', 'a numpy number'],
  ['numpy.ndarray', 'a numpy array'],
  ['numpy.dtype', 'a numpy dtype'],
]);

/** Looks a name up, exactly. A dot inside the name (an attribute of an attribute) finds nothing. */
export function findGlobal(module: string, name: string, fail: PickleFail): PickleGlobal | PickleInert {
  const full = `${module}.${name}`;
  const known = name.includes('.') ? '' : full;
  if (BUILDERS.has(known) || STORAGES.has(known)) return { kind: 'global', name: known };
  if (INERT.has(known)) return { kind: 'inert', name: known };
  const unsupported = UNSUPPORTED.get(known);
  if (unsupported !== undefined) throw fail('unsupported-global', `${known}: ${unsupported} is not supported`);
  const shown = JSON.stringify(full.slice(0, 80));
  throw fail('forbidden-global', `${shown} is not among the names that a checkpoint needs; nothing was run`);
}

/** Runs one of the builders above: the only thing that calling can mean. */
export function reduceGlobal(callee: PickleGlobal, args: readonly PickleValue[], fail: PickleFail): PickleValue {
  const build = BUILDERS.get(callee.name);
  if (!build) throw fail('pickle-call', `${callee.name} cannot be called`);
  return build(args, fail);
}

function orderedDict(args: readonly PickleValue[], fail: PickleFail): PickleValue {
  if (args.length > 0) throw fail('pickle-call', 'OrderedDict with arguments, as Python 2 wrote it', true);
  return { kind: 'dict', ordered: true, entries: new Map() };
}

function parameter(args: readonly PickleValue[], fail: PickleFail): PickleValue {
  const [data] = args;
  if (args.length !== 3 || !isKind(data, 'tensor')) throw fail('pickle-call', 'a parameter without a tensor');
  return data;
}

function size(args: readonly PickleValue[], fail: PickleFail): PickleValue {
  const [sizes] = args;
  if (args.length !== 1 || !isKind(sizes, 'tuple')) throw fail('pickle-call', 'torch.Size without a tuple');
  return sizes;
}

/** An expanded view names more elements than its storage has; so many may be written out. */
const MAX_EXPANDED = 2 ** 24;

/**
 * The arguments of torch's `_rebuild_tensor` and `_rebuild_tensor_v2`: storage, offset, sizes, strides, and what concerns training.
 * The view must lie inside its storage: memory safety in torch, wrong weights here.
 */
export function rebuildTensor(args: readonly PickleValue[], counts: readonly number[], fail: PickleFail): PickleTensor {
  if (!counts.includes(args.length)) throw fail('tensor-arguments', `a tensor of ${args.length} arguments`);
  const [storage, offset, sizes, steps] = args;
  if (!isKind(storage, 'storage')) throw fail('tensor-arguments', 'a tensor without a storage');
  const shape = naturals(sizes, 'size', fail);
  const strides = naturals(steps, 'stride', fail);
  const start = natural(offset, 'offset', fail);
  if (shape.length !== strides.length) throw fail('tensor-view', `${shape.length} sizes and ${strides.length} strides`);
  if (shape.length > MAX_RANK) throw fail('rank', `${shape.length} dimensions; the limit is ${MAX_RANK}`, true);

  const count = shape.reduce((product, size) => product * BigInt(size), 1n);
  const reach = shape.reduce((sum, size, axis) => sum + BigInt(size - 1) * BigInt(strides[axis]!), BigInt(start));
  const inside = count === 0n ? start <= storage.count : reach < BigInt(storage.count);
  if (!inside)
    throw fail('tensor-view', `[${shape}] from ${start} by [${strides}] leaves its storage of ${storage.count}`);
  if (count > BigInt(Math.max(storage.count, MAX_EXPANDED))) {
    throw fail('expanded-view', `[${shape}] over a storage of ${storage.count} elements`);
  }
  return { kind: 'tensor', storage, offset: start, shape, strides };
}

function naturals(value: PickleValue | undefined, what: string, fail: PickleFail): number[] {
  if (!isKind(value, 'tuple')) throw fail('tensor-arguments', `${what} is not a tuple`);
  if (value.items.length > 2 * MAX_RANK) throw fail('rank', `${value.items.length} dimensions`, true);
  return value.items.map((item) => natural(item, what, fail));
}

function natural(value: PickleValue | undefined, what: string, fail: PickleFail): number {
  if (typeof value === 'bigint') throw fail('tensor-view', `${what} ${String(value).slice(0, 24)} is out of range`);
  if (typeof value !== 'number') throw fail('tensor-arguments', `${what} is not an integer`);
  if (value < 0) throw fail('tensor-view', `${what} is negative`);
  return value;
}

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

/** Under these names training code keeps the weights, beside other things. */
const INNER = ['model', 'state_dict', 'module'];

/**
 * The map of tensors that a checkpoint's object is, or holds under one of the usual names (one level deep, so that an object that
 * holds itself is no trouble). What is not a tensor beside them (a step counter, a note) is left alone.
 * Throws TorchFileError (`no-tensors`).
 */
export function findTensors(root: PickleValue, file: string): ReadonlyMap<string, PickleTensor> {
  const fail = (detail: string) => new TorchFileError({ file, code: 'no-tensors', detail });
  if (!isKind(root, 'dict')) throw fail(`holds ${kindOf(root)}, not a map of tensors`);
  const own = tensorsOf(root, file);
  if (own.size > 0) return own;
  for (const name of INNER) {
    const inner = root.entries.get(name);
    const tensors = isKind(inner, 'dict') ? tensorsOf(inner, file) : new Map<string, PickleTensor>();
    if (tensors.size > 0) return tensors;
  }
  const names = [...root.entries.keys()].slice(0, 5).map((key) => quote(String(key)));
  throw fail(names.length === 0 ? 'an empty map' : `no tensors in a map of ${names.join(', ')}`);
}

function tensorsOf(dict: PickleDict, file: string): Map<string, PickleTensor> {
  const tensors = new Map<string, PickleTensor>();
  for (const [key, value] of dict.entries) {
    if (!isKind(value, 'tensor')) continue;
    if (typeof key !== 'string') {
      throw new TorchFileError({ file, code: 'tensor-name', detail: `a tensor's name is a ${typeof key}` });
    }
    tensors.set(key, value);
  }
  if (tensors.size > MAX_TENSORS) {
    const detail = `${tensors.size} tensors; the limit is ${MAX_TENSORS}`;
    throw new TorchFileError({ file, code: 'tensor-count', detail, unsupported: true });
  }
  return tensors;
}
