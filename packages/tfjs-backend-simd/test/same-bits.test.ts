import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { setThreads, uploadWeight, type WeightFormat } from '../src/index.js';
import { holds, useVariant } from './support.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'int8', 'int8-fast'];

/** Both binaries, alone and with two threads. */
const SETTINGS = [
  ['simd-relaxed-unshared', 1],
  ['simd-plain-unshared', 1],
  ['simd-threads', 2],
  ['simd-plain-shared', 2],
] as const;

/** Random numbers around zero, of several magnitudes. */
function noise(size: number, seed: number, scale = 1): Float32Array {
  let state = seed | 0;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 2 ** 24 - 0.5;
  };
  return Float32Array.from({ length: size }, () => scale * next() * 2 ** Math.round(6 * next()));
}

const run = (name: string, inputs: tf.NamedTensorMap, attributes = {}) =>
  tf.engine().runKernel(name, inputs, attributes) as tf.Tensor;

/** The bits of what `make` returns. */
async function bits(make: () => tf.Tensor): Promise<Uint32Array> {
  const tensor = tf.tidy(make);
  const values = (await tensor.data()) as Float32Array;
  tensor.dispose();
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** Are numbers `from` to `to` of `whole` those of `part`? */
function assertPart(whole: Uint32Array, from: number, part: Uint32Array, what: string): void {
  for (let i = 0; i < part.length; i++) {
    if (whole[from + i] === part[i]) continue;
    const [a, b] = [whole, part].map((words, side) => new Float32Array(words.slice((side ? 0 : from) + i).buffer)[0]!);
    assert.fail(`${what}: number ${i} is ${a} among others and ${b} alone`);
  }
}

const upTo = (most: number, min = 1) => fc.integer({ min, max: most });

/** Cuts [0, n) into parts at random. */
const parts = (n: number, seed: number): (readonly [number, number])[] => {
  const result: [number, number][] = [];
  for (let at = 0, i = 1; at < n; i++) {
    const size = Math.min(n - at, 1 + (Math.abs(Math.imul(seed + i, 2_654_435_761) >> 5) % 12));
    result.push([at, at + size]);
    at += size;
  }
  return result;
};

interface Columns {
  readonly [name: string]: tf.Tensor4D;
}

for (const [variant, threads] of SETTINGS) {
  describe(`${variant}, ${threads} threads: a row has the same bits alone and among others`, () => {
    before(async () => {
      await useVariant(variant);
      setThreads(threads, variant);
    });

    for (const format of FORMATS) {
      it(`linear layers, ${format}`, () =>
        holds(
          fc.record({
            m: fc.oneof(upTo(12, 2), upTo(60, 2), fc.constant(205)),
            k: fc.oneof(upTo(70), fc.constantFrom(255, 256, 257, 511, 512, 513, 768, 1101)),
            n: fc.oneof(upTo(40), upTo(300)),
            activation: fc.constantFrom('none', 'gelu', 'quick_gelu'),
            withBias: fc.boolean(),
            seed: fc.nat(),
          }),
          async ({ m, k, n, activation, withBias, seed }) => {
            const weight = uploadWeight({ format, data: noise(k * n, seed, 0.3), shape: [k, n] });
            const [x, bias] = [tf.tensor2d(noise(m * k, seed + 1), [m, k]), tf.tensor1d(noise(n, seed + 2))];
            const inputs = withBias ? { weight, bias } : { weight };
            const of = (from: number, to: number) =>
              bits(() => run('GitLinear', { ...inputs, x: tf.slice(x, [from, 0], [to - from, k]) }, { activation }));
            const all = await of(0, m);
            for (const [from, to] of parts(m, seed))
              assertPart(all, from * n, await of(from, to), `rows ${from}-${to}`);
            for (const row of [0, seed % m, m - 1]) assertPart(all, row * n, await of(row, row + 1), `row ${row}`);
            tf.dispose([weight, x, bias]);
          },
          25,
        ));
    }

    it('rows that are too large for f16 in registers, in any company', async () => {
      const [m, k, n] = [4, 40, 24];
      const weight = uploadWeight({ format: 'f16', data: noise(k * n, 5, 0.3), shape: [k, n] });
      const values = noise(m * k, 6);
      values[k + 3] = 2 ** 30; // row 1
      const x = tf.tensor2d(values, [m, k]);
      const of = (from: number, rows: number) =>
        bits(() => run('GitLinear', { weight, x: tf.slice(x, [from, 0], [rows, k]) }, { activation: 'none' }));
      const all = await of(0, m);
      for (let row = 0; row < m; row++) assertPart(all, row * n, await of(row, 1), `row ${row}`);
      tf.dispose([weight, x]);
    });

    it('attention: rows, queries in parts, and hidden columns that are not there at all', () =>
      holds(
        fc.record({
          N: upTo(2),
          perImage: upTo(3),
          H: upTo(3),
          T: fc.oneof(upTo(7), upTo(40)),
          past: fc.oneof(fc.constant(0), upTo(20)),
          K: fc.oneof(upTo(20), fc.constantFrom(8, 32, 64)),
          I: fc.oneof(fc.constant(0), upTo(30), fc.constantFrom(197, 300)),
          scale: fc.constantFrom(1, 8),
          seed: fc.nat(),
        }),
        async ({ N, perImage, H, T, past, K, I, scale, seed }) => {
          const [R, S] = [N * perImage, past + T];
          const random = (shape: [number, number, number, number], i: number) =>
            tf.tensor4d(noise(tf.util.sizeFromShape(shape), seed + i, scale), shape);
          const text: Columns = {
            q: random([R, H, T, K], 0),
            key: random([R, H, S, K], 1),
            value: random([R, H, S, K], 2),
          };
          const image: Columns =
            I === 0 ? {} : { imageKey: random([N, H, I, K], 3), imageValue: random([N, H, I, K], 4) };
          // Later columns are hidden, and some of the past as padding is.
          const isHidden = (r: number, t: number, s: number) =>
            s > past + t || (s < past && Math.imul(s + 7 * r + seed, 2_654_435_761) >>> 30 === 0);
          const hidden = Float32Array.from({ length: R * T * S }, (_, i) =>
            isHidden(Math.floor(i / (T * S)), Math.floor(i / S) % T, i % S) ? -1e9 : 0,
          );
          const mask = tf.tensor3d(hidden, [R, T, S]);
          const all = await bits(() => run('GitAttention', { ...text, ...image, mask }));
          for (let r = 0; r < R; r++) {
            const row = (columns: Columns, at: number): Columns =>
              Object.fromEntries(
                Object.entries(columns).map(([name, x]) => [name, tf.slice(x, [at, 0, 0, 0], [1, -1, -1, -1])]),
              );
            const own = () => ({ ...row(text, r), ...row(image, Math.floor(r / perImage)) });
            for (const [from, to] of parts(T, seed + r)) {
              const queries = await bits(() =>
                run('GitAttention', {
                  ...own(),
                  q: tf.slice(text['q']!, [r, 0, from, 0], [1, -1, to - from, -1]),
                  mask: tf.slice(mask, [r, from, 0], [1, to - from, -1]),
                }),
              );
              assertPart(all, (r * T + from) * H * K, queries, `row ${r}, queries ${from}-${to} of ${T}`);
            }
            const t = (seed + r) % T;
            const seen = Array.from({ length: S }, (_, s) => s).filter((s) => !isHidden(r, t, s));
            const alone = await bits(() =>
              run('GitAttention', {
                ...own(),
                q: tf.slice(text['q']!, [r, 0, t, 0], [1, -1, 1, -1]),
                key: tf.gather(row({ x: text['key']! }, r)['x']!, tf.tensor1d(seen, 'int32'), 2),
                value: tf.gather(row({ x: text['value']! }, r)['x']!, tf.tensor1d(seen, 'int32'), 2),
              }),
            );
            assertPart(all, (r * T + t) * H * K, alone, `row ${r}, query ${t} with the columns it sees`);
          }
          tf.dispose([text, image, mask]);
        },
        40,
      ));

    it('layer norm, softmax and elementwise operations', () =>
      holds(
        fc.record({ m: fc.oneof(upTo(12, 2), upTo(400, 2)), n: fc.oneof(upTo(50), upTo(1000)), seed: fc.nat() }),
        async ({ m, n, seed }) => {
          const [x, residual] = [0, 1].map((i) => tf.tensor2d(noise(m * n, seed + i), [m, n])) as [
            tf.Tensor2D,
            tf.Tensor2D,
          ];
          const [gamma, beta] = [tf.tensor1d(noise(n, seed + 2)), tf.tensor1d(noise(n, seed + 3))];
          const operations: Readonly<Record<string, (x: tf.Tensor2D, residual: tf.Tensor2D) => tf.Tensor>> = {
            'layer norm': (a, b) => run('GitLayerNorm', { x: a, residual: b, gamma, beta }, { epsilon: 1e-12 }),
            softmax: (a) => tf.softmax(a),
            gelu: (a) => tf.mul(a, tf.add(tf.erf(a), 1)),
            sums: (a, b) => tf.add(a, b),
            exponentials: (a) => tf.exp(a),
          };
          for (const [name, operation] of Object.entries(operations)) {
            const of = (from: number, rows: number) =>
              bits(() => operation(tf.slice(x, [from, 0], [rows, n]), tf.slice(residual, [from, 0], [rows, n])));
            const all = await of(0, m);
            for (const row of [0, seed % m, m - 1]) assertPart(all, row * n, await of(row, 1), `${name}, row ${row}`);
          }
          tf.dispose([x, residual, gamma, beta]);
        },
        20,
      ));
  });
}
