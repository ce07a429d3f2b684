import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { expectClose, expectNoTensors, holds, make, type Spec, specs, useVariant, VARIANTS } from './support.js';

/** Layer norm of x + residual in double precision. */
function layerNorm(x: Spec, residual: Spec | undefined, gamma: Spec, beta: Spec, epsilon: number): number[] {
  const n = x.shape[1]!;
  return x.values.flatMap((_, i) => {
    if (i % n !== 0) return [];
    const row = x.values.slice(i, i + n).map((value, j) => value + (residual?.values[i + j] ?? 0));
    const mean = row.reduce((a, b) => a + b, 0) / n;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n;
    return row.map((value, j) => ((value - mean) / Math.sqrt(variance + epsilon)) * gamma.values[j]! + beta.values[j]!);
  });
}

interface Case {
  readonly R: number;
  readonly H: number;
  readonly T: number;
  readonly S: number;
  readonly K: number;
  readonly N: number;
  readonly I: number;
  readonly masked: 'no' | 'shared' | 'rows';
  readonly tensors: Readonly<Record<string, Spec>>;
}

/** Attention in double precision. */
function attend({ R, H, T, S, K, N, I, masked, tensors }: Case): number[] {
  const at = (name: string, i: number, h: number, j: number, size: number) => {
    const start = ((i * H + h) * size + j) * K;
    return tensors[name]!.values.slice(start, start + K);
  };
  const result: number[] = [];
  for (let r = 0; r < R; r++) {
    for (let t = 0; t < T; t++) {
      for (let h = 0; h < H; h++) {
        const q = at('q', r, h, t, T);
        const image = Math.floor((r * N) / R);
        const columns = Array.from({ length: I + S }, (_, j) => ({
          key: j < I ? at('imageKey', image, h, j, I) : at('key', r, h, j - I, S),
          value: j < I ? at('imageValue', image, h, j, I) : at('value', r, h, j - I, S),
          mask:
            j < I || masked === 'no' ? 0 : tensors['mask']!.values[((masked === 'rows' ? r : 0) * T + t) * S + j - I]!,
        }));
        const scores = columns.map(
          ({ key, mask }) => q.reduce((sum, x, d) => sum + x * key[d]!, 0) / Math.sqrt(K) + mask,
        );
        const top = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - top));
        const total = weights.reduce((a, b) => a + b, 0);
        for (let d = 0; d < K; d++) {
          result.push(columns.reduce((sum, { value }, j) => sum + (weights[j]! / total) * value[d]!, 0));
        }
      }
    }
  }
  return result;
}

const small = (max: number) => fc.integer({ min: 1, max });

/** Every way to call the kernel: with and without image, text and mask, few and many rows. */
const cases: fc.Arbitrary<Case> = fc
  .tuple(
    ...[small(2), small(3), small(3), fc.oneof(small(9), small(40)), fc.oneof(small(8), small(40))],
    ...[fc.oneof(small(20), fc.constant(64)), fc.oneof(fc.constant(0), small(30))],
    ...[fc.constantFrom('no', 'shared', 'rows'), fc.boolean()],
  )
  .chain((drawn) => {
    const [N, perImage, H, T, S0, K, I] = drawn as number[] as [number, number, number, number, number, number, number];
    const R = N * perImage;
    const S = I > 0 && drawn[8] === true ? 0 : S0;
    const masked = S === 0 ? 'no' : (drawn[7] as Case['masked']);
    const shapes: [string, number[]][] = [
      ['q', [R, H, T, K]],
      ...(S > 0
        ? ([
            ['key', [R, H, S, K]],
            ['value', [R, H, S, K]],
          ] as [string, number[]][])
        : []),
      ...(I > 0
        ? ([
            ['imageKey', [N, H, I, K]],
            ['imageValue', [N, H, I, K]],
          ] as [string, number[]][])
        : []),
      ...(masked === 'no' ? [] : ([['mask', masked === 'rows' ? [R, T, S] : [T, S]]] as [string, number[]][])),
    ];
    return fc.tuple(...shapes.map(([, shape]) => specs(shape, 'float32', { min: -2, max: 2 }))).map((made) => ({
      ...{ R, H, T, S, K, N: I > 0 ? N : R, I, masked },
      tensors: Object.fromEntries(made.map((spec, i) => [shapes[i]![0], spec])),
    }));
  });

