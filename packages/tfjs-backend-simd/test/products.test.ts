import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { FAST_K_BLOCK } from '../src/abi.js';
import { type LinearActivation, uploadWeight, type WeightFormat } from '../src/index.js';
import { expectNoTensors, holds, make, type Spec, sameAsCpu, specs, useVariant, VARIANTS } from './support.js';

/** A size from a small or a larger range, sometimes 0. */
const size = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 70 }), fc.constant(0));

/** Up to 70 products of such numbers: sums of some tens at most, of which float32 keeps 2e-6. */
const ONE = { min: -1, max: 1 };
const TOLERANCE = 5e-6;

/** a [..., m, k] and b [..., k, n], either transposed, their leading dimensions broadcasting. */
const products = fc
  .tuple(
    size,
    size,
    size,
    fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
    fc.boolean(),
    fc.boolean(),
    fc.nat(3),
  )
  .chain(([m, k, n, batch, transposeA, transposeB, ones]) => {
    const aBatch = batch.map((b) => (ones === 1 ? 1 : b));
    const bBatch = batch.map((b) => (ones === 2 ? 1 : b)).slice(ones === 3 ? batch.length : 0);
    return fc
      .tuple(
        specs([...aBatch, ...(transposeA ? [k, m] : [m, k])], 'float32', ONE),
        specs([...bBatch, ...(transposeB ? [n, k] : [k, n])], 'float32', ONE),
        specs([n], 'float32', ONE),
      )
      .map(([a, b, bias]) => ({ a, b, bias, transposeA, transposeB }));
  });

const exact = (x: number, activation: LinearActivation) => {
  if (activation === 'none') return x;
  return activation === 'gelu' ? (x / 2) * (1 + erf(x / Math.SQRT2)) : x / (1 + Math.exp(-1.702 * x));
};

/** erf in double precision: the series near zero, the continued fraction beyond. */
function erf(x: number): number {
  if (Math.abs(x) > 3) {
    let fraction = 0;
    for (let i = 60; i > 0; i--) fraction = i / 2 / (Math.abs(x) + fraction);
    return Math.sign(x) * (1 - Math.exp(-x * x) / ((Math.abs(x) + fraction) * Math.sqrt(Math.PI)));
  }
  let [sum, term] = [x, x];
  for (let i = 1; i < 80; i++) {
    term *= (-x * x) / i;
    sum += term / (2 * i + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** What 1 stands for in a row, or in a block of one, as products against int8 and int8-fast weights round them. */
const STEPS = {
  int8: (block: number[]) => Math.max(...block.map(Math.abs)) / 32_767,
  'int8-fast': (block: number[]) => Math.fround(Math.max(0, ...block) / 126) - Math.fround(Math.min(0, ...block) / 126),
} as const;

/** A matrix whose rows are rounded to whole numbers of such steps. */
function roundedRows({ shape, dtype, values }: Spec, format: keyof typeof STEPS, size: number): Spec {
  const k = shape[1] ?? 0;
  const rounded = values.map((x, at) => {
    const [row, column] = [Math.floor(at / k), at % k];
    const first = column - (column % size);
    const step = STEPS[format](values.slice(row * k + first, row * k + Math.min(k, first + size)));
    if (step === 0) return 0;
    const word = Math.fround(x * Math.fround(1 / step));
    const even = 2 * Math.round(word / 2);
    const near = (Math.abs(word - even) === 0.5 ? even : Math.round(word)) * step;
    assert.ok(Math.abs(near - x) <= step / 1.98);
    return near;
  });
  return { shape, dtype, values: rounded };
}

/** The largest difference of GitLinear on x to `plain` · w + bias in float64, with the weights as they read back. */
async function linearError(x: Spec, w: tf.Tensor, bias: Spec | undefined, activation: LinearActivation, plain = x) {
  const inputs = { x: make(x), weight: w, ...(bias === undefined ? {} : { bias: make(bias) }) };
  const y = tf.engine().runKernel('GitLinear', inputs, { activation }) as tf.Tensor;
  const [m = 0, k = 0] = x.shape;
  const n = w.shape[1]!;
  assert.deepEqual(y.shape, [m, n]);
  const [weights, got] = [await w.data(), await y.data()];
  let error = 0;
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = bias?.values[j] ?? 0;
      for (let l = 0; l < k; l++) sum += plain.values[i * k + l]! * weights[l * n + j]!;
      const difference = Math.abs(exact(sum, activation) - got[i * n + j]!);
      error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(error, difference);
    }
  }
  tf.dispose([inputs.x, y, ...('bias' in inputs ? [inputs.bias as tf.Tensor] : [])]);
  return error;
}

for (const { name } of VARIANTS) {
  describe(`${name}: products`, () => {
    before(() => useVariant(name));

    it('matMul of every rank, transposed or not, against tfjs’s cpu backend', () =>
      holds(
        products,
        ({ a, b, transposeA, transposeB }) =>
          sameAsCpu(name, [a, b], (x, y) => tf.matMul(x!, y!, transposeA, transposeB), TOLERANCE),
        60,
      ));

    it('fused matMul with bias and every activation, against tfjs’s cpu backend', () =>
      holds(
        fc.tuple(products, fc.constantFrom('linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu', 'prelu')),
        ([{ a, b, bias, transposeA, transposeB }, activation]) => {
          if (a.shape.includes(0) || b.shape.includes(0)) return Promise.resolve();
          const run = (x?: tf.Tensor, y?: tf.Tensor, z?: tf.Tensor) =>
            tf.fused.matMul({
              ...{ a: x!, b: y!, bias: z!, transposeA, transposeB },
              ...{ activation: activation as 'relu', leakyreluAlpha: 0.3 },
              ...(activation === 'prelu' ? { preluActivationWeights: z! } : {}),
            });
          return sameAsCpu(name, [a, b, bias], run, TOLERANCE);
        },
        60,
      ));

    it('GitLinear in each weight format against float64', () =>
      holds(
        fc
          .tuple(
            fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 60 })),
            ...[size, size.map((n) => n + 1)],
            fc.constantFrom<WeightFormat>('f32', 'bf16', 'f16', 'int8', 'int8-fast'),
            ...[fc.constantFrom<LinearActivation>('none', 'gelu', 'quick_gelu'), fc.boolean(), fc.boolean()],
          )
          .chain((r) => {
            const [m, k, n] = r as unknown as [number, number, number];
            return fc.tuple(
              fc.constant(r),
              specs([m, k]),
              specs([k, n], 'float32', { min: -0.3, max: 0.3 }),
              specs([n]),
            );
          }),
        async ([[, k, n, format, activation, transposed, biased], x, w, bias]) => {
          await expectNoTensors(async () => {
            const [rows, columns] = [k as number, n as number];
            const at = (i: number) =>
              transposed ? w.values[(i % rows) * columns + Math.floor(i / rows)]! : w.values[i]!;
            const data = Float32Array.from({ length: rows * columns }, (_, i) => at(i));
            const weight = uploadWeight({
              ...{ format: format as WeightFormat, data, shape: [rows, columns], transposed: transposed as boolean },
            });
            const plain =
              format === 'int8' || format === 'int8-fast'
                ? roundedRows(x, format, format === 'int8' ? (k as number) : FAST_K_BLOCK)
                : x;
            const error = await linearError(
              ...([x, weight, biased ? bias : undefined, activation as LinearActivation, plain] as const),
            );
            // Rounding of k sums of numbers up to 4 * 0.3.
            assert.ok(error <= 1e-5, `${format} [${x.shape}] · [${w.shape}]: ${error}`);
            weight.dispose();
          });
        },
        100,
      ));
  });
}
