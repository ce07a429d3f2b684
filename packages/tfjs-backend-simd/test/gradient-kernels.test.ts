import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { setThreads, uploadWeight, type WeightFormat } from '../src/index.js';
import { expectNoTensors, holds, useVariant, wave } from './support.js';

const run = (name: string, inputs: Record<string, tf.Tensor | undefined>, attributes = {}): tf.Tensor[] => {
  const present = Object.fromEntries(Object.entries(inputs).filter(([, tensor]) => tensor !== undefined));
  return [tf.engine().runKernel(name, present as tf.NamedTensorMap, attributes)].flat() as tf.Tensor[];
};

/** The bits of tensors, which are disposed of. */
async function bitsOf(tensors: readonly tf.Tensor[]): Promise<number[][]> {
  const all: number[][] = [];
  for (const tensor of tensors) all.push([...new Int32Array(((await tensor.data()) as Float32Array).slice().buffer)]);
  tf.dispose([...tensors]);
  return all;
}

/** Samples of rows, in one batch. */
interface Samples {
  readonly lengths: readonly number[];
  readonly inputs: number;
  readonly outputs: number;
  readonly seed: number;
}

const samples: fc.Arbitrary<Samples> = fc.record({
  lengths: fc.array(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 250, max: 270 })), {
    minLength: 2,
    maxLength: 4,
  }),
  inputs: fc.oneof(fc.integer({ min: 2, max: 20 }), fc.integer({ min: 200, max: 230 })),
  outputs: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 250, max: 300 })),
  seed: fc.integer({ min: 1, max: 1000 }),
});

/** All gradients that are sums over rows, of one micro-batch after the other. */
function gradientsOf({ lengths, inputs, outputs, seed }: Samples, cuts: readonly (readonly [number, number])[]) {
  return tf.tidy(() => {
    const total = lengths.reduce((a, b) => a + b, 0);
    const [x, dy] = [wave([total, inputs], 0.7 + seed / 1e4), wave([total, outputs], 0.3 + seed / 1e4)];
    const [dx, gamma] = [wave([total, inputs], 0.41), wave([inputs], 0.2)];
    const ids = tf.cast(tf.mod(tf.range(0, total), 7), 'int32');
    let sums: (tf.Tensor | undefined)[] = [];
    for (const [from, to] of cuts) {
      const groups = lengths.slice(from, to);
      const [first, count] = [lengths.slice(0, from), groups].map((all) => all.reduce((a, b) => a + b, 0)) as [
        ...[number, number],
      ];
      const part = (t: tf.Tensor): tf.Tensor => tf.slice(t, first, count);
      const own = { x: part(x), dy: part(dy) };
      const [weight, bias, ofGamma, ofBeta, table] = sums;
      sums = [
        ...run('GitLinearWeightGradient', { ...own, sum: weight }, { groups }),
        ...run('GitBiasGradient', { dy: own.dy, sum: bias }, { groups }),
        ...run(
          'GitLayerNormGradient',
          { x: own.x, dy: part(dx), gamma, gammaSum: ofGamma, betaSum: ofBeta },
          { groups, epsilon: 1e-5 },
        ).slice(1),
        ...run('GitEmbeddingGradient', { dy: own.dy, ids: part(ids), sum: table }, { rows: 7, padding: 3 }),
      ];
    }
    return sums as tf.Tensor[];
  });
}

for (const variant of ['simd-threads', 'simd-plain-shared']) {
  describe(`${variant}: gradients that are sums over rows`, () => {
    before(() => useVariant(variant));

    it('have the same bits in one batch and in micro-batches, with any number of threads', () =>
      holds(
        samples,
        async (drawn) => {
          const { length } = drawn.lengths;
          const cuts = [
            [[0, length]],
            drawn.lengths.map((_, i) => [i, i + 1]),
            [
              [0, 1],
              [1, length],
            ],
          ] as [number, number][][];
          const found: number[][][] = [];
          for (const threads of [1, 3]) {
            setThreads(threads, variant);
            for (const cut of cuts) found.push(await expectNoTensors(async () => bitsOf(gradientsOf(drawn, cut))));
          }
          for (const other of found.slice(1)) assert.deepEqual(other, found[0]);
        },
        12,
      ));

    it('attention, inputs and losses have the same bits with any number of threads', async () => {
      const make = () =>
        tf.tidy(() => {
          const [q, key, dy] = [wave([2, 3, 70, 20], 0.3), wave([2, 3, 90, 20], 0.2), wave([2, 3, 70, 20], 0.9)];
          const labels = tf.tensor1d([5, 0, 899, 7, 7], 'int32');
          return [
            ...run('GitAttentionGradient', { q, key, value: wave([2, 3, 90, 20], 0.5), dy, mask: wave([70, 90], 3) }),
            ...run('GitLinearInputGradient', { dy: wave([300, 700], 0.1), weight: wave([130, 700], 0.2) }),
            ...run('GitCrossEntropyGradient', { logits: wave([5, 900], 0.77), labels }, { smoothing: 0.1, total: 3 }),
            ...run('GitSquaredNorm', { x: wave([300, 700], 0.1) }),
          ];
        });
      const found: number[][][] = [];
      for (const threads of [1, 3, 2]) {
        setThreads(threads, variant);
        for (let again = 0; again < 3; again++) found.push(await bitsOf(make()));
      }
      for (const other of found.slice(1)) assert.deepEqual(other, found[0]);
    });
  });
}

