/** The script of the test page, and of its worker. */
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend } from 'tfjs-backend-simd';
import {
  env,
  fetchFolder,
  fetchModelFiles,
  fromFiles,
  type ImageInput,
  type LoadEvent,
  loadImage2Text,
  type ModelFiles,
  pipeline,
  RawImage,
} from '../../src/browser.js';
import type { LessonTask } from './lesson.js';
import { elementsOf, pixelsOf, refusedPixels } from './page-images.js';
import { type ProbeTask, probe } from './probe.js';

/** Things to be asked for by name: in the page by `ask`, which is global, in the worker by a message. */
const tasks: Readonly<Record<string, (given: any) => Promise<unknown>>> = {
  async probe({ threadFile, ...given }: ProbeTask & { threadFile?: string }) {
    const worker = () => new Worker(threadFile!, { type: 'module' });
    const task = threadFile === undefined ? given : { ...given, options: { ...given.options, worker } };
    if (task.backend === 'webgl') await import('@tensorflow/tfjs-backend-webgl');
    if (task.backend === 'webgpu') await import('@tensorflow/tfjs-backend-webgpu');
    if (task.backend === 'wasm')
      (await import('@tensorflow/tfjs-backend-wasm')).setWasmPaths(`${location.origin}/wasm/`);
    const open = async (name: string) => (await fetch(`${location.origin}/examples/${name}`)).blob();
    return { ...(await probe(task, fetchFolder('/weights/demo'), open)), compiled };
  },
  /** A caption by a model that is fetched from a Hub, and how far its loading said it was at last. */
  async captionFromHub({ repo, endpoint, image }) {
    let progress = 0;
    const onProgress = (event: LoadEvent) => {
      if (event.status === 'progress_total') progress = event.progress;
    };
    const text = await captionBy(fetchModelFiles(repo, { endpoint, onProgress }), image);
    return { text, progress };
  },
  /** The same by a model whose files were chosen in the page's input. */
  captionFromFiles: ({ image }) => captionBy(fromFiles(document.querySelector('input')!.files!), image),
  /** Trains an adapter on images that the page has, and gives what it would offer for download. */
  async teach(given: LessonTask) {
    return (await import('./lesson.js')).teach(given, fetchFolder('/weights/demo'));
  },
  /** Starts that, and says so after the first step; … */
  async teachUntilStopped(given: LessonTask) {
    return (await import('./lesson.js')).teachUntilStopped(given, fetchFolder('/weights/demo'));
  },
  /** … stops it, and tells how it ended. */
  async stopTeaching() {
    return (await import('./lesson.js')).stopTeaching();
  },
  pixels: ({ image }) => pixelsOf(`${location.origin}/examples/${image}`),
  refusedPixels,
  /** Code written for transformers.js: the captions of an image in the ways that it takes one. */
  async pipeline({ image }) {
    Object.assign(env, { allowLocalModels: true, localModelPath: '/' });
    const captioner = await pipeline('image-to-text', 'weights/demo', { device: 'wasm', dtype: 'fp32' });
    const address = `${location.origin}/examples/${image}`;
    const rgbImage = await RawImage.read(address);
    const inputs: Record<string, ImageInput> = {
      ...{ address, blob: await (await fetch(address)).blob(), rgbImage, canvasOfRawImage: rgbImage.toCanvas() },
      ...(typeof document === 'object' ? await elementsOf(address) : {}),
    };
    const texts: Record<string, string> = {};
    for (const [kind, input] of Object.entries(inputs)) texts[kind] = (await captioner(input))[0]!.generated_text;
    await captioner.dispose();
    return texts;
  },
  /** What the console was given as warnings: on a busy machine not every line of a worker's console reaches a test. */
  warned: async () => warned,
  async remove() {
    tf.removeBackend('simd');
  },
  /** Removes the backend while it is still starting. */
  async removeEarly() {
    registerSimdBackend({ threads: 3 });
    const started = tf.setBackend('simd');
    tf.removeBackend('simd');
    return started;
  },
  /** From now on this browser knows no relaxed SIMD, as those before 2023. */
  async forgetRelaxedSimd() {
    const { validate } = WebAssembly;
    WebAssembly.validate = (bytes) => !usesRelaxedMadd(new Uint8Array(bytes as ArrayBuffer)) && validate(bytes);
  },
};

async function captionBy(files: ModelFiles, image: string): Promise<string> {
  registerSimdBackend();
  const model = await loadImage2Text(files, { backend: 'simd' });
  const { text } = await model.caption(`${location.origin}/examples/${image}`, { strategy: 'greedy' });
  model.dispose();
  return text;
}

/** Is opcode 0x105 of the vector prefix in it? */
const usesRelaxedMadd = (bytes: Uint8Array): boolean =>
  bytes.some((byte, i) => byte === 253 && bytes[i + 1] === 133 && bytes[i + 2] === 2);

/** Sizes of the modules that were compiled. */
const compiled: number[] = [];
const { compile } = WebAssembly;
WebAssembly.compile = (bytes: BufferSource) => {
  compiled.push(bytes.byteLength);
  return compile(bytes);
};

const warned: string[] = [];
const { warn } = console;
console.warn = (...given: unknown[]) => {
  warned.push(given.join(' '));
  warn(...given);
};

if (typeof document === 'object')
  Object.assign(globalThis, { ask: (name: string, given: object) => tasks[name]!(given) });
else
  addEventListener('message', async ({ data: { name, given } }) => {
    try {
      postMessage({ result: await tasks[name]!(given) });
    } catch (error) {
      postMessage({ error: (error as Error).message });
    }
  });
