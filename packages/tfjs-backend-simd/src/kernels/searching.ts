import { type SearchSortedAttrs, type TensorInfo, type UniqueAttrs, util } from '@tensorflow/tfjs-core';
import { indexingKernels } from './indexing.js';
import { input, type Kernel, type KernelTable, sizeOf } from './table.js';

/** Where each value would stand in its sorted row: before equal ones (`left`) or behind them. */
const searchSorted: Kernel = (backend, inputs, attributes) => {
  const [sorted, values] = [input(inputs, 'sortedSequence'), input(inputs, 'values')];
  const { side } = attributes as unknown as SearchSortedAttrs;
  const output = backend.output(values.shape, 'int32');
  const [rows, wanted, target] = backend.viewsOf(sorted, values, output);
  const [length, perRow] = [sorted.shape[1]!, values.shape[1]!];
  for (let i = 0; i < target.length; i++) {
    const first = Math.floor(i / perRow) * length;
    let [low, high] = [0, length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const there = rows[first + middle]!;
      if (there < wanted[i]! || (side === 'right' && there === wanted[i]!)) low = middle + 1;
      else high = middle;
    }
    target[i] = low;
  }
  return output;
};

/** The slices of x along an axis that differ, in the order in which they come, and for each slice its number among them. */
const unique: Kernel = (backend, inputs, attributes) => {
  const x = input(inputs, 'x');
  const axis = util.parseAxisParam((attributes as unknown as UniqueAttrs).axis, x.shape)[0]!;
  const [outer, n, run] = [sizeOf(x.shape.slice(0, axis)), x.shape[axis] ?? 1, sizeOf(x.shape.slice(axis + 1))];
  const strings = backend.stringsOf(x);
  const values = strings === undefined ? backend.valuesOf(x) : undefined;
  const element = (at: number) => (strings === undefined ? values![at]! : strings[at]!.join(' '));
  const [firsts, known] = [[] as number[], new Map<string, number>()];
  const numbers = Array.from({ length: n }, (_, i) => {
    const key: (number | string)[] = [];
    for (let o = 0; o < outer; o++) for (let r = 0; r < run; r++) key.push(element((o * n + i) * run + r));
    const text = key.join();
    if (!known.has(text)) known.set(text, firsts.push(i) - 1);
    return known.get(text)!;
  });
  const indices = backend.output([n], 'int32');
  backend.valuesOf(indices).set(numbers);
  const kept = backend.output([firsts.length], 'int32');
  backend.valuesOf(kept).set(firsts);
  const slices = indexingKernels['GatherV2']!(backend, { x, indices: kept }, { axis, batchDims: 0 }) as TensorInfo;
  backend.release(kept);
  return [slices, indices];
};

/** Kernels that look for values. */
export const searchingKernels: KernelTable = { SearchSorted: searchSorted, Unique: unique };
