import { backend_util, type DataType, type EinsumAttrs, type TensorInfo } from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { matMulKernels } from './mat-mul.js';
import { transpose } from './movement.js';
import { reduceKernels } from './reduce.js';
import { cast } from './shape.js';
import { type Kernel, type KernelTable, listOf, sizeOf } from './table.js';

/** A tensor and the letters of its dimensions. */
interface Term {
  readonly tensor: TensorInfo;
  readonly letters: readonly string[];
}

/** Sums the dimensions that nobody else has. The result is a tensor of its own. */
function withoutOwn(backend: SimdBackend, { tensor, letters }: Term, wanted: ReadonlySet<string>): Term {
  const axis = letters.flatMap((letter, d) => (wanted.has(letter) ? [] : [d]));
  if (axis.length === 0) return { tensor: backend.alias(tensor, tensor.shape), letters };
  const sum = reduceKernels['Sum']!(backend, { x: tensor }, { axis, keepDims: false }) as TensorInfo;
  return { tensor: sum, letters: letters.filter((letter) => wanted.has(letter)) };
}

/** The dimensions in the order of `letters`, as groups of the given sizes. */
function arranged(backend: SimdBackend, term: Term, letters: readonly string[], shape: readonly number[]): TensorInfo {
  const order = letters.map((letter) => term.letters.indexOf(letter));
  return { ...transpose(backend, term.tensor, order), shape: [...shape] };
}

/** Two terms: what both have and the result keeps is a batch, what both have and it does not is summed by a product. */
function product(backend: SimdBackend, a: Term, b: Term, output: readonly string[]): Term {
  const kept = new Set(output);
  const shared = a.letters.filter((letter) => b.letters.includes(letter));
  const [batch, inner] = [shared.filter((letter) => kept.has(letter)), shared.filter((letter) => !kept.has(letter))];
  const own = (term: Term) => term.letters.filter((letter) => !shared.includes(letter));
  const sizesOf = (term: Term, letters: readonly string[]) =>
    letters.map((letter) => term.tensor.shape[term.letters.indexOf(letter)]!);
  const [n, k] = [sizeOf(sizesOf(a, batch)), sizeOf(sizesOf(a, inner))];
  const [rows, columns] = [own(a), own(b)];
  const left = arranged(backend, a, [...batch, ...rows, ...inner], [n, sizeOf(sizesOf(a, rows)), k]);
  const right = arranged(backend, b, [...batch, ...inner, ...columns], [n, k, sizeOf(sizesOf(b, columns))]);
  const options = { transposeA: false, transposeB: false };
  const y = matMulKernels['BatchMatMul']!(backend, { a: left, b: right }, options) as TensorInfo;
  for (const tensor of [left, right, a.tensor, b.tensor]) backend.release(tensor);
  const shape = [...sizesOf(a, batch), ...sizesOf(a, rows), ...sizesOf(b, columns)];
  return { tensor: { ...y, shape }, letters: [...batch, ...rows, ...columns] };
}

/** Einstein's sum of one or two tensors, as matrix products. */
const einsum: Kernel = (backend, inputs, attributes) => {
  const given = listOf(inputs);
  const counted = (dtype: DataType) => (given.length > 1 ? backend_util.upcastType(dtype, 'int32') : dtype);
  const dtype = counted(given.map((tensor) => tensor.dtype).reduce(backend_util.upcastType));
  const tensors = given.map((tensor) => cast(backend, tensor, dtype));
  const equation = (attributes as unknown as EinsumAttrs).equation.replace(/\s/g, '');
  const { allDims, idDims } = backend_util.decodeEinsumEquation(equation, tensors.length);
  backend_util.checkEinsumDimSizes(allDims.length, idDims, tensors as never);
  const [left, output] = equation.split('->') as [string, string];
  const all = left.split(',');
  const terms = tensors.map((tensor, i): Term => {
    const wanted = new Set([...output, ...all.filter((_, other) => other !== i).join('')]);
    return withoutOwn(backend, { tensor, letters: [...all[i]!] }, wanted);
  });
  const { tensor, letters } = terms.length === 1 ? terms[0]! : product(backend, terms[0]!, terms[1]!, [...output]);
  const order = [...output].map((letter) => letters.indexOf(letter));
  const result = transpose(backend, tensor, order);
  for (const used of [tensor, ...tensors]) backend.release(used);
  return result;
};

export const einsumKernels: KernelTable = { Einsum: einsum };
