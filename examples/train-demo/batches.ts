import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type Random, seededRandom } from '../../src/generation/generate.js';
import { type Known, printedPatches } from './reading.js';
import {
  captionOf,
  drawScene,
  drawVideo,
  FONT_COUNT,
  type Look,
  type LookOptions,
  pick,
  placeAt,
  questionsOf,
  randomLook,
  randomScene,
  VIDEO_FRAMES,
  videoCaptionOf,
  WORDS,
} from './scenes.js';

// What is learned at a step: drawn anew each time, from the seed and the step's number alone, so that a run that goes on draws what it would have drawn.

export interface BatchPlan {
  /** `videos`: what comes after, from a checkpoint that knows images. */
  readonly part: 'images' | 'videos';
  readonly seed: number;
  /** Of the whole run. */
  readonly steps: number;
  readonly images: number;
  readonly videos: number;
  /** Images are squares of grid x grid patches of patchSize x patchSize pixels, normalized. */
  readonly grid: number;
  readonly patchSize: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface DrawnBatch {
  /** [B, size, size, 3] or [B, F, size, size, 3] */
  readonly pixels: Float32Array;
  readonly shape: readonly number[];
  /** Which patches the tower computes. */
  readonly patches: readonly (readonly number[])[];
  /** Nothing while only reading is learned. */
  readonly texts: readonly { readonly text: string; readonly question?: string }[];
  /** What the classifiers ask for. */
  readonly known: Known | undefined;
}

/** What is learned when, in shares of the run: first only to read, then to say it, at last from all patches. */
const PHASES = { reading: 0.45, allPatches: 0.88, videos: 0.6, words: 0.2, fonts: 0.15, jitter: 0.3 };
/** Patches of an image that are computed before all are: those of the print, and others by chance. */
const PATCHES = { reading: 13, image: 23, frame: 15 };
/** Of a frame while videos are learned: some of those where the object is. */
const OBJECT_PATCHES = 16;

const FIRST_WORDS = 24;
const CAPTIONS = 0.55; // share of captions, the rest are questions
const SHARE_OF_VIDEO_STEPS = 1 / 2;

/** In an order in which the first ones differ in length and letters. */
const WORDS_SHUFFLED: readonly string[] = (() => {
  const random = seededRandom(7);
  return WORDS.map((word) => ({ word, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ word }) => word);
})();

/** The batches of one step, which count as one. */
function drawBatches(step: number, plan: BatchPlan): DrawnBatch[] {
  const random = seededRandom(plan.seed, step + 1);
  if (plan.part === 'videos')
    return [imageBatch(random, plan, WORDS, {}, PATCHES.image, false), videoBatch(random, plan)];
  const progress = step / plan.steps;
  const jitter = Math.min(1, 0.1 + progress / PHASES.jitter);
  const fonts = Math.min(FONT_COUNT, 2 + Math.floor((FONT_COUNT - 2) * (progress / PHASES.fonts)));
  const share = Math.min(1, progress / PHASES.words);
  const words = WORDS_SHUFFLED.slice(0, Math.floor(FIRST_WORDS + share * (WORDS.length - FIRST_WORDS)));
  const isReading = progress < PHASES.reading;
  const all = progress >= PHASES.allPatches ? plan.grid ** 2 : undefined;
  const made = [
    imageBatch(random, plan, words, { jitter, fonts }, all ?? PATCHES[isReading ? 'reading' : 'image'], isReading),
  ];
  if (progress >= PHASES.videos && random() < SHARE_OF_VIDEO_STEPS)
    made.push(videoBatch(random, plan, all ?? PATCHES.frame));
  return made;
}

/** Draws in a thread of its own: `draw(step)` begins, and resolves when it is done. */
export function startDrawing(plan: BatchPlan): { draw(step: number): Promise<DrawnBatch[]>; stop(): Promise<unknown> } {
  // tsx does not reach threads of Node 20 by itself.
  const code = `import('tsx/esm/api').then(({ register }) => (register(), import(${JSON.stringify(import.meta.url)})))`;
  const worker = new Worker(code, { eval: true, workerData: plan });
  return {
    async draw(step) {
      worker.postMessage(step);
      const [drawn] = (await once(worker, 'message')) as [DrawnBatch[]];
      return drawn;
    },
    stop: () => worker.terminate(),
  };
}

if (!isMainThread)
  parentPort!.on('message', (step: number) => {
    const drawn = drawBatches(step, workerData as BatchPlan);
    parentPort!.postMessage(drawn, drawn.map(({ pixels }) => pixels.buffer) as ArrayBuffer[]);
  });

/** `count` of `all` patches: `first`, and others by chance. */
function somePatches(random: Random, first: readonly number[], count: number, all: number): number[] {
  const chosen = new Set(first.slice(0, count));
  while (chosen.size < count) chosen.add(Math.floor(random() * all));
  return [...chosen];
}

function imageBatch(
  random: Random,
  plan: BatchPlan,
  words: readonly string[],
  looks: LookOptions,
  patches: number,
  isReading: boolean,
): DrawnBatch {
  const { images, grid, patchSize } = plan;
  const size = grid * patchSize;
  const drawn = Array.from({ length: images }, () => {
    const scene = randomScene(random, words);
    const drawing = drawScene(scene, randomLook(random, scene, looks), size, random);
    const asked = pick(random, questionsOf(scene));
    return { scene, drawing, said: random() < CAPTIONS ? { text: captionOf(scene) } : asked };
  });
  const printed = drawn.map(({ scene, drawing }) => printedPatches(drawing, scene.word, grid, patchSize));
  return {
    pixels: normalized(
      drawn.map(({ drawing }) => drawing.pixels),
      plan,
    ),
    shape: [images, size, size, 3],
    patches: printed.map((print) => somePatches(random, print.patches, patches, grid * grid)),
    texts: isReading ? [] : drawn.map(({ said }) => said),
    known: { print: printed },
  };
}

/** `patches`: how many of each frame, by chance; left out: those of the object, whose place is asked for. */
function videoBatch(random: Random, plan: BatchPlan, patches?: number): DrawnBatch {
  const { videos, grid, patchSize } = plan;
  const size = grid * patchSize;
  const drawn = Array.from({ length: videos }, () => {
    const scene = randomScene(random);
    const direction = pick(random, ['left', 'right'] as const);
    const look = randomLook(random, scene, { isVideo: true });
    const frames = drawVideo(scene, look, direction, size, random);
    const places = frames.map((_, n) => placeAt(look, direction, n));
    return { frames, look, places, said: { text: videoCaptionOf(scene, direction) } };
  });
  const frames = drawn.flatMap((video) => video.frames);
  const chosen =
    patches === undefined
      ? drawn.flatMap(({ look, places }) => places.map((x) => objectPatches(random, look, x, grid)))
      : frames.map(() => somePatches(random, [], patches, grid * grid));
  return {
    pixels: normalized(
      frames.map(({ pixels }) => pixels),
      plan,
    ),
    shape: [videos, VIDEO_FRAMES, size, size, 3],
    patches: chosen,
    texts: drawn.map(({ said }) => said),
    known: patches === undefined ? { places: drawn.flatMap(({ places }) => places) } : undefined,
  };
}

/** Some of the patches that hold an object whose middle is at `x`. */
function objectPatches(random: Random, { y, radius }: Look, x: number, grid: number): number[] {
  const reach = 1.15 * radius;
  const range = (middle: number) => {
    const from = Math.max(0, Math.floor((middle - reach) * grid));
    const to = Math.min(grid - 1, Math.floor((middle + reach) * grid));
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  };
  const all = range(y).flatMap((row) => range(x).map((column) => ({ patch: row * grid + column, key: random() })));
  const first = all.sort((a, b) => a.key - b.key).map(({ patch }) => patch);
  return somePatches(random, first, OBJECT_PATCHES, grid * grid);
}

function normalized(images: readonly Float32Array[], { mean, std }: BatchPlan): Float32Array {
  const values = new Float32Array(images.length * images[0]!.length);
  let at = 0;
  for (const image of images)
    for (let i = 0; i < image.length; i += 3)
      for (let channel = 0; channel < 3; channel++)
        values[at++] = (image[i + channel]! / 255 - mean[channel]!) / std[channel]!;
  return values;
}
