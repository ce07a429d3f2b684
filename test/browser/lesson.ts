/** Training in a page's worker, and the same in Node to compare with. */
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, setThreads } from 'tfjs-backend-simd';
import type { Image2Text, ModelFiles, RgbImage } from '../../src/index.js';
import { loadImage2Text } from '../../src/index.js';
import { memoryFolder, saveAdapter, type TrainingOptions, train } from '../../src/training/index.js';

/** An image of SIZE by SIZE pixels as base64, so that it goes through a message as JSON. */
export interface LessonImage {
  readonly pixels: string;
  readonly text: string;
}

export interface LessonTask {
  readonly size: number;
  readonly threads: number;
  readonly pairs: readonly LessonImage[];
  readonly options: TrainingOptions;
  /** Images to describe with the adapter. */
  readonly asked?: readonly LessonImage[];
}

export interface LessonResult {
  readonly steps: readonly number[];
  readonly losses: readonly number[];
  /** The files of the adapter, base64. */
  readonly files: Readonly<Record<string, string>>;
  readonly said: readonly string[];
  /** Tensors that are left. */
  readonly tensors: number;
}

const bytesOf = (base64: string): Uint8Array => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const base64Of = (bytes: Uint8Array): string => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));

const imageOf = ({ pixels }: LessonImage, size: number): RgbImage => ({
  data: bytesOf(pixels),
  width: size,
  height: size,
});

async function open(files: ModelFiles, threads: number): Promise<Image2Text> {
  registerSimdBackend();
  const model = await loadImage2Text(files, { backend: 'simd' });
  setThreads(threads);
  return model;
}

const pairsOf = ({ pairs, size }: LessonTask) => pairs.map((pair) => ({ image: imageOf(pair, size), text: pair.text }));

export async function teach(task: LessonTask, files: ModelFiles): Promise<LessonResult> {
  const model = await open(files, task.threads);
  const steps: number[] = [];
  const losses: number[] = [];
  const result = await train(model, pairsOf(task), {
    ...task.options,
    onEvent: (event) => {
      if (event.type !== 'step') return;
      steps.push(event.step);
      losses.push(event.loss);
    },
  });
  const folder = memoryFolder();
  await saveAdapter(result.adapter!, folder, 'demo');
  model.useAdapter(result.adapter);
  result.dispose();
  const images = (task.asked ?? []).map((asked) => imageOf(asked, task.size));
  const said = images.length === 0 ? [] : await model.caption(images, { strategy: 'greedy' });
  model.dispose();
  return {
    ...{ steps, losses, said: said.map(({ text }) => text), tensors: tf.memory().numTensors },
    files: Object.fromEntries([...folder.files].map(([name, bytes]) => [name, base64Of(bytes)])),
  };
}

let stop: AbortController;
let ended: Promise<string>;
let model: Image2Text;
let steps = 0;

export async function teachUntilStopped(task: LessonTask, files: ModelFiles): Promise<string> {
  model = await open(files, task.threads);
  stop = new AbortController();
  const { signal } = stop;
  await new Promise<void>((resolve) => {
    const onEvent: TrainingOptions['onEvent'] = ({ type }) => {
      if (type === 'step' && ++steps === 1) resolve();
    };
    ended = train(model, pairsOf(task), { ...task.options, signal, onEvent }).then(
      () => 'it went on to its end',
      (reason: unknown) => String((reason as Error).message ?? reason),
    );
  });
  return 'started';
}

export async function stopTeaching(): Promise<{
  readonly ended: string;
  readonly steps: number;
  readonly tensors: number;
}> {
  stop.abort(new Error('enough'));
  const message = await ended;
  model.dispose();
  return { ended: message, steps, tensors: tf.memory().numTensors };
}
