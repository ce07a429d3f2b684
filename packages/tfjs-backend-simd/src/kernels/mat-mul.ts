import {
  type _FusedMatMulAttrs,
  type BatchMatMulAttrs,
  backend_util,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import type { UNARY } from '../memory-map.js';
import { multiply, type Panels } from '../product.js';
import type { SimdBackend } from '../simd-backend.js';
import { packedBytes } from '../stored.js';
import { activate, addBias, fusedActivation } from './fused.js';
import { type Attributes, type Inputs, input, type KernelTable, sizeOf } from './table.js';

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
function panelsOf(backend: SimdBackend, b: TensorInfo, { k, n, transposeB }: Shapes): (index: number) => Panels {
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
  backend: SimdBackend,
  a: TensorInfo,
  b: TensorInfo,
  shapes: Shapes,
  c: number,
  bias: number,
  activation: keyof typeof UNARY | undefined,
): void {
  const { m, k, n, transposeA, pairs } = shapes;
  if (m * n === 0) return;
  const [from, panels] = [backend.addressOf(a), panelsOf(backend, b, shapes)];
  pairs.forEach(([i, j], at) => {
    multiply(backend, {
      ...{ m, k, n, a: from + i * m * k * 4, lda: (transposeA ? m : k) * 4, transposed: transposeA },
      ...{ b: panels(j), c: c + at * m * n * 4, ldc: n * 4, bias },
      ...(activation === undefined ? {} : { activation }),
    });
  });
}

/** int32 products, plainly. */
function multiplyIntegers(backend: SimdBackend, a: TensorInfo, b: TensorInfo, shapes: Shapes, c: TensorInfo): void {
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

function matMul(backend: SimdBackend, inputs: Inputs, attributes: Attributes): TensorInfo {
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

export const matMulKernels: KernelTable = { BatchMatMul: matMul, _FusedMatMul: matMul };