for (const { name } of VARIANTS) {
  describe(`${name}: fused kernels against double precision`, () => {
    before(() => useVariant(name));

    it('GitLayerNorm', () =>
      holds(
        fc
          .tuple(small(40), small(90), fc.boolean(), fc.constantFrom(1e-5, 1e-12))
          .chain(([m, n, residual, epsilon]) =>
            fc.tuple(
              ...[specs([m, n]), specs([m, n]), specs([n]), specs([n])],
              ...[fc.constant(residual), fc.constant(epsilon)],
            ),
          ),
        async (drawn) => {
          const [x, extra, gamma, beta, residual, epsilon] = drawn as [Spec, Spec, Spec, Spec, boolean, number];
          if (x.shape[1]! < 3) return; // a row of two nearly equal numbers has no stable answer
          await expectNoTensors(async () => {
            const inputs = {
              x: make(x),
              gamma: make(gamma),
              beta: make(beta),
              ...(residual ? { residual: make(extra) } : {}),
            };
            const y = tf.engine().runKernel('GitLayerNorm', inputs, { epsilon }) as tf.Tensor;
            expectClose(await y.data(), layerNorm(x, residual ? extra : undefined, gamma, beta, epsilon), 3e-5);
            tf.dispose([y, Object.values(inputs)]);
          });
        },
        60,
      ));

    it('GitAttention', () =>
      holds(
        cases,
        async (drawn) => {
          await expectNoTensors(async () => {
            const inputs = Object.fromEntries(Object.entries(drawn.tensors).map(([key, spec]) => [key, make(spec)]));
            const y = tf.engine().runKernel('GitAttention', inputs) as tf.Tensor;
            assert.deepEqual(y.shape, [drawn.R, drawn.T, drawn.H * drawn.K]);
            expectClose(await y.data(), attend(drawn), 2e-5);
            tf.dispose([y, Object.values(inputs)]);
          });
        },
        40,
      ));
  });
}

