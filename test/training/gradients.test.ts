import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { seededRandom } from '../../src/generation/generate.js';
import {
  activationGradient,
  attentionGradient,
  biasGradient,
  crossEntropyGradient,
  embeddingGradient,
  layerNormGradient,
  linearInputGradient,
  linearWeightGradient,
} from '../../src/training/gradients.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';

/** Largest difference from finite differences, as a share of the largest slope. */
const TOLERANCE = 1e-5;
const STEP = 1e-5;

type Numbers = readonly number[];
/** A function of lists of numbers to a list of numbers, in double precision. */
type Double = (...inputs: Numbers[]) => number[];

/** Slopes of Σ weights · f(inputs) by one of the inputs, by central differences. */
function slopes(f: Double, inputs: readonly Numbers[], which: number, weights: Numbers): number[] {
  const value = (changed: Numbers): number =>
    f(...inputs.map((input, n) => (n === which ? changed : input))).reduce((sum, y, i) => sum + y * weights[i]!, 0);
  return inputs[which]!.map((x, i) => {
    const at = (shift: number) => value(inputs[which]!.with(i, x + shift));
    return (at(STEP) - at(-STEP)) / (2 * STEP);
  });
}

let worst = 0;
async function expectSlopes(got: tf.Tensor, expected: Numbers, what: string): Promise<void> {
  const values = await got.data();
  got.dispose();
  const largest = Math.max(1e-3, ...expected.map(Math.abs));
  const error = Math.max(...expected.map((value, i) => Math.abs(value - values[i]!))) / largest;
  worst = Math.max(worst, error);
  assert.ok(error < TOLERANCE, `${what}: off by ${error} of the largest slope`);
}

const rows = fc.integer({ min: 1, max: 4 });
const size = fc.integer({ min: 1, max: 6 });
const seeds = fc.integer({ min: 0, max: 1e6 });

/** Numbers between -1 and 1 that float32 holds exactly. */
const draw = (seed: number, stream: number, count: number): number[] => {
  const random = seededRandom(seed, stream);
  return Array.from({ length: count }, () => Math.fround(2 * random() - 1));
};
const tensor = <T extends tf.Tensor>(values: Numbers, ...shape: number[]): T => tf.tensor([...values], shape) as T;

/** x [n, k] times w [k, m]. */
const product = (x: Numbers, w: Numbers, n: number, k: number, m: number): number[] =>
  Array.from({ length: n * m }, (_, at) => {
    let sum = 0;
    for (let i = 0; i < k; i++) sum += x[Math.floor(at / m) * k + i]! * w[i * m + (at % m)]!;
    return sum;
  });

/** erf by its series, good to the last digits for |x| < 3. */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 80; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

const softmax = (scores: Numbers): number[] => {
  const exponentials = scores.map((score) => Math.exp(score - Math.max(...scores)));
  const total = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((value) => value / total);
};

