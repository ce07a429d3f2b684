import { seededRandom } from '../../src/generation/generate.js';
import type { Image2Text, RgbImage } from '../../src/index.js';
import type { TrainingOptions, TrainingPair } from '../../src/training/index.js';
import { captionOf, drawScene, pick, randomLook, randomScene, type Scene, toImage } from '../train-demo/scenes.js';

// A lesson in one new thing. The demo has never seen a house, nor cyan, and has no word piece for it: it spells c, ##y, ##a, ##n.

const SIZE = 96;
const NEW: Scene = { object: 'house', color: 'cyan', word: '' };
export const NEW_CAPTION = `a ${NEW.color} ${NEW.object}`;

/** What is to be said of an image. */
export interface Drawn {
  readonly image: RgbImage;
  readonly truth: string;
}

/** Images of the new thing, in every place, size and light of the demo's world. */
export const drawNew = (count: number, seed: number): Drawn[] =>
  Array.from({ length: count }, (_, n) => {
    const random = seededRandom(seed, n);
    return { image: toImage(drawScene(NEW, randomLook(random, NEW), SIZE, random), SIZE), truth: NEW_CAPTION };
  });

/** Of the fonts of scenes.ts, those that the published demo was trained on too, as far as its examples show. */
const KNOWN_FONTS = [0, 1, 2, 3, 6];

/** Images of what the demo knows, as plain as those it was trained on. */
export const drawKnown = (count: number, seed: number): Drawn[] =>
  Array.from({ length: count }, (_, n) => {
    const random = seededRandom(seed, 1_000_000 + n);
    const scene = randomScene(random);
    const plain = randomLook(random, scene, { jitter: 0.3 });
    const look = { ...plain, font: pick(random, KNOWN_FONTS), sharpness: 0.3, noise: 0 };
    return { image: toImage(drawScene(scene, look, SIZE, random), SIZE), truth: captionOf(scene) };
  });

const GREEDY = { strategy: 'greedy' } as const;

/** What the model says of images. */
export const captionsOf = async (model: Image2Text, drawn: readonly Drawn[]): Promise<string[]> =>
  (
    await model.caption(
      drawn.map(({ image }) => image),
      GREEDY,
    )
  ).map(({ text }) => text);

/** Known images to rehearse, and how often each new one comes for each time that a known one does. */
const REHEARSED = 600;
const REPEATED = 6;

/** The lesson: forty images of the new thing, and known ones with what the model says of them now, right or wrong, so that it does not forget. */
export async function lessonPairs(model: Image2Text): Promise<TrainingPair[]> {
  const rehearsed = drawKnown(REHEARSED, 11);
  const said = await captionsOf(model, rehearsed);
  const fresh = drawNew(40, 12).map(({ image, truth }) => ({ image, text: truth }));
  return [
    ...Array.from({ length: REPEATED }, () => fresh).flat(),
    ...rehearsed.map(({ image }, n) => ({ image, text: said[n]! })),
  ];
}

/** How it is taught: adapters on the decoder's attention, and on the projection, where features that no word needed so far are let through. */
export const LESSON = {
  lora: { rank: 8, alpha: 16, targets: ['query', 'value', 'visual_projection.0'] },
  ...{ steps: 280, batchSize: 24, learningRate: 1.5e-3, labelSmoothing: 0, schedule: 'cosine', weightDecay: 0 },
} as const satisfies TrainingOptions;

export interface Marks {
  /** Share of images of the new thing that are called so, word for word. */
  readonly learned: number;
  /** Share of the captions that were right before that are right still. */
  readonly kept: number;
}

/** An examination before and after, with images of its own: `images` of the new thing, and as many known ones that the model is right about. */
export async function examine(model: Image2Text, teach: () => Promise<void>, images = 100): Promise<Marks> {
  const fresh = drawNew(images, 13);
  const drawn = drawKnown(2 * images, 14);
  const before = await captionsOf(model, drawn);
  const known = drawn.filter(({ truth }, n) => before[n] === truth).slice(0, images);
  await teach();
  const right = async (list: readonly Drawn[]) =>
    (await captionsOf(model, list)).filter((text, n) => text === list[n]!.truth).length / list.length;
  return { learned: await right(fresh), kept: await right(known) };
}
