// A tfjs-layers model trained and used on the backend `simd` and on tfjs's cpu backend: a program of its own, bundled by run-suite.ts.
// Arguments: the options of the backend as JSON, and the file for the results.

import { writeFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
import '@tensorflow/tfjs-backend-cpu';
import * as tfl from '@tensorflow/tfjs-layers';
import { registerSimdBackend, type SimdBackendOptions } from '../../src/index.js';

const [, , variant = '{}', results = ''] = process.argv;

/** What a model learned, and what became of it. */
export interface Learned {
  readonly losses: readonly number[];
  readonly predictions: readonly number[];
  /** Tensors left when all is disposed of. */
  readonly leaked: number;
}

export type LayersResult = Readonly<Record<'cpu' | 'simd', Learned>>;

const EXAMPLES = 24;

/** Images [8, 8, 1] with a bright half, and which half it is. */
function data(): [tf.Tensor4D, tf.Tensor2D] {
  const pixels = Float32Array.from({ length: EXAMPLES * 64 }, (_, i) => {
    const [example, column] = [Math.floor(i / 64), i % 8];
    return 0.3 * Math.sin(i) + (column < 4 === (example % 2 === 0) ? 1 : 0);
  });
  const halves = Float32Array.from({ length: EXAMPLES * 2 }, (_, i) => ((i >> 1) % 2 === i % 2 ? 1 : 0));
  return [tf.tensor4d(pixels, [EXAMPLES, 8, 8, 1]), tf.tensor2d(halves, [EXAMPLES, 2])];
}

function model(): tfl.Sequential {
  const seeded = (seed: number) => ({ kernelInitializer: tfl.initializers.glorotUniform({ seed }) });
  const made = tfl.sequential({
    layers: [
      tfl.layers.conv2d({ inputShape: [8, 8, 1], filters: 6, kernelSize: 3, activation: 'relu', ...seeded(1) }),
      tfl.layers.batchNormalization(),
      tfl.layers.maxPooling2d({ poolSize: 2 }),
      tfl.layers.flatten(),
      tfl.layers.dense({ units: 12, activation: 'elu', ...seeded(2) }),
      tfl.layers.layerNormalization(),
      tfl.layers.dense({ units: 2, activation: 'softmax', ...seeded(3) }),
    ],
  });
  made.compile({ optimizer: tf.train.adam(0.02), loss: 'categoricalCrossentropy' });
  return made;
}

async function learn(backend: string): Promise<Learned> {
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const [x, y] = data();
  const net = model();
  const { history } = await net.fit(x, y, { epochs: 6, batchSize: 8, shuffle: false, verbose: 0 });
  const predicted = net.predict(x) as tf.Tensor;
  const predictions = Array.from(await predicted.data());
  tf.dispose([x, y, predicted]);
  net.dispose();
  return { losses: history['loss'] as number[], predictions, leaked: tf.memory().numTensors - before };
}

async function compare(): Promise<LayersResult> {
  registerSimdBackend(JSON.parse(variant) as SimdBackendOptions);
  return { cpu: await learn('cpu'), simd: await learn('simd') };
}

void compare().then((learned) => writeFileSync(results, JSON.stringify(learned)));
