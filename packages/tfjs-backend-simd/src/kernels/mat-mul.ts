import {
  type _FusedMatMulAttrs,
  type BatchMatMulAttrs,
  backend_util,
  type DataType,
  type EinsumAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import type { Unary } from '../abi.js';
import { BackendError } from '../errors.js';
import type { KernelContext } from '../kernel-context.js';
import {
  type Attributes,
  type Inputs,
  input,
  type Kernel,
  type KernelTable,
  listOf,
  sizeOf,
} from '../kernel-context.js';
import { multiply, type Panels } from '../product.js';
import { packedBytes } from '../tensor-memory.js';
import { elementwiseKernels } from './elementwise.js';
import { cast, transpose } from './movement.js';
import { reduceKernels } from './reduce.js';

/** What tfjs calls an activation, as the kernel that does it. */
const ACTIVATIONS: Readonly<Record<string, string>> = {
  relu: 'Relu',
  relu6: 'Relu6',
  elu: 'Elu',
  sigmoid: 'Sigmoid',
  leakyrelu: 'LeakyRelu',
  prelu: 'Prelu',
};

/** Those that the product itself can do. */
const FUSED: ReadonlySet<string> = new Set<keyof typeof Unary>(['Relu', 'Sigmoid']);

/** The activation that a product may apply while its result is still in the cache. */
export function fusedActivation(activation: string | null | undefined): keyof typeof Unary | undefined {
  const name = ACTIVATIONS[activation ?? ''];
  return name !== undefined && FUSED.has(name) ? (name as keyof typeof Unary) : undefined;
}

/** `y` + `bias`; takes `y` over. */
export function addBias(backend: KernelContext, y: TensorInfo, bias: TensorInfo): TensorInfo {
  const sum = elementwiseKernels['Add']!(backend, { a: y, b: bias }, {}) as TensorInfo;
  backend.release(y);
  return sum;
}

/**
 * Applies the activation that the attributes ask for; takes `x` over.
 * @throws BackendError (`unsupported-activation`) naming an activation that tfjs does not define.
 */
export function activate(backend: KernelContext, x: TensorInfo, inputs: Inputs, attributes: Attributes): TensorInfo {
  const { activation, leakyreluAlpha } = attributes as { activation?: string | null; leakyreluAlpha?: number };
  if ((activation ?? 'linear') === 'linear') return x;
  const name = ACTIVATIONS[activation!];
  if (name === undefined) {
    const detail = `activation ${activation} is not one of linear, ${Object.keys(ACTIVATIONS).join(', ')}`;
    throw new BackendError({ path: 'simd', code: 'unsupported-activation', detail, unsupported: true });
  }
  const alpha = inputs['preluActivationWeights'];
  const kernel = elementwiseKernels[name]!;
  const y = kernel(backend, alpha === undefined ? { x } : { x, alpha }, { alpha: leakyreluAlpha ?? 0.2 });
  backend.release(x);
  return y as TensorInfo;
}

interface Shapes {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  /** For each product, which matrix of a and of b it takes. */
  readonly pairs: readonly (readonly [number, number])[];
  readonly shape: number[];
}

/** Reads the shapes of two tensors of rank 2 or more whose leading dimensions broadcast. */
function shapesOf(a: TensorInfo, b: TensorInfo, { transposeA, transposeB }: BatchMatMulAttrs): Shapes {
  const inner = (shape: number[], last: boolean) => shape[shape.length - (last ? 1 : 2)]!;
  const [m, k] = [inner(a.shape, transposeA), inner(a.shape, !transposeA)];
  const [other, n] = [inner(b.shape, transposeB), inner(b.shape, !transposeB)];
  util.assert(k === other, () => `matMul: inner dimensions ${k} and ${other} of [${a.shape}] and [${b.shape}] differ`);
  const [aBatch, bBatch] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const batch = backend_util.assertAndGetBroadcastShape(aBatch, bBatch);
  const numbers = (own: number[]) => {
    let list = [0];
    let count = 1;
    batch.forEach((size, d) => {
      const mine = own[d - batch.length + own.length] ?? 1;
      list = list.flatMap((i) => Array.from({ length: size }, (_, j) => i * mine + (mine === 1 ? 0 : j)));
      count *= mine;
    });
    return count === 0 ? [] : list;
  };
  const [first, second] = [numbers(aBatch), numbers(bBatch)];
  const pairs = first.map((i, at): [number, number] => [i, second[at]!]);
  return { m, k, n, transposeA, transposeB, pairs, shape: [...batch, m, n] };
}

/** b as panels, one after the other as the products ask for them; a packed weight is taken as it is. */
function panelsOf(backend: KernelContext, b: TensorInfo, { k, n, transposeB }: Shapes): (index: number) => Panels {
  const packed = backend.packedOf(b);
  if (packed !== undefined && !transposeB && packed.rows === k && packed.columns === n) return () => packed;
  const from = backend.addressOf(b);
  const address = backend.scratch(packedBytes('f32', k, n));
  let last = -1;
  return (index) => {
    const at = from + index * k * n * 4;
    if (index !== last && transposeB) backend.kernels.packPanelsTransposed(at, k * 4, address, k, n);
    else if (index !== last) backend.kernels.packPanels(at, n * 4, address, k, n, k);
    last = index;
    return { format: 'f32', address, scales: 0 };
  };
}

function multiplyFloats(
  backend: KernelContext,
  a: TensorInfo,
  b: TensorInfo,
  shapes: Shapes,
  c: number,
  bias: number,
  activation: keyof typeof Unary | undefined,
): void {
  const { m, k, n, transposeA, pairs } = shapes;
  if (m * n === 0) return;
  const [from, panels] = [backend.addressOf(a), panelsOf(backend, b, shapes)];
  pairs.forEach(([i, j], at) => {
    multiply(backend, {
      m,
      k,
      n,
      a: from + i * m * k * 4,
      lda: (transposeA ? m : k) * 4,
      transposed: transposeA,
      b: panels(j),
      c: c + at * m * n * 4,
      ldc: n * 4,
      bias,
      activation,
    });
  });
}

/** int32 products, plainly. */
function multiplyIntegers(backend: KernelContext, a: TensorInfo, b: TensorInfo, shapes: Shapes, c: TensorInfo): void {
  const { m, k, n, transposeA, transposeB, pairs } = shapes;
  const [left, right, target] = backend.viewsOf(a, b, c);
  const [aRow, aStep] = transposeA ? [1, m] : [k, 1];
  const [bStep, bColumn] = transposeB ? [1, k] : [n, 1];
  pairs.forEach(([first, second], at) => {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) {
          sum += left[first * m * k + i * aRow + l * aStep]! * right[second * k * n + l * bStep + j * bColumn]!;
        }
        target[(at * m + i) * n + j] = sum;
      }
    }
  });
}

