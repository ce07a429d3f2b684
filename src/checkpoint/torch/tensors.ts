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
} from './pickle-values.js';

/**
 * Every name that a checkpoint may mention, compared exactly; all others are refused. Nothing is ever looked up in
 * a module, imported or evaluated: a name is either in these tables or an error. The tables follow what
 * `torch.load(weights_only=True)` allows (torch/_weights_only_unpickler.py); whatever is no tensor becomes an inert placeholder.
 */

interface ElementType {
  /** As safetensors writes it, or a name of our own for what safetensors does not have. */
  readonly dtype: string;
  readonly itemBytes: number;
}

/** Element type of each storage class of torch. An untyped one counts bytes. */
const STORAGES: ReadonlyMap<string, ElementType> = new Map([
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
  ['torch.ComplexDoubleStorage', { dtype: 'C128', itemBytes: 16 }],
  ['torch.QInt8Storage', { dtype: 'QI8', itemBytes: 1 }],
  ['torch.QUInt8Storage', { dtype: 'QU8', itemBytes: 1 }],
  ['torch.QInt32Storage', { dtype: 'QI32', itemBytes: 4 }],
  ['torch.QUInt4x2Storage', { dtype: 'QU4X2', itemBytes: 1 }],
  ['torch.QUInt2x4Storage', { dtype: 'QU2X4', itemBytes: 1 }],
  ['torch.storage.UntypedStorage', { dtype: 'U8', itemBytes: 1 }],
]);

/** Element types that have no storage class: `_rebuild_tensor_v3` says them beside an untyped storage. */
const NEWER_TYPES: ReadonlyMap<string, ElementType> = new Map([
  ['torch.uint16', { dtype: 'U16', itemBytes: 2 }],
  ['torch.uint32', { dtype: 'U32', itemBytes: 4 }],
  ['torch.uint64', { dtype: 'U64', itemBytes: 8 }],
  ['torch.float8_e4m3fn', { dtype: 'F8_E4M3', itemBytes: 1 }],
  ['torch.float8_e5m2', { dtype: 'F8_E5M2', itemBytes: 1 }],
  ['torch.float8_e4m3fnuz', { dtype: 'F8_E4M3FNUZ', itemBytes: 1 }],
  ['torch.float8_e5m2fnuz', { dtype: 'F8_E5M2FNUZ', itemBytes: 1 }],
  ['torch.float8_e8m0fnu', { dtype: 'F8_E8M0', itemBytes: 1 }],
  ['torch.float4_e2m1fn_x2', { dtype: 'F4_X2', itemBytes: 1 }],
  ['torch.bits8', { dtype: 'BITS8', itemBytes: 1 }],
  ['torch.bits16', { dtype: 'BITS16', itemBytes: 2 }],
  ['torch.complex32', { dtype: 'C32', itemBytes: 4 }],
]);

type Build = (args: readonly PickleValue[], fail: PickleFail) => PickleValue;

const placeholder =
  (name: string): Build =>
  () => ({ kind: 'inert', name });

/** What REDUCE and NEWOBJ may make. */
const BUILDERS: ReadonlyMap<string, Build> = new Map<string, Build>([
  ['collections.OrderedDict', orderedDict],
  ['torch._utils._rebuild_tensor', (args, fail) => rebuildTensor(args, [4], fail)],
  ['torch._utils._rebuild_tensor_v2', (args, fail) => rebuildTensor(args, [6, 7], fail)],
  ['torch._utils._rebuild_tensor_v3', rebuildNewerTensor],
  ['torch._utils._rebuild_parameter', (args, fail) => parameter(args, 3, fail)],
  ['torch._utils._rebuild_parameter_with_state', (args, fail) => parameter(args, 4, fail)],
  ['torch._tensor._rebuild_from_type_v2', withAttributes],
  ['torch.Size', size],
  ['torch.device', placeholder('a device')],
  ['torch.serialization._get_layout', placeholder('a layout')],
  ['torch._utils._rebuild_sparse_tensor', placeholder('a sparse tensor')],
  ['torch._utils._rebuild_nested_tensor', placeholder('a nested tensor')],
  ['torch._utils._rebuild_qtensor', placeholder('a quantized tensor')],
  ['torch._utils._rebuild_meta_tensor_no_storage', placeholder('a tensor without data')],
  ['torch._utils._rebuild_wrapper_subclass', placeholder('a tensor subclass')],
  ['collections.Counter', placeholder('a Counter')],
  ['_codecs.encode', placeholder('bytes')],
  // Protocol 2 writes the module's name of Python 2, protocols from 3 on that of Python 3.
  ...['__builtin__', 'builtins'].flatMap((module): [string, Build][] => [
    [`${module}.set`, placeholder('a set')],
    [`${module}.bytearray`, placeholder('bytes')],
    [`${module}.complex`, placeholder('a complex number')],
  ]),
]);

