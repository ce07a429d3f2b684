import type { PickleFail } from './pickle-reader.js';
import { isKind, type PickleGlobal, type PickleInert, type PickleValue } from './pickle-values.js';
import { rebuildTensor } from './torch-view.js';

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