for (const backend of BACKENDS) {
  describe(`gradients against finite differences in double precision, ${backend}`, () => {
    before(() => useBackend(backend));
    after(() => console.log(`    worst on ${backend}: ${worst.toExponential(1)} of the largest slope`));

    const property = (name: string, body: (a: number, b: number, c: number, seed: number) => Promise<void>) =>
      it(name, async () => {
        await fc.assert(
          fc.asyncProperty(rows, size, size, seeds, (a, b, c, seed) => expectTensors(0, () => body(a, b, c, seed))),
          { numRuns: 12, seed: 7 },
        );
      });

    property('linear', async (n, k, m, seed) => {
      const [x, w, dy] = [draw(seed, 0, n * k), draw(seed, 1, k * m), draw(seed, 2, n * m)];
      const f: Double = (a, b) => product(a!, b!, n, k, m);
      const [tx, tw, tdy] = [tensor<tf.Tensor3D>(x, 1, n, k), tensor(w, k, m), tensor<tf.Tensor3D>(dy, 1, n, m)];
      await expectSlopes(linearInputGradient(tw, tdy), slopes(f, [x, w], 0, dy), 'x');
      await expectSlopes(linearWeightGradient(tx, tdy), slopes(f, [x, w], 1, dy), 'weight');
      const bias: Double = (b) => Array.from({ length: n * m }, (_, i) => b![i % m]!);
      await expectSlopes(biasGradient(tdy), slopes(bias, [draw(seed, 3, m)], 0, dy), 'bias');
      tf.dispose([tx, tw, tdy]);
    });

    property('layer norm', async (n, d, _c, seed) => {
      const width = d + 2;
      const [x, g, b, dy] = [
        draw(seed, 0, n * width),
        draw(seed, 1, width),
        draw(seed, 2, width),
        draw(seed, 3, n * width),
      ];
      const f: Double = (xs, gs, bs) =>
        Array.from({ length: n }).flatMap((_, r) => {
          const row = xs!.slice(r * width, (r + 1) * width);
          const mean = row.reduce((p, q) => p + q, 0) / width;
          const variance = row.reduce((p, q) => p + (q - mean) ** 2, 0) / width;
          return row.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-3)) * gs![i]! + bs![i]!);
        });
      const p = { weight: tensor(g, width), bias: tensor(b, width) };
      const [tx, tdy] = [tensor<tf.Tensor3D>(x, 1, n, width), tensor<tf.Tensor3D>(dy, 1, n, width)];
      const got = layerNormGradient(p, tx, 1e-3, tdy);
      await expectSlopes(got.dx, slopes(f, [x, g, b], 0, dy), 'x');
      await expectSlopes(got.weight, slopes(f, [x, g, b], 1, dy), 'weight');
      await expectSlopes(got.bias, slopes(f, [x, g, b], 2, dy), 'bias');
      tf.dispose([p.weight, p.bias, tx, tdy]);
    });

    for (const [name, f] of [
      ['gelu', (x: number) => 0.5 * x * (1 + erf(x / Math.SQRT2))],
      ['quick_gelu', (x: number) => x / (1 + Math.exp(-1.702 * x))],
    ] as const) {
      property(name, async (n, d, _c, seed) => {
        const [x, dy] = [draw(seed, 0, n * d).map((value) => Math.fround(3 * value)), draw(seed, 1, n * d)];
        const [tx, tdy] = [tensor(x, n, d), tensor(dy, n, d)];
        await expectSlopes(
          activationGradient(name, tx, tdy),
          slopes((xs) => xs!.map(f), [x], 0, dy),
          'x',
        );
        tf.dispose([tx, tdy]);
      });
    }

    property('attention, masked', async (t, k, s, seed) => {
      const columns = s + t;
      const [q, key, value] = [draw(seed, 0, t * k), draw(seed, 1, columns * k), draw(seed, 2, columns * k)];
      const dy = draw(seed, 3, t * k);
      const open = (row: number, column: number) => column <= s + row;
      const f: Double = (qs, ks, vs) =>
        Array.from({ length: t }).flatMap((_, row) => {
          const scores = Array.from({ length: columns }, (_, c) => {
            let sum = 0;
            for (let i = 0; i < k; i++) sum += qs![row * k + i]! * ks![c * k + i]!;
            return open(row, c) ? sum / Math.sqrt(k) : -1e9;
          });
          return product(softmax(scores), vs!, 1, columns, k);
        });
      const mask = tensor(
        Array.from({ length: t * columns }, (_, i) => (open(Math.floor(i / columns), i % columns) ? 0 : -1e9)),
        t,
        columns,
      );
      const heads = [q, key, value, dy].map((values, n) =>
        tensor<tf.Tensor4D>(values, 1, 1, n === 1 || n === 2 ? columns : t, k),
      );
      const got = attentionGradient(heads[0]!, { key: heads[1]!, value: heads[2]! }, mask, heads[3]!);
      await expectSlopes(got.query, slopes(f, [q, key, value], 0, dy), 'query');
      await expectSlopes(got.key, slopes(f, [q, key, value], 1, dy), 'key');
      await expectSlopes(got.value, slopes(f, [q, key, value], 2, dy), 'value');
      tf.dispose([...heads, mask]);
    });

    property('embedding: repeated rows add up, the padding row gets nothing', async (n, d, _c, seed) => {
      const ids = draw(seed, 0, n + 2).map((value) => Math.floor((value + 1) * 2.5));
      const [table, dy] = [draw(seed, 1, 5 * d), draw(seed, 2, ids.length * d)];
      const f: Double = (w) => ids.flatMap((id) => w!.slice(id * d, (id + 1) * d));
      const expected = slopes(f, [table], 0, dy).map((slope, i) => (Math.floor(i / d) === 0 ? 0 : slope));
      const [tt, tdy] = [tensor(table, 5, d), tensor<tf.Tensor3D>(dy, 1, ids.length, d)];
      await expectSlopes(embeddingGradient(tt, [ids], tdy, 0), expected, 'table');
      tf.dispose([tt, tdy]);
    });

    for (const smoothing of [0, 0.1]) {
      property(`cross-entropy, smoothing ${smoothing}`, async (n, v, _c, seed) => {
        const vocabulary = v + 2;
        const logits = draw(seed, 0, n * vocabulary).map((value) => Math.fround(4 * value));
        const labels = draw(seed, 1, n).map((value) => Math.floor(((value + 1) / 2) * vocabulary));
        const elsewhere = smoothing / (vocabulary - 1);
        const f: Double = (xs) => [
          labels.reduce((sum, label, row) => {
            const p = softmax(xs!.slice(row * vocabulary, (row + 1) * vocabulary));
            const terms = p.map((share, i) => {
              const wanted = i === label ? 1 - smoothing : elsewhere;
              return wanted === 0 ? 0 : wanted * (Math.log(wanted) - Math.log(share));
            });
            return sum + terms.reduce((a, b) => a + b, 0);
          }, 0) / 7,
        ];
        const x = tensor<tf.Tensor2D>(logits, n, vocabulary);
        const got = crossEntropyGradient(x, labels, smoothing, 7);
        await expectSlopes(
          tf.tidy(() => tf.sum(got.losses)),
          f(logits),
          'loss',
        );
        got.losses.dispose();
        await expectSlopes(got.logits, slopes(f, [logits], 0, [1]), 'logits');
        x.dispose();
      });
    }
  });
}
