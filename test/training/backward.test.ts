import assert from 'node:assert/strict';
import {
  backend,
  dispose,
  memory,
  randomUniform,
  slice,
  type Tensor,
  type Tensor4D,
  tensor,
} from '@tensorflow/tfjs-core';
import type { SimdBackend } from 'tfjs-backend-simd';
import { loadImage2Text } from '../../src/image2text/load.js';
import { type Git, namedParameters, withParameters } from '../../src/model/git.js';
import { fromDirectory } from '../../src/platform/node-files.js';
import { accumulateGradients, countLabels, type TrainingBatch } from '../../src/training/backward.js';
import { startGradients } from '../../src/training/gradients.js';
import { createAdapter } from '../../src/training/lora.js';
import { type OptimizationOptions, startOptimization, VISION_PREFIXES } from '../../src/training/optimizer.js';
import { useBackend, useThreads } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO } from '../support/fixtures.js';
import { numbersOf } from './support.js';

const bytesInUse = (): number => (backend() as SimdBackend).memory().simdBytesInUse;

const OPTIONS: OptimizationOptions = {
  ...{ steps: 10, schedule: 'constant', warmupSteps: 0, learningRate: 1e-3, visionLearningRate: 1e-3 },
  ...{ weightDecay: 0.01, maxGradNorm: 1, labelSmoothing: 0.1, betas: [0.9, 0.999], epsilon: 1e-8 },
  ...{ recompute: false, freeze: [...VISION_PREFIXES] },
};

/** Four images with texts of different lengths, some of them cut into micro-batches as `cuts` say. */
function batchesOf(pixels: Tensor4D, cuts: readonly (readonly number[])[]): TrainingBatch[] {
  const texts = [
    [101, 7, 9, 11, 102],
    [101, 8, 102],
    [101, 20, 21, 22, 23, 24, 102],
    [101, 5, 6, 102],
  ];
  const side = pixels.shape[1]!;
  return cuts.map((rows) => {
    const longest = Math.max(...rows.map((row) => texts[row]!.length));
    const padded = (row: number, fill: number) => Array.from({ length: longest }, (_, t) => texts[row]![t] ?? fill);
    return {
      pixels: slice(pixels, [rows[0]!, 0, 0, 0], [rows.length, side, side, 3]),
      ids: rows.map((row) => padded(row, 0)),
      labels: rows.map((row) => padded(row, -100).map((id, t) => (t === 0 ? -100 : id))),
    };
  });
}

