import assert from 'node:assert/strict';
import type { Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { keep, tensor, tensor1d, tensor2d, tidy } from '@tensorflow/tfjs-core';
import { attend, mergeHeads, splitHeads } from '../../src/layers/attention.js';
import { embed, interpolatePositions, patchEmbedding, resizeMatrix } from '../../src/layers/embeddings.js';
import { layerNorm } from '../../src/layers/layer-norm.js';
import { gelu, linear, quickGelu } from '../../src/layers/linear.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectClose, expectTensorClose, expectTensors } from '../support/close.js';

/** Repeatable numbers in (-1, 1). */
const noise = (count: number, seed = 1) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin((i + 1) * 12.9898 * seed));
const made = <T extends Tensor>(shape: number[], seed = 1): T =>
  tensor(
    noise(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  ) as T;

for (const backend of BACKENDS) {
  describe(`layers on ${backend}`, () => {
    before(() => useBackend(backend));
    const scope = (body: () => Promise<void>) => async () => {
      await expectTensors(0, body);
    };

    it(
      'gelu is the erf one, quick_gelu the sigmoid one',
      scope(async () => {
        const x = tensor1d([-3, -1, -0.5, 0, 0.5, 1, 3]);
        const exact = gelu(x);
        const quick = quickGelu(x);
        // torch.nn.functional.gelu in float64; the tanh form differs from it by 1.5e-4 at 1
        await expectTensorClose(
          exact,
          [7],
          [-0.00404969, -0.15865525, -0.15426877, 0, 0.34573123, 0.84134475, 2.99595031],
          3e-7,
        );
        const sigmoidForm = [...(await x.data())].map((v) => v / (1 + Math.exp(-1.702 * v)));
        await expectTensorClose(quick, [7], sigmoidForm, 3e-7);
        for (const t of [x, exact, quick]) t.dispose();
      }),
    );

    it(
      'linear is x·W + b with W [in, out], for several rows at once',
      scope(async () => {
        const p = { weight: tensor2d([1, 2, 3, 4, 5, 6], [2, 3]), bias: tensor1d([0.5, -0.5, 1]) };
        const x = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2]) as Tensor3D;
        const y = await expectTensors(1, () => linear(p, x));
        await expectTensorClose(y, [2, 2, 3], [9.5, 11.5, 16, 19.5, 25.5, 34, 29.5, 39.5, 52, 39.5, 53.5, 70], 1e-5);
        for (const t of [p.weight, p.bias, x, y]) t.dispose();
      }),
    );

    it(
      'layer norm has its epsilon inside the root and takes a residual',
      scope(async () => {
        const p = { weight: tensor1d([1, 2, 3, 4]), bias: tensor1d([0, 0, 1, 1]) };
        const x = tensor([1e-3, 2e-3, 3e-3, 4e-3], [1, 1, 4]) as Tensor3D;
        const zero = tensor([0, 0, 0, 0], [1, 1, 4]) as Tensor3D;
        const y = await expectTensors(1, () => layerNorm(p, x, 1e-5));
        const z = await expectTensors(1, () => layerNorm(p, zero, 1e-5, x));
        const root = Math.sqrt(1.25e-6 + 1e-5);
        const expected = [-1.5e-3 / root, (-0.5e-3 / root) * 2, 1 + (0.5e-3 / root) * 3, 1 + (1.5e-3 / root) * 4];
        await expectTensorClose(y, [1, 1, 4], expected, 1e-5);
        await expectTensorClose(z, [1, 1, 4], expected, 1e-5);
        for (const t of [p.weight, p.bias, x, zero, y, z]) t.dispose();
      }),
    );

    it(
      'embed picks rows',
      scope(async () => {
        const p = { weight: tensor2d([0, 1, 10, 11, 20, 21], [3, 2]) };
        const y = await expectTensors(1, () =>
          embed(p, [
            [2, 0],
            [1, 1],
          ]),
        );
        await expectTensorClose(y, [2, 2, 2], [20, 21, 0, 1, 10, 11, 10, 11], 0);
        for (const t of [p.weight, y]) t.dispose();
      }),
    );

    it(
      'splitHeads and mergeHeads undo each other, also for one token',
      scope(async () => {
        for (const tokens of [1, 3]) {
          const x = made<Tensor3D>([2, tokens, 6]);
          const apart = await expectTensors(1, () => splitHeads(x, 3));
          assert.deepEqual(apart.shape, [2, 3, tokens, 2]);
          const back = await expectTensors(1, () => mergeHeads(apart));
          await expectTensorClose(back, [2, tokens, 6], await x.data(), 0);
          for (const t of [x, apart, back]) t.dispose();
        }
      }),
    );

    it(
      'attention over a shared image and own text equals attention over both copied side by side',
      scope(async () => {
        const [images, rows, heads, tokens, image, text, width] = [2, 6, 3, 2, 5, 4, 8];
        const q = made<Tensor4D>([rows, heads, tokens, width], 1.1);
        const shared = {
          key: made<Tensor4D>([images, heads, image, width], 1.2),
          value: made<Tensor4D>([images, heads, image, width], 1.3),
        };
        const own = {
          key: made<Tensor4D>([rows, heads, text, width], 1.4),
          value: made<Tensor4D>([rows, heads, text, width], 1.5),
        };
        const mask = tensor2d([0, 0, 0, -1e9, 0, 0, 0, 0], [tokens, text]);
        const got = await expectTensors(1, () => attend(q, { image: shared, text: own, textMask: mask }));
        const naive = await plainAttention(q, shared, own, [0, 0, 0, -1e9, 0, 0, 0, 0]);
        expectClose(await got.data(), naive, 2e-6, 'attention');
        let weights: Tensor4D | undefined;
        const listened = tidy(() =>
          attend(q, { image: shared, text: own, textMask: mask }, (w) => {
            weights = keep(w.clone());
          }),
        );
        assert.deepEqual(weights!.shape, [rows, heads, tokens, image + text]);
        expectClose(await listened.data(), naive, 2e-6, 'attention with probabilities');
        for (const t of [q, shared.key, shared.value, own.key, own.value, mask, got, listened, weights!]) t.dispose();
      }),
    );

    it(
      'patches are cut row by row and a ragged border is not seen',
      scope(async () => {
        const pixels = made<Tensor4D>([1, 5, 7, 3]);
        const weight = made<Tensor4D>([2, 2, 3, 4], 1.7);
        const y = await expectTensors(1, () => patchEmbedding({ weight }, pixels));
        assert.deepEqual(y.shape, [1, 6, 4]);
        const [x, w] = [await pixels.data(), await weight.data()];
        const patch = (row: number, column: number, out: number) => {
          let sum = 0;
          for (let i = 0; i < 2; i++)
            for (let j = 0; j < 2; j++)
              for (let c = 0; c < 3; c++)
                sum += x[((row * 2 + i) * 7 + column * 2 + j) * 3 + c]! * w[((i * 2 + j) * 3 + c) * 4 + out]!;
          return sum;
        };
        const expected = [0, 1].flatMap((r) => [0, 1, 2].flatMap((c) => [0, 1, 2, 3].map((o) => patch(r, c, o))));
        await expectTensorClose(y, [1, 6, 4], expected, 2e-6);
        for (const t of [pixels, weight, y]) t.dispose();
      }),
    );

    it(
      'positions keep the class row, stay as they are at the trained size, and their weights sum to 1',
      scope(async () => {
        const table = made<Tensor>([10, 4]) as ReturnType<typeof tensor2d>;
        const same = await expectTensors(1, () => interpolatePositions(table, 3, 3));
        await expectTensorClose(same, [10, 4], await table.data(), 0);
        const wide = await expectTensors(1, () => interpolatePositions(table, 2, 5));
        assert.deepEqual(wide.shape, [11, 4]);
        expectClose((await wide.data()).slice(0, 4), (await table.data()).slice(0, 4), 0);
        const matrix = resizeMatrix(3, 2, 5);
        for (let r = 0; r < 10; r++)
          expectClose([matrix.slice(r * 9, r * 9 + 9).reduce((a, b) => a + b, 0)], [1], 1e-6);
        for (const t of [table, same, wide]) t.dispose();
      }),
    );

    it('a throw inside leaves nothing behind', async () => {
      const p = { weight: tensor2d([1, 2], [2, 1]), bias: tensor1d([0]) };
      const x = tensor([1, 2, 3], [1, 1, 3]) as Tensor3D;
      await assert.rejects(expectTensors(0, () => linear(p, x)));
      for (const t of [p.weight, p.bias, x]) t.dispose();
    });
  });
}

