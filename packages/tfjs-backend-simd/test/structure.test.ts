import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { holds, type Spec, sameAsCpu, shapes, specs, useVariant } from './support.js';

const VARIANT = 'simd';

const dtypes = fc.constantFrom<Spec['dtype']>('float32', 'int32', 'bool');

/** A tensor of rank 1 or more, some of its axes, and whether to keep them. */
const reductions = (dtype: fc.Arbitrary<Spec['dtype']>) =>
  fc
    .tuple(shapes(5, 1), dtype, fc.boolean(), fc.array(fc.nat(4), { maxLength: 3 }))
    .chain(([shape, type, keep, picks]) =>
      specs(shape, type).map((x) => ({ x, keep, axes: [...new Set(picks.map((axis) => axis % shape.length))] })),
    );

describe('simd: reductions against tfjs’s cpu backend', () => {
  before(() => useVariant(VARIANT));

  const both = fc.constantFrom<Spec['dtype']>('float32', 'int32');
  const cases: Readonly<Record<string, readonly [typeof tf.sum | typeof tf.all, fc.Arbitrary<Spec['dtype']>]>> = {
    sum: [tf.sum, dtypes],
    mean: [tf.mean, dtypes],
    max: [tf.max, both],
    min: [tf.min, both],
    prod: [tf.prod, both],
    all: [tf.all, fc.constant('bool')],
    any: [tf.any, fc.constant('bool')],
  };
  for (const [name, [op, types]] of Object.entries(cases)) {
    it(name, () =>
      holds(
        reductions(types),
        async ({ x, keep, axes }) => {
          const hasNothing = x.shape.includes(0);
          if (hasNothing && (name === 'all' || name === 'any')) return; // undefined there: cpu stores what it never set
          await sameAsCpu(VARIANT, [x], (t) => op(t as never, axes, keep), 3e-6);
        },
        60,
      ),
    );
  }

  it('argMax and argMin', () =>
    holds(reductions(both), async ({ x, axes }) => {
      if (x.shape.includes(0)) return;
      await sameAsCpu(VARIANT, [x], (t) => [tf.argMax(t!, axes[0] ?? 0), tf.argMin(t!, axes[0] ?? 0)]);
    }));

  it('cumsum and cumprod', () =>
    holds(fc.tuple(reductions(both), fc.boolean(), fc.boolean()), async ([{ x, axes }, exclusive, reverse]) => {
      if (x.shape.includes(0)) return;
      const axis = axes[0] ?? 0;
      await sameAsCpu(
        ...([VARIANT, [x]] as const),
        (t) => [tf.cumsum(t!, axis, exclusive, reverse), tf.cumprod(t!, axis, exclusive, reverse)],
        1e-5,
      );
    }));

  it('softmax and logSoftmax', () =>
    holds(
      shapes(4, 1, 40).chain((shape) => specs(shape, 'float32', { min: -30, max: 30 })),
      (x) => sameAsCpu(VARIANT, [x], (t) => [tf.softmax(t!), tf.logSoftmax(t!)], 5e-6),
    ));

  it('topk, with ties', () =>
    holds(
      fc
        .tuple(shapes(3, 1, 90), fc.nat(200), both)
        .chain(([shape, k, type]) => specs(shape, type).map((x) => ({ x, k: k % ((shape.at(-1) ?? 0) + 1) }))),
      async ({ x, k }) => {
        if (x.shape.includes(0) || k === 0) return;
        await sameAsCpu(VARIANT, [x], (t) => Object.values(tf.topk(t!, k)));
      },
      60,
    ));

  it('long rows and many rows, in several chunks', () =>
    holds(
      fc.tuple(specs([3, 50_001]), specs([20_003, 5])),
      ([wide, tall]) =>
        sameAsCpu(VARIANT, [wide, tall], (a, b) => [tf.sum(a!, 1), tf.max(a!, 1), tf.mean(b!, 1), tf.min(b!, 0)], 3e-6),
      2,
    ));
});

/** A permutation of 0 … n - 1. */
const permutations = (n: number) =>
  fc.shuffledSubarray(
    Array.from({ length: n }, (_, i) => i),
    { minLength: n, maxLength: n },
  );

