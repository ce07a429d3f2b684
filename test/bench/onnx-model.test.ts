import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-web';
import { openOnnx } from '../../bench/onnx-caption.js';
import { type OnnxFormat, onnxEncoder } from '../../bench/onnx-model.js';
import { GIT_BASE_RECIPE, generatedStore } from '../../src/checkpoint/generated-weights.js';
import {
  encodeImage,
  type Git,
  generate,
  gitSpec,
  imageFeatures,
  parseGitConfig,
  startSession,
} from '../../src/index.js';
import { disposeCache, disposeGit } from '../../src/model/git.js';
import { loadGitParams } from '../../src/model/load-git.js';
import { useBackend } from '../support/backends.js';

const config = parseGitConfig({
  ...{ model_type: 'git', vocab_size: 300, bos_token_id: 1, eos_token_id: 2, pad_token_id: 0 },
  ...{ hidden_size: 48, num_hidden_layers: 3, num_attention_heads: 4, intermediate_size: 96 },
  vision_config: {
    ...{ hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 80 },
    ...{ image_size: 35, patch_size: 8 },
  },
});
const store = generatedStore(gitSpec(config), { ...GIT_BASE_RECIPE, add: [] });
const SIDE = config.vision.imageSize;
const TOKENS = 8;

/** Largest difference, of the largest number of `b`. */
const distance = (a: Float32Array, b: Float32Array): number =>
  Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) / Math.max(...b.map(Math.abs));

describe('the model as ONNX', () => {
  let git: Git;
  let pixels: tf.Tensor4D;
  let input: ort.Tensor;

  before(async () => {
    await useBackend('cpu');
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = 'error';
    git = { config, params: await loadGitParams(config, store, 'generated') };
    pixels = tf.randomUniform([1, SIDE, SIDE, 3], -2, 2, 'float32', 3);
    const channelsFirst = tf.tidy(() => tf.transpose(pixels, [0, 3, 1, 2]));
    input = new ort.Tensor('float32', (await channelsFirst.data()) as Float32Array, [1, 3, SIDE, SIDE]);
    channelsFirst.dispose();
  });
  after(() => {
    pixels.dispose();
    disposeGit(git);
  });

  async function featuresApart(format: OnnxFormat): Promise<number> {
    const session = await ort.InferenceSession.create(await onnxEncoder(config.vision, store, format));
    const { features: found } = await session.run({ pixels: input });
    const theirs = (found!.data as Float32Array).slice();
    await session.release();
    const features = imageFeatures(git, pixels);
    const ours = (await features.data()) as Float32Array;
    features.dispose();
    assert.equal(theirs.length, ours.length);
    return distance(theirs, ours);
  }

  /** Logits of onnxruntime behind our own words, beside ours. */
  async function logitsApart(
    format: OnnxFormat,
  ): Promise<{ readonly apart: number; readonly ids: (readonly number[])[] }> {
    const image = encodeImage(git, pixels);
    const vocabulary = { size: config.vocabSize, bosId: config.bosTokenId, eosIds: config.eosTokenIds };
    const length = { strategy: 'greedy', minNewTokens: TOKENS, maxNewTokens: TOKENS } as const;
    const written = (await generate(() => startSession(git, image), vocabulary, length))[0]![0]!;
    const words = written.newIds;
    const theirs = await openOnnx(ort, config, store, format);
    const rows = await theirs.logits(input, words);
    const session = startSession(git, image);
    const apart: number[] = [];
    for (const [n, id] of [config.bosTokenId, ...words].entries()) {
      apart.push(distance(rows[n]!, (await session.step([[id]]))[0]!));
    }
    session.dispose();
    disposeCache(image);
    return { apart: Math.max(...apart), ids: [words, await theirs.caption(input, TOKENS)] };
  }

  it('onnxruntime-web computes the same features in float32', async () => {
    const apart = await featuresApart('f32');
    assert.ok(apart < 1e-5, `${apart}`);
  });

  it('and, with weights and activations of 8 bits, nearly the same', async () => {
    const apart = await featuresApart('int8');
    assert.ok(apart > 1e-5 && apart < 0.05, `${apart}`);
  });

  it('and the same logits and words, token by token', async () => {
    const { apart, ids } = await logitsApart('f32');
    assert.ok(apart < 1e-5, `${apart}`);
    assert.equal(ids[0]!.length, TOKENS);
    assert.deepEqual(ids[1], ids[0]);
  });

  it('and with 8 bits nearly the same logits', async () => {
    const { apart } = await logitsApart('int8');
    assert.ok(apart > 1e-5 && apart < 0.15, `${apart}`);
  });
});
