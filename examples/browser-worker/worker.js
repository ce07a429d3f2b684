// The model lives in this worker, so that the page never waits. A message { id, task, ...given } is answered by { id, result } or
// { id, error }; while the model loads there are messages { progress } between 0 and 100.
import { removeBackend } from '@tensorflow/tfjs-core';
import { fetchFolder, loadImage2Text } from 'generative-image2text/browser';
import { availableThreads, registerSimdBackend, setThreads } from 'tfjs-backend-simd';

let model;

const tasks = {
  /** Starts the backend and loads a checkpoint; `weights` is how they are kept in memory: f32, bf16, f16 or int8. */
  async load({ folder, weights = 'f32', backend = {} }) {
    registerSimdBackend(backend);
    const onProgress = (event) => {
      if (event.status === 'progress_total') postMessage({ progress: event.progress });
    };
    model = await loadImage2Text(fetchFolder(folder, { onProgress }), { backend: 'simd', weights });
    return { threads: setThreads(availableThreads()), isolated: crossOriginIsolated };
  },

  /** Says what is in an image: a Blob, an ImageData or an address. */
  async caption({ image, threads, options }) {
    const used = setThreads(threads);
    const start = performance.now();
    const { text, confidence, tokens } = await model.caption(image, options);
    return { text, confidence, tokens, threads: used, ms: performance.now() - start };
  },

  /** Frees the weights and ends its threads. Terminating this worker would do the same, seconds later. */
  async close() {
    model?.dispose();
    model = undefined;
    removeBackend('simd');
  },
};

addEventListener('message', async ({ data: { id, task, ...given } }) => {
  try {
    postMessage({ id, result: await tasks[task](given) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
});