function matMul(backend: KernelContext, inputs: Inputs, attributes: Attributes): TensorInfo {
  const [a, b, bias] = [input(inputs, 'a'), input(inputs, 'b'), inputs['bias']];
  const { activation, ...transposes } = attributes as unknown as _FusedMatMulAttrs;
  const shapes = shapesOf(a, b, transposes);
  const floats = a.dtype === 'float32' && b.dtype === 'float32';
  const output = backend.output(shapes.shape, floats ? 'float32' : a.dtype);
  // A bias of one number a column is added by the product; any other shape afterwards.
  const row = floats && bias?.dtype === 'float32' && sizeOf(bias.shape) === shapes.n && bias.shape.at(-1) === shapes.n;
  const fused = floats && (bias === undefined || row) ? fusedActivation(activation) : undefined;
  if (!floats) multiplyIntegers(backend, a, b, shapes, output);
  else multiplyFloats(backend, a, b, shapes, output.address, row ? backend.addressOf(bias) : 0, fused);
  const sum = bias === undefined || row ? output : addBias(backend, output, bias);
  return fused === undefined ? activate(backend, sum, inputs, attributes) : sum;
}

/** A tensor and the letters of its dimensions. */
interface Term {
  readonly tensor: TensorInfo;
  readonly letters: readonly string[];
}

/** Sums the dimensions that nobody else has. The result is a tensor of its own. */
function withoutOwn(backend: KernelContext, { tensor, letters }: Term, wanted: ReadonlySet<string>): Term {
  const axis = letters.flatMap((letter, d) => (wanted.has(letter) ? [] : [d]));
  if (axis.length === 0) return { tensor: backend.alias(tensor, tensor.shape), letters };
  const sum = reduceKernels['Sum']!(backend, { x: tensor }, { axis, keepDims: false }) as TensorInfo;
  return { tensor: sum, letters: letters.filter((letter) => wanted.has(letter)) };
}

/** The dimensions in the order of `letters`, as groups of the given sizes. */
function arranged(
  backend: KernelContext,
  term: Term,
  letters: readonly string[],
  shape: readonly number[],
): TensorInfo {
  const order = letters.map((letter) => term.letters.indexOf(letter));
  return { ...transpose(backend, term.tensor, order), shape: [...shape] };
}

/** Two terms: what both have and the result keeps is a batch, what both have and it does not is summed by a product. */
function product(backend: KernelContext, a: Term, b: Term, output: readonly string[]): Term {
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

export const matMulKernels: KernelTable = {
  BatchMatMul: matMul,
  _FusedMatMul: matMul,
  Einsum: einsum,
};
