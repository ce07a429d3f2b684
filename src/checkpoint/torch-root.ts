import { quote, TorchFileError } from '../errors.js';
import { isKind, kindOf, type PickleDict, type PickleTensor, type PickleValue } from './pickle-values.js';
import { MAX_TENSORS } from './stored-tensor.js';

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