describe('backward pass of a whole model', () => {
  /** The demo on a backend; on simd with its linear weights in a format. */
  async function withDemo<T>(weights: 'f32' | 'bf16', name: string, body: (git: Git) => Promise<T>): Promise<T> {
    await useBackend(name);
    const model = await loadImage2Text(await fromDirectory(DEMO), name === 'simd' ? { weights } : {});
    try {
      return await body(model.git);
    } finally {
      model.dispose();
    }
  }

  const pixelsOf = ({ config }: Git): Tensor4D =>
    randomUniform([4, config.vision.imageSize, config.vision.imageSize, 3], -2, 2, 'float32', 5) as Tensor4D;

  /** All gradients of the batch of four, by name. */
  async function gradientsOf(git: Git, pixels: Tensor4D, cuts: readonly (readonly number[])[]) {
    const batches = batchesOf(pixels, cuts);
    const gradients = startGradients([...namedParameters(git).keys()].filter((name) => !name.includes('temperal')));
    const total = batches.reduce((sum, { labels }) => sum + countLabels(labels), 0);
    let loss = 0;
    for (const batch of batches)
      loss += await accumulateGradients(git, batch, gradients, { smoothing: 0.1, total, recompute: true });
    const numbers = await numbersOf(gradients.byName);
    gradients.dispose();
    for (const { pixels } of batches) dispose(pixels!);
    return { loss, numbers };
  }

  it('every kind of layer has the bits of one batch in micro-batches of whole samples, on one thread, two and three', () =>
    withDemo('f32', 'simd', async (git) => {
      const pixels = pixelsOf(git);
      try {
        // The tower's embeddings are summed by tfjs operations over a micro-batch as a whole.
        const isComposed = (name: string) => name.includes('image_encoder.vision_model.embeddings');
        const found: (readonly [string, Uint32Array])[][] = [];
        for (const threads of [1, 2, 3]) {
          useThreads(threads);
          const some = [[[0], [1, 2, 3]]];
          for (const cuts of threads === 3 ? some : [...some, [[0, 1, 2, 3]], [[0], [1], [2], [3]]]) {
            const { numbers } = await expectTensors(0, () => gradientsOf(git, pixels, cuts));
            found.push([...numbers].filter(([name]) => !isComposed(name)));
          }
        }
        assert.ok(found[0]!.length > 50);
        for (const other of found.slice(1)) assert.deepEqual(other, found[0]);
      } finally {
        useThreads(1);
        pixels.dispose();
      }
    }));

  it('the fused kernels give the gradients of the composed path', async () => {
    const all: [string, Float32Array][][] = [];
    for (const name of ['simd', 'wasm']) {
      await withDemo('f32', name, async (git) => {
        const pixels = pixelsOf(git);
        const { numbers, loss } = await expectTensors(0, () => gradientsOf(git, pixels, [[0, 1, 2, 3]]));
        all.push([
          ['loss', Float32Array.of(loss)],
          ...[...numbers].map(([key, bits]): [string, Float32Array] => [key, new Float32Array(bits.buffer)]),
        ]);
        pixels.dispose();
      });
    }
    const [fused, composed] = [new Map(all[0]!), all[1]!];
    const norm = Math.hypot(...composed.slice(1).map(([, values]) => Math.sqrt(values.reduce((a, b) => a + b * b, 0))));
    let worst = 0;
    for (const [name, expected] of composed) {
      const got = fused.get(name)!;
      const largest = expected.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
      const error = expected.reduce((top, value, i) => Math.max(top, Math.abs(value - got[i]!)), 0);
      // The true gradient of key biases is 0.
      const allowed = /key\.bias|k_proj\.bias/.test(name) ? 1e-6 * norm : 1e-5 * largest;
      worst = Math.max(worst, error / allowed);
      assert.ok(error <= allowed, `${name}: off by ${error}, largest ${largest}`);
    }
    console.log(`    worst gradient: ${worst.toFixed(2)} of what is allowed`);
  });

  /** A model of the same numbers, all of them float32. */
  async function widened(git: Git): Promise<{ readonly git: Git; dispose(): void }> {
    const parameters = new Map<string, Tensor>();
    for (const [name, parameter] of namedParameters(git))
      parameters.set(name, tensor((await parameter.data()) as Float32Array, parameter.shape));
    return { git: withParameters(git, parameters), dispose: () => dispose([...parameters.values()]) };
  }

  for (const [name, makeOptions] of [
    ['LoRA', (git: Git) => ({ ...OPTIONS, adapter: createAdapter(git, { rank: 2 }, 3) })],
    ['the decoder, the tower frozen', () => OPTIONS],
  ] as const) {
    it(`${name}: beside frozen weights in bf16 it learns the bits that it learns beside the same numbers in float32`, () =>
      withDemo('bf16', 'simd', async (narrow) => {
        const pixels = pixelsOf(narrow);
        const wide = await widened(narrow);
        const learn = async (git: Git) => {
          const before = bytesInUse();
          const optimization = startOptimization(git, makeOptions(git));
          const batches = batchesOf(pixels, [
            [0, 1],
            [2, 3],
          ]);
          const losses: number[] = [];
          for (let step = 0; step < 3; step++) losses.push((await optimization.step(batches)).loss);
          const made = await numbersOf(optimization.state().parameters);
          optimization.dispose();
          for (const batch of batches) dispose(batch.pixels!);
          assert.equal(
            bytesInUse(),
            before,
            'the model has its bytes back, and its frozen weights are as narrow as before',
          );
          return { losses, made };
        };
        // A float32 weight is packed where it first is used: once before bytes are counted.
        await gradientsOf(wide.git, pixels, [[0, 1, 2, 3]]);
        const tensors = memory().numTensors;
        const [a, b] = [await learn(narrow), await learn(wide.git)];
        assert.deepEqual(a, b);
        assert.ok(a.losses[2]! < a.losses[0]!);
        assert.equal(memory().numTensors, tensors);
        wide.dispose();
        pixels.dispose();
      }));
  }
});