/** The definition, in doubles. */
async function plainAttention(
  q: Tensor4D,
  image: { key: Tensor4D; value: Tensor4D },
  text: { key: Tensor4D; value: Tensor4D },
  mask: number[],
): Promise<number[]> {
  const [rows, heads, tokens, width] = q.shape;
  const [I, S] = [image.key.shape[2], text.key.shape[2]];
  const [Q, IK, IV, TK, TV] = await Promise.all([q, image.key, image.value, text.key, text.value].map((t) => t.data()));
  const out = new Array<number>(rows * tokens * heads * width).fill(0);
  for (let r = 0; r < rows; r++) {
    const n = Math.floor((r * image.key.shape[0]) / rows);
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < tokens; t++) {
        const at = (table: ArrayLike<number>, row: number, size: number, s: number, k: number) =>
          table[((row * heads + h) * size + s) * width + k]!;
        const dot = (table: ArrayLike<number>, row: number, size: number, s: number) =>
          Array.from({ length: width }, (_, k) => at(Q!, r, tokens, t, k) * at(table, row, size, s, k)).reduce(
            (a, b) => a + b,
            0,
          ) / Math.sqrt(width);
        const scores = [
          ...Array.from({ length: I }, (_, s) => dot(IK!, n, I, s)),
          ...Array.from({ length: S }, (_, s) => dot(TK!, r, S, s) + mask[t * S + s]!),
        ];
        const most = Math.max(...scores);
        const exps = scores.map((s) => Math.exp(s - most));
        const total = exps.reduce((a, b) => a + b, 0);
        for (let k = 0; k < width; k++) {
          const from = (s: number) => (s < I ? at(IV!, n, I, s, k) : at(TV!, r, S, s - I, k));
          out[(r * tokens + t) * heads * width + h * width + k] = exps.reduce(
            (sum, e, s) => sum + (e / total) * from(s),
            0,
          );
        }
      }
    }
  }
  return out;
}