describe('simd: backward kernels', () => {
  before(() => useVariant('simd'));

  for (const format of ['bf16', 'f16', 'int8'] as readonly WeightFormat[]) {
    it(`the input's gradient through a weight in ${format} is that through the float32 weight it reads as`, () =>
      holds(
        fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 300 })),
        ([m, k, n]) =>
          expectNoTensors(async () => {
            const data = Float32Array.from({ length: k * n }, (_, i) => Math.sin(i * 0.7));
            const narrow = uploadWeight({ format, data, shape: [k, n] });
            const [plain, dy] = [tf.tensor2d((await narrow.data()) as Float32Array, [k, n]), wave([1, m, n], 0.37)];
            const [a, b] = [narrow, plain].map((weight) => run('GitLinearInputGradient', { dy, weight }));
            assert.deepEqual(await bitsOf(a!), await bitsOf(b!));
            tf.dispose([narrow, plain, dy]);
          }),
        15,
      ));
  }

  it('AdamW leaves alone what shares its numbers, and gives the same in panels and in rows', () =>
    expectNoTensors(async () => {
      const attributes = {
        ...{ scale: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        ...{ learningRate: 0.1, weightDecay: 0.01, step: 1 },
      };
      const [x, dy] = [wave([1, 20, 30], 0.7), wave([1, 20, 41], 0.3)];
      const packed = run('GitLinearWeightGradient', { x, dy })[0]!;
      const plain = tf.tensor2d((await packed.data()) as Float32Array, [30, 41]);
      const update = (gradient: tf.Tensor, parameter: tf.Tensor, first?: tf.Tensor, second?: tf.Tensor) =>
        run('GitAdamW', { parameter, gradient, first, second }, attributes);
      const results: number[][][] = [];
      for (const [gradient, isPacked] of [
        [packed, false],
        [plain, false],
        [plain, true],
      ] as const) {
        const shared = wave([30, 41], 0.2);
        if (isPacked) run('GitPackWeight', { w: shared })[0]!.dispose();
        const [again, before] = [shared.clone(), await shared.data()];
        const one = update(gradient, again);
        again.dispose();
        assert.deepEqual(await shared.data(), before);
        const bytes = tf.engine().backend.memory() as unknown as { simdBytesInUse: number };
        if (isPacked) run('GitPackWeight', { w: one[0]! })[0]!.dispose();
        const two = update(gradient, ...(one as [tf.Tensor, tf.Tensor, tf.Tensor]));
        const after = tf.engine().backend.memory() as unknown as { simdBytesInUse: number };
        if (!isPacked) assert.equal(after.simdBytesInUse, bytes.simdBytesInUse, 'no copy of what nobody else has');
        tf.dispose(one);
        results.push(await bitsOf(two));
        shared.dispose();
      }
      assert.deepEqual(results[1], results[0]);
      assert.deepEqual(results[2], results[0]);
      tf.dispose([x, dy, packed, plain]);
    }));

  it('what does not fit throws, and leaves nothing behind', () =>
    expectNoTensors(() => {
      const [x, dy, weight, row] = [tf.ones([1, 4, 3]), tf.ones([1, 4, 5]), tf.ones([3, 5]), tf.ones([7])];
      const odd = tf.tensor1d([0, 1, 9, 0], 'int32');
      const before = tf.engine().backend.numDataIds();
      const cases: [string, Record<string, tf.Tensor>, object, RegExp][] = [
        ['GitLinearInputGradient', { dy: x, weight }, {}, /do not fit/],
        ['GitLinearWeightGradient', { x, dy, sum: row }, {}, /do not fit/],
        ['GitLinearWeightGradient', { x, dy }, { groups: [3] }, /shape: groups of 3 rows for 4/],
        ['GitBiasGradient', { dy, sum: row }, {}, /do not fit/],
        ['GitLayerNormGradient', { x, dy, gamma: row }, { epsilon: 0 }, /do not fit/],
        ['GitActivationGradient', { x, dy }, { activation: 'gelu' }, /differ/],
        ['GitActivation', { x }, { activation: 'tanh' }, /unsupported-activation/],
        ['GitAttentionGradient', { q: x, key: x, value: x, dy }, {}, /do not fit/],
        ['GitEmbeddingGradient', { dy, ids: odd }, { rows: 9 }, /index-out-of-range: 9 is not from 0 to 8/],
        ['GitCrossEntropyGradient', { logits: weight, labels: row }, { smoothing: 0, total: 1 }, /do not fit/],
        ['GitAdamW', { parameter: row, gradient: weight }, {}, /differ/],
      ];
      for (const [kernel, inputs, attributes, message] of cases)
        assert.throws(() => run(kernel, inputs, attributes), message, kernel);
      assert.equal(tf.engine().backend.numDataIds(), before);
      tf.dispose([x, dy, weight, row, odd]);
    }));
});