describe('simd: fused kernels', () => {
  before(() => useVariant('simd'));

  it('a finite mask of -1e9 hides a column, and rows of one image share it', async () => {
    const K = 4;
    const [q, key] = [tf.ones([1, 1, 1, K]), tf.ones([1, 1, 3, K])];
    const value = tf.tensor([1, 1, 1, 1, 5, 5, 5, 5, 3, 3, 3, 3], [1, 1, 3, K]);
    const mask = tf.tensor2d([[0, -1e9, 0]]);
    const y = tf.engine().runKernel('GitAttention', { q, key, value, mask }) as tf.Tensor;
    assert.deepEqual([...(await y.data())], [2, 2, 2, 2]);
    tf.dispose([q, key, value, mask, y]);
  });

  it('shapes that do not fit throw, and leave nothing behind', () =>
    expectNoTensors(() => {
      const [q, wrong, gamma] = [tf.ones([2, 3, 4, 5]), tf.ones([2, 3, 4, 6]), tf.ones([4])];
      const run =
        (kernel: string, inputs: Record<string, tf.Tensor>, attrs = {}) =>
        () =>
          tf.engine().runKernel(kernel, inputs, attrs);
      const before = tf.engine().backend.numDataIds();
      assert.throws(run('GitAttention', { q, key: wrong, value: wrong }), /GitAttention: key \[2,3,4,6\]/);
      assert.throws(run('GitAttention', { q }), /GitAttention: no key/);
      assert.throws(run('GitLayerNorm', { x: gamma, gamma: wrong, beta: gamma }, { epsilon: 0 }), /GitLayerNorm/);
      assert.throws(run('GitLinear', { x: gamma, weight: wrong }, { activation: 'none' }), /GitLinear/);
      assert.throws(run('GitLinear', { x: gamma, weight: wrong }, { activation: 'tanh' }), /unsupported-activation/);
      assert.equal(tf.engine().backend.numDataIds(), before);
      tf.dispose([q, wrong, gamma]);
    }));

  it('numbers of another type are refused by name', () =>
    expectNoTensors(() => {
      const [whole, x, g] = [tf.ones([2, 2, 2, 2], 'int32'), tf.ones([2, 2, 2, 2]), tf.ones([2])];
      const [w, wholeMatrix] = [tf.ones([2, 2]), tf.ones([2, 2], 'int32')];
      for (const [kernel, inputs] of [
        ['GitAttention', { q: x, key: x, value: whole }],
        ['GitLayerNorm', { x, residual: whole, gamma: g, beta: g }],
        ['GitLinear', { x: whole, weight: w }],
        ['GitLinear', { x, weight: wholeMatrix }],
      ] as [string, tf.NamedTensorMap][]) {
        const run = () => tf.engine().runKernel(kernel, inputs, { epsilon: 0, activation: 'none' });
        assert.throws(run, new RegExp(`simd: ${kernel}: unsupported-dtype: only float32, not int32`));
      }
      tf.dispose([whole, x, g, w, wholeMatrix]);
    }));

  it('attention to more columns than memory has room for says so', () => {
    const [q, keys] = [tf.zeros([1, 1, 8, 1]), tf.zeros([1, 1, 18_000_000, 1])]; // 304 bytes a column: more than 32 bits can count
    const attend = () => tf.engine().runKernel('GitAttention', { q, key: keys, value: keys });
    assert.throws(attend, /memory-limit: .*52\d\d MiB wanted/);
    tf.dispose([q, keys]);
  });

  it('layer norm is over the last axis, whatever the rank', () =>
    expectNoTensors(async () => {
      const [gamma, beta] = [tf.randomUniform([10], 0, 2, 'float32', 3), tf.randomUniform([10], -1, 1, 'float32', 4)];
      const flat = tf.randomUniform([24, 10], -1, 1, 'float32', 5);
      const norm = (x: tf.Tensor, residual: tf.Tensor) =>
        tf.engine().runKernel('GitLayerNorm', { x, residual, gamma, beta }, { epsilon: 1e-5 }) as tf.Tensor;
      const expected = norm(flat, flat);
      for (const outer of [[24], [2, 12], [2, 3, 4], [2, 1, 3, 4]]) {
        const x = tf.reshape(flat, [...outer, 10]);
        const got = norm(x, x);
        assert.deepEqual(got.shape, [...outer, 10]);
        assert.deepEqual(await got.data(), await expected.data());
        tf.dispose([x, got]);
      }
      const row = tf.tidy(() => tf.reshape(tf.slice(flat, [0, 0], [1, 10]), [10]));
      const [alone, none] = [norm(row, row), tf.tidy(() => norm(tf.zeros([2, 0, 10]), tf.zeros([2, 0, 10])))];
      assert.deepEqual([alone.shape, none.shape], [[10], [2, 0, 10]]);
      assert.deepEqual(await alone.data(), (await expected.data()).slice(0, 10));
      tf.dispose([gamma, beta, flat, expected, row, alone, none]);
    }));

  it('a linear layer keeps the leading axes of its input, however many', async () => {
    await useVariant('simd');
    const run = (x: tf.Tensor) =>
      tf.engine().runKernel('GitLinear', { x, weight, bias }, { activation: 'gelu' }) as tf.Tensor;
    const weight = tf.randomUniform([10, 7], -1, 1, 'float32', 3);
    const bias = tf.randomUniform([7], -1, 1, 'float32', 4);
    const flat = tf.randomUniform([24, 10], -1, 1, 'float32', 5);
    const expected = run(flat);
    for (const outer of [
      [2, 12],
      [1, 24],
      [2, 3, 4],
    ]) {
      const x = tf.reshape(flat, [...outer, 10]);
      const got = run(x);
      assert.deepEqual(got.shape, [...outer, 7]);
      assert.deepEqual(await got.data(), await expected.data());
      tf.dispose([x, got]);
    }
    const empty = tf.zeros([2, 0, 10]);
    const none = run(empty);
    assert.deepEqual(none.shape, [2, 0, 7]);
    tf.dispose([weight, bias, flat, expected, empty, none]);
  });
});
