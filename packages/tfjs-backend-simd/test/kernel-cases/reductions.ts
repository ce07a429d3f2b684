import fc from 'fast-check';
import { specs } from '../support.js';
import {
  ALL,
  type Dtype,
  FLOAT,
  filled,
  indices,
  type KernelCase,
  type KernelCases,
  kernelCase,
  NUMBERS,
  sizeOf,
  withAxis,
} from './case.js';

/** Some axes of a tensor. Without numbers cpu stores what it never set, so these tensors have some. */
const reduction = (dtypes: readonly Dtype[], tolerance = 0, name = 'axis'): KernelCase =>
  kernelCase(
    fc
      .tuple(filled(dtypes, { minRank: 1 }), fc.boolean(), fc.array(fc.nat(5), { minLength: 1, maxLength: 3 }))
      .map(([x, keepDims, picks]) => ({
        inputs: { x },
        attributes: { [name]: [...new Set(picks.map((axis) => axis % x.shape.length))], keepDims },
      })),
    tolerance,
  );

const argument = kernelCase(
  withAxis(filled(NUMBERS, { minRank: 1 })).map(([x, axis]) => ({ inputs: { x }, attributes: { axis } })),
);

const cumulative = kernelCase(
  fc
    .tuple(withAxis(filled(NUMBERS, { minRank: 1 })), fc.boolean(), fc.boolean())
    .map(([[x, axis], exclusive, reverse]) => ({ inputs: { x }, attributes: { axis, exclusive, reverse } })),
  1e-5,
);

/** Numbers below 6, and weights for each or none at all. */
const counted = (shapes: fc.Arbitrary<number[]>, binaryOutput: boolean): KernelCase =>
  kernelCase(
    fc
      .tuple(shapes, fc.boolean())
      .chain(([shape, weighted]) => fc.tuple(indices(shape, 6), specs(weighted ? shape : [0])))
      .map(([x, weights]) => ({ inputs: { x, weights }, attributes: { size: 5, binaryOutput } })),
    1e-6,
  );

const length = fc.integer({ min: 1, max: 20 });

export const reductionCases: KernelCases = {
  Sum: reduction(ALL, 3e-6),
  Prod: reduction(NUMBERS, 1e-5),
  Mean: reduction(ALL, 3e-6),
  Max: reduction(NUMBERS, 0, 'reductionIndices'),
  Min: reduction(NUMBERS),
  All: reduction(['bool']),
  Any: reduction(['bool']),
  ArgMax: argument,
  ArgMin: argument,
  Cumsum: cumulative,
  Cumprod: cumulative,
  Softmax: kernelCase(
    filled(FLOAT, { minRank: 1, most: 9 }).map((logits) => ({
      inputs: { logits },
      attributes: { dim: logits.shape.length - 1 },
    })),
    1e-6,
  ),
  TopK: kernelCase(
    fc.tuple(filled(NUMBERS, { minRank: 1, most: 9 }), fc.nat(9)).map(([x, k]) => ({
      inputs: { x },
      attributes: { k: 1 + (k % x.shape.at(-1)!), sorted: true },
    })),
  ),
  Bincount: counted(
    length.map((n) => [n]),
    false,
  ),
  DenseBincount: counted(fc.array(length, { minLength: 1, maxLength: 2 }), false),
  UnsortedSegmentSum: kernelCase(
    filled(FLOAT, { minRank: 1 }).chain((x) =>
      specs(x.shape.slice(0, 1), 'int32', { min: -1, max: 4 }).map((segmentIds) => ({
        inputs: { x, segmentIds },
        attributes: { numSegments: 4 },
      })),
    ),
    1e-6,
  ),
  ScatterNd: kernelCase(
    fc
      .tuple(fc.integer({ min: 1, max: 6 }), fc.constantFrom<Dtype>(...NUMBERS), filled(FLOAT, { maxRank: 3 }))
      .chain(([n, dtype, { shape }]) =>
        fc.tuple(fc.constant([3, 2, ...shape]), indices([n, 2], 2), specs([n, ...shape], dtype)),
      )
      .map(([shape, places, updates]) => ({ inputs: { indices: places, updates }, attributes: { shape } })),
    1e-6,
  ),
  TensorScatterUpdate: kernelCase(
    filled(ALL, { minRank: 1 }).chain((tensor) =>
      fc
        .tuple(indices([3, 1], tensor.shape[0]!), specs([3, ...tensor.shape.slice(1)], tensor.dtype as Dtype))
        .map(([places, updates]) => ({ inputs: { tensor, indices: places, updates } })),
    ),
  ),
  SparseToDense: kernelCase(
    fc
      .tuple(filled(FLOAT, { minRank: 1, maxRank: 3 }), fc.constantFrom<Dtype>(...ALL), fc.boolean())
      .chain(([{ shape }, dtype, single]) =>
        fc.tuple(
          ...[fc.constant(shape), indices([3, shape.length], Math.min(...shape))],
          ...[specs(single ? [] : [3], dtype), specs([], dtype)],
        ),
      )
      .map(([outputShape, sparseIndices, sparseValues, defaultValue]) => ({
        inputs: { sparseIndices, sparseValues, defaultValue } as never,
        attributes: { outputShape },
      })),
  ),
  GatherV2: kernelCase(
    withAxis(filled(ALL, { minRank: 1, maxRank: 5 })).chain(([x, axis]) =>
      filled(FLOAT, { maxRank: 2 })
        .chain(({ shape }) => indices(shape, x.shape[axis]!))
        .map((places) => ({ inputs: { x, indices: places }, attributes: { axis, batchDims: 0 } })),
    ),
  ),
  GatherNd: kernelCase(
    fc
      .tuple(filled(NUMBERS, { minRank: 1, maxRank: 5 }), fc.nat(4), fc.integer({ min: 1, max: 5 }))
      .chain(([params, depth, n]) =>
        indices([n, 1 + (depth % params.shape.length)], Math.min(...params.shape)).map((places) => ({
          inputs: { params, indices: places },
        })),
      ),
  ),
  Unique: kernelCase(
    withAxis(filled(ALL, { minRank: 1 })).map(([x, axis]) => ({
      inputs: { x: { ...x, values: x.values.map((value) => Math.round(value / 3)) } },
      attributes: { axis },
    })),
  ),
  SearchSorted: kernelCase(
    fc
      .tuple(...[1, 2, 3].map(() => fc.integer({ min: 1, max: 9 })), fc.constantFrom('left', 'right'))
      .chain(([rows, n, m, side]) =>
        fc.tuple(
          fc.constant(n as number),
          fc.constant(side),
          indices([rows, n] as number[], 5),
          indices([rows, m] as number[], 6),
        ),
      )
      .map(([n, side, sequence, values]) => {
        const sorted = Array.from({ length: sizeOf(sequence.shape) / n }, (_, row) =>
          sequence.values.slice(row * n, (row + 1) * n).sort((a, b) => a - b),
        );
        return { inputs: { sortedSequence: { ...sequence, values: sorted.flat() }, values }, attributes: { side } };
      }),
  ),
};
