/**
 * What the tests let a browser do. Bundled from the sources, and loaded as the script of a page and of a worker alike: both answer a
 * `ProbeTask` by a `ProbeResult`. The same function runs in Node for the numbers to compare with.
 */
import * as tf from '@tensorflow/tfjs-core';
import {
  registerSimdBackend,
  type SimdBackend,
  type SimdBackendOptions,
  setThreads,
  type WeightFormat,
} from 'tfjs-backend-simd';
import type { Image2Text, ModelFiles } from '../../src/index.js';
import { encodeImage, loadImage2Text, startSession } from '../../src/index.js';
import { disposeCache } from '../../src/model/git.js';

export interface ProbeTask {
  /** simd by default; others must be registered. */
  readonly backend?: string;
  readonly options?: SimdBackendOptions;
  readonly format?: WeightFormat;
  /** The images are described with each number of threads in turn. */
  readonly threads: readonly number[];
  readonly images: readonly string[];
}

export interface ProbeRun {
  /** What `setThreads` returned, and what is in use at the end. */
  readonly threads: readonly [number, number];
  readonly captions: readonly { readonly text: string; readonly logProbs: readonly number[] }[];
  /** Of the first token, for an image of noise: [V]. */
  readonly logits: readonly number[];
}

export interface ProbeResult {
  readonly runs: readonly ProbeRun[];
  readonly sharedMemory: boolean;
  /** Fused kernels that the backend has for the model's layers. */
  readonly fused: readonly string[];
  /** Tensors that are left once the model is disposed of. */
  readonly tensors: number;
}

/** An image of noise, the same wherever it is made. */
function noise(size: number): tf.Tensor4D {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >> 8) / 2 ** 23;
  };
  return tf.tensor4d(
    Float32Array.from({ length: size * size * 3 }, () => next()),
    [1, size, size, 3],
  );
}

async function firstLogits({ git }: Image2Text): Promise<number[]> {
  const pixels = noise(git.config.vision.imageSize);
  const image = encodeImage(git, pixels);
  const session = startSession(git, image);
  const [logits] = await session.step([[git.config.bosTokenId]]);
  session.dispose();
  disposeCache(image);
  pixels.dispose();
  return Array.from(logits!);
}

/** Does what `task` says with the model of `files`; `open` makes an image of its name. */
export async function probe(
  task: ProbeTask,
  files: ModelFiles,
  open: (name: string) => Promise<Blob>,
): Promise<ProbeResult> {
  const { backend: name = 'simd', format } = task;
  if (name === 'simd') registerSimdBackend(task.options);
  const model = await loadImage2Text(files, { backend: name, ...(format && { weights: format }) });
  const { pool, heap } = tf.backend() as Partial<SimdBackend>;
  const runs: ProbeRun[] = [];
  for (const count of task.threads) {
    const used = pool === undefined ? 1 : setThreads(count);
    const captions = [];
    for (const image of task.images) {
      const { text, tokens } = await model.caption(await open(image), { strategy: 'greedy', maxLength: 20 });
      captions.push({ text, logProbs: tokens.map(({ logProb }) => logProb) });
    }
    runs.push({ threads: [used, pool?.threads ?? 1], captions, logits: await firstLogits(model) });
  }
  model.dispose();
  const sharedMemory = heap !== undefined && !(heap.u8.buffer instanceof ArrayBuffer);
  const fused = ['GitLinear', 'GitLayerNorm', 'GitAttention', 'GitDecoderStep'].filter((kernel) =>
    tf.getKernel(kernel, name),
  );
  return { runs, sharedMemory, fused, tensors: tf.memory().numTensors };
}
