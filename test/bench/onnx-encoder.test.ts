import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-web';
import { type OnnxFormat, onnxEncoder } from '../../bench/onnx-encoder.js';
import { GIT_BASE_RECIPE, generatedStore } from '../../src/checkpoint/generated-weights.js';
import { loadParams } from '../../src/checkpoint/load-params.js';
import { parseGitConfig } from '../../src/index.js';
import { runSteps } from '../../src/layers/tidy.js';
import { visionEncoderSpec, visionSteps } from '../../src/model/vision-encoder.js';
import { useBackend } from '../support/backends.js';

/** Largest difference from our features, of the largest of them. */
async function distanceFromOurs(format: OnnxFormat): Promise<number> {
  const { vision } = parseGitConfig({
    model_type: 'git',
    vision_config: {
      ...{ hidden_size: 48, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 80 },
      ...{ image_size: 35, patch_size: 8 },
    },
  });
  const prefix = 'git.image_encoder.vision_model.';
  const spec = { git: { image_encoder: { vision_model: visionEncoderSpec(vision) } } };
  const store = generatedStore(spec, GIT_BASE_RECIPE);
  const params = await loadParams(spec, store);
  const pixels: tf.Tensor4D = tf.randomUniform([1, 35, 35, 3], -2, 2, 'float32', 3);
  const features = runSteps(visionSteps(params.git.image_encoder.vision_model, pixels, vision));
  const channelsFirst = tf.tidy(() => tf.transpose(pixels, [0, 3, 1, 2]));
  const [ours, input] = [await features.data(), await channelsFirst.data()];
  tf.dispose([params as unknown as tf.TensorContainer, pixels, features, channelsFirst]);

  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  const session = await ort.InferenceSession.create(await onnxEncoder(vision, store, prefix, format));
  const { features: found } = await session.run({ pixels: new ort.Tensor('float32', input, [1, 3, 35, 35]) });
  const theirs = found!.data as Float32Array;
  await session.release();
  assert.equal(theirs.length, ours.length);
  return Math.max(...theirs.map((x, i) => Math.abs(x - ours[i]!))) / Math.max(...ours.map(Math.abs));
}

describe('the vision tower as ONNX', () => {
  before(() => useBackend('cpu'));

  it('onnxruntime-web computes the same features in float32', async () => {
    const apart = await distanceFromOurs('f32');
    assert.ok(apart < 1e-5, `${apart}`);
  });

  it('and, with weights and activations of 8 bits, nearly the same', async () => {
    const apart = await distanceFromOurs('int8');
    assert.ok(apart > 1e-5 && apart < 0.05, `${apart}`);
  });
});
