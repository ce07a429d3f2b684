import { type Tensor4D, type Tensor5D, tensor } from '@tensorflow/tfjs-core';
import { type Random, seededRandom } from '../../src/generation/generate.js';
import type { Image2Text } from '../../src/index.js';
import { padBatch, type TrainingBatch, tokenizePair } from '../../src/training/index.js';
import { type PrintedPatches, printedPatches } from './reading.js';
import {
  captionOf,
  drawScene,
  drawVideo,
  FONT_COUNT,
  pick,
  questionsOf,
  randomLook,
  randomScene,
  VIDEO_FRAMES,
  videoCaptionOf,
  WORDS,
} from './scenes.js';

// What is learnt at a step: drawn anew each time, from the seed and the step's number alone, so that a run that goes on draws what it would have drawn.

export interface BatchPlan {
  readonly seed: number;
  readonly images: number;
  readonly videos: number;
}

export interface DrawnBatch {
  readonly batch: TrainingBatch;
  /** What is printed; not for videos, whose print is too small. */
  readonly printed: readonly PrintedPatches[] | undefined;
}

/** Easy at first: few words and looks, no shifts. */
const EASY = { words: 24, wordsPerStep: 0.12, fonts: 2, stepsPerFont: 250, stepsToJitter: 3000, stepsToVideos: 3000 };

const CAPTIONS = 0.55; // share of captions, the rest are questions
const SHARE_OF_VIDEO_STEPS = 1 / 2;

/** The batches of one step, which count as one. */
export function batchesOf(step: number, plan: BatchPlan, model: Image2Text): DrawnBatch[] {
  const random = seededRandom(plan.seed, step + 1);
  const words = WORDS_SHUFFLED.slice(0, Math.floor(EASY.words + EASY.wordsPerStep * step));
  const jitter = Math.min(1, 0.1 + step / EASY.stepsToJitter);
  const fonts = Math.min(FONT_COUNT, EASY.fonts + Math.floor(step / EASY.stepsPerFont));
  const made = [imageBatch(random, plan.images, words, jitter, fonts, model)];
  if (step >= EASY.stepsToVideos && random() < SHARE_OF_VIDEO_STEPS) made.push(videoBatch(random, plan.videos, model));
  return made;
}

/** In an order in which the first ones differ in length and letters. */
const WORDS_SHUFFLED: readonly string[] = (() => {
  const random = seededRandom(7);
  return WORDS.map((word) => ({ word, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ word }) => word);
})();

function imageBatch(
  random: Random,
  count: number,
  words: readonly string[],
  jitter: number,
  fonts: number,
  model: Image2Text,
): DrawnBatch {
  const { imageSize: size, grid, patchSize } = model.config.vision;
  const drawn = Array.from({ length: count }, () => {
    const scene = randomScene(random, words);
    const drawing = drawScene(scene, randomLook(random, scene, { jitter, fonts }), size, random);
    const asked = pick(random, questionsOf(scene));
    const pair = random() < CAPTIONS ? { text: captionOf(scene) } : asked;
    return { scene, drawing, pair };
  });
  const pixels = normalized(
    drawn.map(({ drawing }) => drawing.pixels),
    [count, size, size, 3],
    model,
  ) as Tensor4D;
  return {
    batch: {
      pixels,
      ...texts(
        drawn.map(({ pair }) => pair),
        model,
      ),
    },
    printed: drawn.map(({ scene, drawing }) => printedPatches(drawing, scene.word, grid, patchSize)),
  };
}

function videoBatch(random: Random, count: number, model: Image2Text): DrawnBatch {
  const { imageSize: size } = model.config.vision;
  const drawn = Array.from({ length: count }, () => {
    const scene = randomScene(random);
    const direction = pick(random, ['left', 'right'] as const);
    const frames = drawVideo(scene, randomLook(random, scene, { isVideo: true }), direction, size, random);
    return { frames, pair: { text: videoCaptionOf(scene, direction) } };
  });
  const pixels = normalized(
    drawn.flatMap(({ frames }) => frames.map((frame) => frame.pixels)),
    [count, VIDEO_FRAMES, size, size, 3],
    model,
  ) as Tensor5D;
  return {
    batch: {
      pixels,
      ...texts(
        drawn.map(({ pair }) => pair),
        model,
      ),
    },
    printed: undefined,
  };
}

function texts(pairs: readonly { readonly text: string; readonly question?: string }[], { tokenizer }: Image2Text) {
  const tokenized = pairs.map((pair) => tokenizePair(tokenizer, { ...pair, image: '' }, 'a drawn scene', 40));
  return padBatch(tokenized, tokenizer.padId);
}

function normalized(images: readonly Float32Array[], shape: number[], { imageConfig }: Image2Text) {
  const { imageMean: mean, imageStd: std } = imageConfig;
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  let at = 0;
  for (const image of images)
    for (let i = 0; i < image.length; i++) {
      const channel = i % 3;
      values[at++] = (image[i]! / 255 - mean[channel]!) / std[channel]!;
    }
  return tensor(values, shape as [number, number, number, number], 'float32');
}
