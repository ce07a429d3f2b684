import type { NamedTensorMap, Tensor } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { type Spec, type StringSpec, shapes, specs } from '../support.js';

/** What a kernel is given. */
export interface Drawn {
  readonly inputs: Readonly<Record<string, Spec | StringSpec>>;
  readonly attributes?: Readonly<Record<string, unknown>>;
}

/** Random inputs for one kernel, to be compared with tfjs's cpu backend. */
export interface KernelCase {
  readonly draw: fc.Arbitrary<Drawn>;
  /** Largest difference, relative to max(1, |expected|). */
  readonly tolerance: number;
  /** What the cpu backend computes instead, where it does not have the kernel. */
  readonly reference?: (inputs: NamedTensorMap, attributes: Readonly<Record<string, unknown>>) => Tensor | Tensor[];
  /** How the kernel is called, where not all tensors are its inputs. */
  readonly call?: (inputs: NamedTensorMap, attributes: Readonly<Record<string, unknown>>) => Tensor | Tensor[];
}

export type KernelCases = Readonly<Record<string, KernelCase>>;

export type Dtype = 'float32' | 'int32' | 'bool';
export const ALL: readonly Dtype[] = ['float32', 'int32', 'bool'];
export const NUMBERS: readonly Dtype[] = ['float32', 'int32'];
export const FLOAT: readonly Dtype[] = ['float32'];

export const kernelCase = (draw: fc.Arbitrary<Drawn>, tolerance = 0): KernelCase => ({ draw, tolerance });

/** Any tensor of ranks 0 to 6 (or from `minRank` on), about one in three of them empty. */
export const tensors = (
  dtypes: readonly Dtype[],
  { minRank = 0, maxRank = 6, range = {} as { min?: number; max?: number } } = {},
): fc.Arbitrary<Spec> =>
  fc
    .tuple(shapes(maxRank, minRank, 4), fc.constantFrom(...dtypes))
    .chain(([shape, dtype]) => specs(shape, dtype, range));

/** A tensor that has something in it. */
export const filled = (dtypes: readonly Dtype[], { minRank = 0, maxRank = 6, most = 4 } = {}): fc.Arbitrary<Spec> =>
  fc
    .tuple(
      fc.array(fc.integer({ min: 1, max: most }), { minLength: minRank, maxLength: maxRank }),
      fc.constantFrom(...dtypes),
    )
    .chain(([shape, dtype]) => specs(shape, dtype));

/** Two shapes that broadcast: any dimension of either may be 1 or missing in front. */
export const broadcasting: fc.Arbitrary<readonly [number[], number[]]> = shapes(6, 0, 4).chain((shape) => {
  const side = fc.tuple(
    fc.integer({ min: 0, max: shape.length }),
    fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
  );
  const cut = ([from, ones]: [number, boolean[]]) => shape.map((n, d) => (ones[d] === true ? 1 : n)).slice(from);
  return fc.tuple(side, side).map(([a, b]) => [cut(a), cut(b)] as const);
});

/** A tensor and one of its axes. */
export const withAxis = (x: fc.Arbitrary<Spec>): fc.Arbitrary<readonly [Spec, number]> =>
  fc.tuple(x, fc.nat(5)).map(([spec, axis]) => [spec, axis % Math.max(1, spec.shape.length)] as const);

export const sizeOf = (shape: readonly number[]): number => shape.reduce((size, n) => size * n, 1);

/** int32 numbers from 0 to `below` - 1. */
export const indices = (shape: readonly number[], below: number): fc.Arbitrary<Spec> =>
  specs(shape, 'int32', { min: 0, max: below - 1 });

export const int32 = (values: number[], shape: number[] = [values.length]): Spec => ({ shape, dtype: 'int32', values });