/** Builders whose tensors `_rebuild_from_type_v2` may wrap, and the classes that are no subclass. */
const TENSOR_BUILDERS: readonly string[] = ['_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_tensor_v3'].map(
  (name) => `torch._utils.${name}`,
);
const TENSOR_CLASSES: readonly string[] = ['torch.Tensor', 'torch.nn.parameter.Parameter'];

const torchNames = (names: string): string[] => names.split(' ').map((name) => `torch.${name}`);

/** Values that training code leaves beside the weights: dtypes and quantization schemes. */
const INERT: ReadonlySet<string> = new Set([
  ...torchNames('float32 float float64 double float16 half bfloat16 int64 long int32 int int16 short int8 uint8 bool'),
  ...torchNames('complex64 cfloat complex128 cdouble chalf qint8 quint8 qint32 quint4x2 quint2x4'),
  ...torchNames('int1 int2 int3 int4 int5 int6 int7 uint1 uint2 uint3 uint4 uint5 uint6 uint7 bits1x8 bits2x4 bits4x2'),
  ...torchNames('per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric'),
  ...torchNames('per_channel_affine_float_qparams'),
  ...NEWER_TYPES.keys(),
]);

/** What people store all the same, though `weights_only=True` refuses it too. */
const UNSUPPORTED: ReadonlyMap<string, string> = new Map([
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
  if (BUILDERS.has(known) || STORAGES.has(known) || TENSOR_CLASSES.includes(known)) {
    return { kind: 'global', name: known };
  }
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

/** A parameter is its tensor; Python attributes that somebody gave it concern training. */
function parameter(args: readonly PickleValue[], count: number, fail: PickleFail): PickleValue {
  const [data] = args;
  if (args.length !== count || !isKind(data, 'tensor')) throw fail('pickle-call', 'a parameter without a tensor');
  return data;
}

/** `_rebuild_from_type_v2(builder, class, arguments, attributes)`: a plain tensor with Python attributes, which are dropped. */
function withAttributes(args: readonly PickleValue[], fail: PickleFail): PickleValue {
  const [builder, type, inner] = args;
  if (args.length !== 4 || !isKind(builder, 'global') || !TENSOR_BUILDERS.includes(builder.name)) {
    throw fail('pickle-call', 'a tensor with attributes, but not of a tensor');
  }
  if (!isKind(type, 'global') || !TENSOR_CLASSES.includes(type.name)) {
    throw fail('pickle-call', `${kindOf(type)} as a class of tensors`);
  }
  if (!isKind(inner, 'tuple')) throw fail('pickle-call', `${kindOf(inner)} as arguments`);
  return reduceGlobal(builder, inner.items, fail);
}

function size(args: readonly PickleValue[], fail: PickleFail): PickleValue {
  const [sizes] = args;
  if (args.length !== 1 || !isKind(sizes, 'tuple')) throw fail('pickle-call', 'torch.Size without a tuple');
  return sizes;
}

/**
 * The arguments of torch's `_rebuild_tensor` and `_rebuild_tensor_v2`: storage, offset, sizes, strides, two that concern training, and
 * the bits. The view must be inside its storage: memory safety in torch, wrong weights here.
 */
function rebuildTensor(args: readonly PickleValue[], counts: readonly number[], fail: PickleFail): PickleTensor {
  if (!counts.includes(args.length)) throw fail('tensor-arguments', `a tensor of ${args.length} arguments`);
  const [storage, offset, sizes, steps, , , bits] = args;
  if (!isKind(storage, 'storage')) throw fail('tensor-arguments', 'a tensor without a storage');
  const shape = naturals(sizes, 'size', fail);
  const strides = naturals(steps, 'stride', fail);
  const start = natural(offset, 'offset', fail);
  if (shape.length !== strides.length) throw fail('tensor-view', `${shape.length} sizes and ${strides.length} strides`);
  if (shape.length > MAX_RANK) throw fail('rank', `${shape.length} dimensions; the limit is ${MAX_RANK}`, true);

  const isEmpty = shape.includes(0);
  const reach = shape.reduce((sum, size, axis) => sum + BigInt(size - 1) * BigInt(strides[axis]!), BigInt(start));
  const inside = isEmpty ? start <= storage.count : reach < BigInt(storage.count);
  if (!inside)
    throw fail('tensor-view', `[${shape}] from ${start} by [${strides}] leaves its storage of ${storage.count}`);
  const isSet = (bit: string) => isKind(bits, 'dict') && bits.entries.get(bit) === true;
  return { kind: 'tensor', storage, offset: start, shape, strides, negative: isSet('neg'), conjugate: isSet('conj') };
}

/** `_rebuild_tensor_v3`: as v2 over an untyped storage, with the element type before the bits. */
function rebuildNewerTensor(args: readonly PickleValue[], fail: PickleFail): PickleTensor {
  const [storage, offset, sizes, strides, gradient, hooks, type, bits] = args;
  const known = isKind(type, 'inert') ? NEWER_TYPES.get(type.name) : undefined;
  if (args.length < 7 || args.length > 8 || known === undefined) {
    throw fail('tensor-arguments', `a tensor of ${args.length} arguments, its type ${kindOf(type)}`);
  }
  if (!isKind(storage, 'storage') || storage.itemBytes !== 1) throw fail('tensor-arguments', 'not an untyped storage');
  const typed: PickleStorage = { ...storage, ...known, count: Math.floor(storage.count / known.itemBytes) };
  return rebuildTensor([typed, offset!, sizes!, strides!, gradient!, hooks!, bits ?? null], [7], fail);
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
type ReadStorage = (begin: number, end: number) => Promise<Uint8Array<ArrayBuffer>>;

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

/** A view of a storage as a stored tensor: row-major little-endian bytes, whatever its strides, byte order and bits. */
export function torchTensor(
  name: string,
  view: PickleTensor,
  readStorage: ReadStorage,
  { file, bigEndian }: { readonly file: string; readonly bigEndian: boolean },
): StoredTensor {
  const { dtype, itemBytes } = view.storage;
  const byteLength = elementCount(view.shape) * itemBytes;
  const first = view.offset * itemBytes;
  const read = async (begin = 0, end = byteLength) => {
    if (begin % itemBytes !== 0 || end % itemBytes !== 0) throw halfElement(name, file);
    if (begin === end) return new Uint8Array();
    const bytes = isContiguous(view)
      ? await readStorage(first + begin, first + end)
      : await gather(view, begin / itemBytes, end / itemBytes, readStorage);
    return applyBits(bigEndian ? reverseBytes(bytes, partBytes(view.storage)) : bytes, view);
  };
  return { name, dtype, shape: view.shape, byteLength, file, read };
}

const halfElement = (name: string, file: string) =>
  new TorchFileError({ file, path: nameOf(name), code: 'read-range', detail: 'asked for a part of an element' });

const isComplex = ({ dtype }: ElementType): boolean => /^C\d+$/.test(dtype);
/** A complex number is two numbers. */
const partBytes = (type: ElementType): number => (isComplex(type) ? type.itemBytes / 2 : type.itemBytes);

/** Every number of `width` bytes with its bytes the other way round; a copy. */
function reverseBytes(bytes: Uint8Array<ArrayBuffer>, width: number): Uint8Array<ArrayBuffer> {
  const result = bytes.slice();
  if (width > 1) for (let at = 0; at < result.length; at += width) result.subarray(at, at + width).reverse();
  return result;
}

/** The negative bit changes every sign, the conjugate bit that of imaginary parts; a copy where any changes. */
function applyBits(bytes: Uint8Array<ArrayBuffer>, view: PickleTensor): Uint8Array<ArrayBuffer> {
  const { storage, negative, conjugate } = view;
  if (!negative && !(conjugate && isComplex(storage))) return bytes;
  const result = bytes.slice();
  const width = partBytes(storage);
  const isInteger = /^[IU]\d+$/.test(storage.dtype);
  for (let at = 0, part = 0; at < result.length; at += width, part++) {
    const isImaginary = isComplex(storage) && part % 2 === 1;
    if (negative === (conjugate && isImaginary)) continue;
    if (isInteger) negateInteger(result.subarray(at, at + width));
    else result[at + width - 1]! ^= 0x80;
  }
  return result;
}

/** Two's complement, lowest byte first. */
function negateInteger(bytes: Uint8Array): void {
  let carry = 1;
  for (let i = 0; i < bytes.length; i++) {
    const sum = (bytes[i]! ^ 0xff) + carry;
    bytes[i] = sum;
    carry = sum >> 8;
  }
}

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
 * numbers: as floats, a NaN could change. Wide elements go as words of four bytes, an innermost axis more.
 */
async function gather(view: PickleTensor, begin: number, end: number, readStorage: ReadStorage) {
  const { itemBytes } = view.storage;
  const words = Math.max(1, itemBytes / 4);
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
const INNER = ['model', 'state_dict', 'module', 'model_state_dict'];
/** How deep these may be inside one another; an object that holds itself is no trouble. */
const MAX_INNER = 3;

/**
 * Views may repeat elements (stride 0) and share storages (tied weights); all of them together may name so many elements more than
 * four times what the file stores. A few bytes must not become gigabytes.
 */
const MAX_EXPANDED = 2n ** 24n;

/**
 * The map of tensors that a checkpoint's object is, or holds under one of the usual names: the one with most tensors, since training
 * code may keep a random state or a counter beside it. What is not a tensor (a step counter, a note) is left alone.
 * Throws TorchFileError (`no-tensors`, `expanded-view`).
 */
export function findTensors(root: PickleValue, file: string): ReadonlyMap<string, PickleTensor> {
  const fail = (code: string, detail: string) => new TorchFileError({ file, code, detail });
  if (!isKind(root, 'dict')) throw fail('no-tensors', `holds ${kindOf(root)}, not a map of tensors`);
  const candidates = candidatesIn(root, MAX_INNER);
  const best = candidates.reduce((most, dict) => (tensorCount(dict) > tensorCount(most) ? dict : most));
  const tensors = tensorsOf(best, file);
  if (tensors.size === 0) {
    const found = [...root.entries].slice(0, 5).map(([key, value]) => `${quote(String(key))} (${kindOf(value)})`);
    throw fail('no-tensors', found.length === 0 ? 'an empty map' : `no tensors in a map of ${found.join(', ')}`);
  }
  checkExpansion([...tensors.values()], fail);
  return tensors;
}

function candidatesIn(dict: PickleDict, depth: number): PickleDict[] {
  if (depth === 0) return [dict];
  const inner = INNER.map((name) => dict.entries.get(name)).filter((value) => isKind(value, 'dict'));
  return [dict, ...inner.flatMap((found) => candidatesIn(found, depth - 1))];
}

const tensorCount = ({ entries }: PickleDict): number =>
  [...entries.values()].reduce<number>((count, value) => count + (isKind(value, 'tensor') ? 1 : 0), 0);

function checkExpansion(tensors: readonly PickleTensor[], fail: (code: string, detail: string) => Error): void {
  const storages = new Map(tensors.map(({ storage }) => [storage.key, storage]));
  const stored = [...storages.values()].reduce((sum, { count }) => sum + BigInt(count), 0n);
  const named = tensors.reduce(
    (sum, { shape }) => sum + shape.reduce((product, size) => product * BigInt(size), 1n),
    0n,
  );
  if (named > 4n * stored + MAX_EXPANDED) {
    throw fail('expanded-view', `the tensors name ${named} elements, of which the file stores ${stored}`);
  }
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
