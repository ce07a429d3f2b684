import type { PickleFail } from './pickle-reader.js';
import { isKind, type PickleTensor, type PickleValue } from './pickle-values.js';
import { MAX_RANK } from './stored-tensor.js';

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
