import assert from 'node:assert/strict';
import type { Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { memory, tensor4d, tensor5d } from '@tensorflow/tfjs-core';
import { OptionError } from '../../src/errors.js';
import type { AttentionMap, TokenAttention } from '../../src/index.js';
import { explainTokens } from '../../src/index.js';
import { collectTrace } from '../../src/layers/tidy.js';
import { disposeCache, disposeGit, encodeImage, type Git } from '../../src/model/git.js';
import { loadGit } from '../../src/model/load-git.js';
import { fromDirectory } from '../../src/platform/node-files.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectClose, expectTensors } from '../support/close.js';
import { REFERENCE } from '../support/fixtures.js';
import { type PeekedTensor, peekSafetensors } from '../support/peek-safetensors.js';
import { headMean, naiveRollout, type Square } from './naive-rollout.js';

/** Values [planes, height, width] to rows of pixels. */
function channelsLast(values: ArrayLike<number>, planes: number, height: number, width: number): Float32Array {
  const out = new Float32Array(planes * height * width);
  for (let p = 0; p < planes * height * width; p += 3 * height * width) {
    for (let c = 0; c < 3; c++) {
      for (let i = 0; i < height * width; i++) out[p + i * 3 + c] = values[p + c * height * width + i]!;
    }
  }
  return out;
}

const shares = ({ patches, classToken, text }: AttentionMap): number =>
  patches.reduce((sum, share) => sum + share, 0) + classToken + text;

/** A row of image and text columns as a map has it: patches of all frames, class tokens, text. */
function asMap(row: readonly number[], frames: number, perFrame: number): number[] {
  const image = row.slice(0, frames * perFrame);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  return [
    ...image.filter((_, i) => i % perFrame !== 0),
    sum(image.filter((_, i) => i % perFrame === 0)),
    sum(row.slice(frames * perFrame)),
  ];
}

const flat = ({ patches, classToken, text }: AttentionMap): number[] => [...patches, classToken, text];

/** The largest differences from the reference's attentions, over all tokens. */
function compare(
  tokens: readonly TokenAttention[],
  decoder: readonly PeekedTensor[],
  vision: readonly (readonly Square[])[],
  promptLength: number,
): { attention: number; rollout: number } {
  const [, heads, all] = decoder[0]!.shape as [number, number, number];
  const perFrame = vision[0]![0]!.length;
  const image = vision.length * perFrame;
  const rolled = naiveRollout(
    vision,
    decoder.map(({ values }) => headMean(values, heads, all)),
  );
  const worst = { attention: 0, rollout: 0 };
  for (const [n, token] of tokens.entries()) {
    const row = image + promptLength - 1 + n; // the position that predicts the token
    const expected = decoder.map(({ values }) =>
      Array.from({ length: heads }, (_, head) => [
        ...values.subarray((head * all + row) * all, (head * all + row + 1) * all),
      ]),
    );
    const columns = expected.flat().flatMap((values) => values.slice(0, image));
    worst.attention = Math.max(worst.attention, expectClose(token.decoder, columns, 1e-6, 'attention'));
    const text = expected.flat().map((values) => values.slice(image).reduce((sum, value) => sum + value, 0));
    expectClose(token.toText, text, 1e-6, 'text');
    const mean = expected.flat()[0]!.map((_, i) => expected.flat().reduce((s, r) => s + r[i]!, 0) / text.length);
    expectClose(flat(token.mean), asMap(mean, vision.length, perFrame), 1e-6, 'mean');
    const product = asMap(rolled[row]!, vision.length, perFrame);
    worst.rollout = Math.max(worst.rollout, expectClose(flat(token.rollout!), product, 1e-6, 'rollout'));
  }
  return worst;
}

for (const backend of BACKENDS) {
  describe(`attention of tokens on ${backend}`, () => {
    let git: Git;
    let video: Git;
    const image = peekSafetensors(`${REFERENCE}tiny-a/forward_b1.safetensors`);
    const frames = peekSafetensors(`${REFERENCE}tiny-video/forward_b1.safetensors`);
    const idsOf = (tensors: Map<string, PeekedTensor>): number[] => [...tensors.get('input_ids')!.values];
    const layersOf = (tensors: Map<string, PeekedTensor>, name: string, count: number): PeekedTensor[] =>
      Array.from({ length: count }, (_, layer) => tensors.get(`${name}.${layer}`)!);
    const pixelsOf = (): Tensor4D =>
      tensor4d(channelsLast(image.get('pixel_values')!.values, 3, 35, 35), [1, 35, 35, 3]);
    const framesOf = (): Tensor5D =>
      tensor5d(channelsLast(frames.get('pixel_values')!.values, 18, 26, 26), [1, 6, 26, 26, 3]);

    before(async () => {
      await useBackend(backend);
      git = await loadGit(await fromDirectory(`${REFERENCE}tiny-a`));
      video = await loadGit(await fromDirectory(`${REFERENCE}tiny-video`));
    });
    after(() => {
      disposeGit(git);
      disposeGit(video);
    });

    it("equal PyTorch's attentions, and the rollout of them in double", async () => {
      const pixels = pixelsOf();
      const ids = [...idsOf(image), 102]; // the reference's last row predicts what comes after
      const { grid, layers, heads, tokens } = await explainTokens(git, pixels, ids);
      pixels.dispose();
      assert.deepEqual([grid, layers, heads], [{ frames: 1, rows: 5, columns: 5 }, 3, 4]);
      assert.deepEqual(
        tokens.map(({ id }) => id),
        ids.slice(1),
      );
      const vision = [layersOf(image, 'vision.attention', 3).map(({ values }) => headMean(values, 3, 26))];
      const { attention, rollout } = compare(tokens, layersOf(image, 'decoder.attention', 3), vision, 1);
      console.log(`      largest error: attention ${attention.toExponential(1)}, rollout ${rollout.toExponential(1)}`);
    });

    it("give each token the reference's log-probability", async () => {
      const pixels = pixelsOf();
      const ids = idsOf(image);
      const { tokens } = await explainTokens(git, pixels, ids, { promptLength: 3 });
      pixels.dispose();
      const logits = image.get('logits.f64')!;
      const expected = ids.slice(3).map((id, n) => {
        const at = (26 + 2 + n) * 211;
        const row = logits.values.subarray(at, at + 211);
        return row[id]! - Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
      });
      const got = tokens.map(({ logProb }) => logProb);
      console.log(`      largest error: ${expectClose(got, expected, 2e-5).toExponential(1)}`);
    });

    it("equal the reference over a video's frames", async () => {
      const pixels = framesOf();
      const trace = collectTrace({ attentions: true, wanted: (name) => name.startsWith('vision.attention.') });
      disposeCache(encodeImage(video, pixels, trace.trace));
      const towers = await Promise.all([0, 1].map((layer) => trace.tensors.get(`vision.attention.${layer}`)!.data()));
      for (const tensor of trace.tensors.values()) tensor.dispose();
      const vision = Array.from({ length: 6 }, (_, frame) =>
        towers.map((values) => headMean(values, 5, 5, frame * 5 * 25)),
      );
      const { grid, tokens } = await explainTokens(video, pixels, [...idsOf(frames), 102], { promptLength: 4 });
      pixels.dispose();
      assert.deepEqual(grid, { frames: 6, rows: 2, columns: 2 });
      assert.equal(tokens.length, 4);
      const { attention, rollout } = compare(tokens, layersOf(frames, 'decoder.attention', 2), vision, 4);
      console.log(`      largest error: attention ${attention.toExponential(1)}, rollout ${rollout.toExponential(1)}`);
    });

    it('add up to 1, however the text is cut into prompt and answer', async () => {
      const pixels = pixelsOf();
      const ids = idsOf(image);
      const whole = await explainTokens(git, pixels, ids);
      for (let promptLength = 1; promptLength < ids.length; promptLength++) {
        const { tokens } = await explainTokens(git, pixels, ids, { promptLength });
        for (const [n, token] of tokens.entries()) {
          const same = whole.tokens[promptLength - 1 + n]!;
          expectClose(token.decoder, same.decoder, 1e-6);
          expectClose(flat(token.rollout!), flat(same.rollout!), 1e-6);
          for (const look of [token.mean, token.rollout!]) expectClose([shares(look)], [1], 2e-6, 'sum of shares');
        }
      }
      pixels.dispose();
    });

    it('follow images of other sizes than the trained one', async () => {
      const pixels = tensor4d(
        Float32Array.from({ length: 30 * 44 * 3 }, (_, i) => Math.sin(i)),
        [1, 30, 44, 3],
      );
      const { grid, tokens } = await explainTokens(git, pixels, idsOf(image));
      pixels.dispose();
      assert.deepEqual(grid, { frames: 1, rows: 4, columns: 6 });
      assert.equal(tokens[0]!.mean.patches.length, 24);
      for (const token of tokens) expectClose([shares(token.mean), shares(token.rollout!)], [1, 1], 2e-6);
    });

    it('leave no tensor behind: on success, on refusal, when stopped at any moment', async () => {
      const pixels = pixelsOf();
      const ids = idsOf(image);
      await expectTensors(0, async () => void (await explainTokens(git, pixels, ids)));
      for (const signaledAfter of [0, 1, 2, 3, 4]) {
        const before = memory().numTensors;
        let asked = 0;
        const reason = new Error('stop');
        const signal = {
          throwIfAborted: () => {
            if (asked++ >= signaledAfter) throw reason;
          },
        } as AbortSignal;
        await assert.rejects(explainTokens(git, pixels, ids, { signal }), reason);
        assert.equal(memory().numTensors, before, `stopped at check ${signaledAfter}`);
      }
      pixels.dispose();
    });

    it('refuse what cannot be, by name', async () => {
      const pixels = pixelsOf();
      const small = tensor4d(new Float32Array(3 * 3 * 3), [1, 3, 3, 3]);
      const frames = tensor5d(new Float32Array(7 * 26 * 26 * 3), [1, 7, 26, 26, 3]);
      const cases: [string, Git, Tensor4D | Tensor5D, number[], number?][] = [
        ['id-outside-vocabulary', git, pixels, [101, 211]],
        ['id-outside-vocabulary', git, pixels, [101, 1.5]],
        ['no-tokens', git, pixels, [101]],
        ['no-tokens', git, pixels, [101, 5, 6], 3],
        ['out-of-range', git, pixels, [101, 5], 0],
        ['too-long', git, pixels, new Array(69).fill(5)],
        ['pixels-shape', git, small, [101, 5]],
        ['frame-count', video, frames, [101, 5]],
        ['frame-count', git, frames, [101, 5]],
      ];
      for (const [code, model, input, ids, promptLength] of cases) {
        await expectTensors(0, () =>
          assert.rejects(
            explainTokens(model, input, ids, promptLength === undefined ? {} : { promptLength }),
            (error) => error instanceof OptionError && error.code === code,
          ),
        );
      }
      for (const tensor of [pixels, small, frames]) tensor.dispose();
    });
  });
}