describe('simd: moving elements, against tfjs’s cpu backend', () => {
  before(() => useVariant(VARIANT));

  it('transpose', () =>
    holds(
      fc
        .tuple(shapes(6, 0, 9), dtypes)
        .chain(([shape, type]) => fc.tuple(specs(shape, type), permutations(shape.length))),
      ([x, order]) => sameAsCpu(VARIANT, [x], (t) => tf.transpose(t!, order)),
      100,
    ));

  it('slice', () =>
    holds(
      fc.tuple(shapes(5, 1), dtypes, fc.array(fc.nat(60), { minLength: 10, maxLength: 10 })).chain(([shape, type, r]) =>
        specs(shape, type).map((x) => {
          const begin = shape.map((n, d) => (n === 0 ? 0 : r[d]! % n));
          return { x, begin, size: shape.map((n, d) => r[d + 5]! % (n - begin[d]! + 1)) };
        }),
      ),
      ({ x, begin, size }) => sameAsCpu(VARIANT, [x], (t) => tf.slice(t!, begin, size)),
      80,
    ));

  it('stridedSlice', () =>
    holds(
      fc
        .tuple(shapes(4, 1), fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 12, maxLength: 12 }), fc.nat(15))
        .chain(([shape, r, mask]) => specs(shape).map((x) => ({ x, r, mask }))),
      ({ x, r, mask }) => {
        const rank = x.shape.length;
        const strides = r.slice(8, 8 + rank).map((step) => (step === 0 ? 1 : step));
        return sameAsCpu(VARIANT, [x], (t) =>
          tf.stridedSlice(t!, r.slice(0, rank), r.slice(4, 4 + rank), strides, mask & 3, mask >> 1),
        );
      },
      80,
    ));

  it('concat, stack, unstack and split', () =>
    holds(
      fc.tuple(shapes(4, 1), fc.nat(3), fc.integer({ min: 1, max: 4 }), dtypes).chain(([shape, at, parts, type]) => {
        const axis = at % shape.length;
        const widths = Array.from({ length: parts }, (_, i) => shape.map((n, d) => (d === axis ? n + i : n)));
        return fc.tuple(fc.constant(axis), fc.tuple(...widths.map((own) => specs(own, type))));
      }),
      async ([axis, parts]) => {
        const sizes = parts.map((part) => part.shape[axis]!);
        await sameAsCpu(VARIANT, parts, (...all) => tf.concat(all, axis));
        await sameAsCpu(VARIANT, parts, (...all) => tf.split(tf.concat(all, axis), sizes, axis));
        await sameAsCpu(VARIANT, [parts[0]!], (t) => tf.stack([t!, t!], axis));
        if (parts[0]!.shape[axis]! > 0) await sameAsCpu(VARIANT, [parts[0]!], (t) => tf.unstack(t!, axis));
      },
      60,
    ));

  it('pad, mirrorPad, tile and reverse', () =>
    holds(
      fc
        .tuple(shapes(4, 1, 5), dtypes, fc.array(fc.nat(3), { minLength: 8, maxLength: 8 }))
        .chain(([shape, type, r]) => specs(shape, type).map((x) => ({ x, r }))),
      async ({ x, r }) => {
        const pairs = x.shape.map((_, d): [number, number] => [r[d]!, r[d + 4]!]);
        await sameAsCpu(VARIANT, [x], (t) => tf.pad(t!, pairs, x.dtype === 'float32' ? 2.5 : 0));
        await sameAsCpu(VARIANT, [x], (t) =>
          tf.tile(
            t!,
            x.shape.map((_, d) => r[d]!),
          ),
        );
        await sameAsCpu(VARIANT, [x], (t) => tf.reverse(t!, [r[0]! % x.shape.length]));
        const small = pairs.map(([a, b], d): [number, number] => [
          Math.min(a, Math.max(0, x.shape[d]! - 1)),
          Math.min(b, Math.max(0, x.shape[d]! - 1)),
        ]);
        if (x.shape.includes(0)) return;
        await sameAsCpu(VARIANT, [x], (t) => [
          tf.mirrorPad(t!, small, 'reflect'),
          tf.mirrorPad(t!, small, 'symmetric'),
        ]);
      },
      50,
    ));

  it('gather, by axis and in batches', () =>
    holds(
      fc
        .tuple(shapes(4, 1), fc.nat(3), dtypes, shapes(2))
        .chain(([shape, at, type, wanted]) =>
          fc.tuple(specs(shape, type), fc.constant(at % shape.length), specs(wanted, 'int32', { min: 0, max: 1e6 })),
        ),
      async ([x, axis, indices]) => {
        const n = x.shape[axis]!;
        if (n === 0 || x.shape.includes(0)) return;
        const inside = { ...indices, values: indices.values.map((i) => i % n) };
        await sameAsCpu(VARIANT, [x, inside], (t, i) => tf.gather(t!, i as tf.Tensor1D, axis));
        if (x.shape.length < 2) return;
        const rows: Spec = { shape: [x.shape[0]!, 2], dtype: 'int32', values: Array(2 * x.shape[0]!).fill(0) };
        await sameAsCpu(VARIANT, [x, rows], (t, i) => tf.gather(t!, i as tf.Tensor2D, 1, 1));
      },
      60,
    ));

  it('gatherND, where, oneHot, expandDims, reshape', () =>
    holds(
      shapes(3, 1).chain((shape) => fc.tuple(specs(shape), specs(shape), specs(shape, 'bool'))),
      async ([a, b, choice]) => {
        await sameAsCpu(VARIANT, [choice, a, b], (c, t, e) => tf.where(c!, t!, e!));
        await sameAsCpu(VARIANT, [a], (t) =>
          [tf.expandDims(t!, -1), tf.reshape(t!, [-1])].slice(a.shape.includes(0) ? 2 : 0),
        );
        await sameAsCpu(VARIANT, [{ ...choice, dtype: 'int32' }], (t) => tf.oneHot(t as tf.Tensor1D, 3, 2, -1));
        if (a.shape.includes(0)) return;
        const first: Spec = { shape: [2, 1], dtype: 'int32', values: [0, a.shape[0]! - 1] };
        await sameAsCpu(VARIANT, [a, first], (t, i) => tf.gatherND(t!, i!));
      },
    ));

  it('range, linspace, fill, eye', () =>
    holds(
      fc.tuple(fc.integer({ min: -20, max: 20 }), fc.integer({ min: -20, max: 20 }), fc.integer({ min: 1, max: 5 })),
      ([start, stop, step]) =>
        sameAsCpu(VARIANT, [], () => [
          tf.range(start, stop, stop < start ? -step : step),
          tf.range(start, stop, stop < start ? -step : step, 'int32'),
          tf.linspace(start, stop, step),
          tf.fill([step, 2], stop, 'int32'),
          tf.eye(step),
        ]),
    ));

  it('strings move and compare; arithmetic on them throws by name', async () => {
    await tf.setBackend(VARIANT);
    const t = tf.tensor2d([
      ['a', 'bc'],
      ['d', 'é'],
    ]);
    assert.deepEqual(await tf.slice(t, [0, 1], [2, 1]).data(), ['bc', 'é'] as never);
    assert.deepEqual(await tf.tile(t, [1, 2]).data(), ['a', 'bc', 'a', 'bc', 'd', 'é', 'd', 'é'] as never);
    const wide = tf.concat([t, tf.slice(t, [0, 0], [2, 1])], 1);
    assert.deepEqual(await wide.data(), ['a', 'bc', 'a', 'd', 'é', 'd'] as never);
    assert.deepEqual([...(await tf.equal(t, tf.tensor1d(['a', 'é'])).data())], [1, 0, 0, 1]);
    assert.throws(() => tf.engine().runKernel('Exp', { x: t }), /simd: Exp: unsupported-dtype: string/);
    t.dispose();
  });

  it('an index outside the tensor is an error with its value', async () => {
    await tf.setBackend(VARIANT);
    assert.throws(
      () => tf.gather(tf.tensor1d([1, 2]), tf.tensor1d([2], 'int32')),
      /index-out-of-range: GatherV2: the index value 2 is not in \[0, 1\]/,
    );
  });
});
