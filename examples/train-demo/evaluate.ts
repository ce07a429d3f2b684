import { readdirSync, readFileSync } from 'node:fs';
import { seededRandom } from '../../src/generation/generate.js';
import { createImage2Text, frames, type Git, type Image2Text } from '../../src/index.js';
import { captionOf, drawScene, drawVideo, pick, randomLook, randomScene, toImage, videoCaptionOf } from './scenes.js';

export interface Accuracy {
  readonly scenes: number;
  /** Shares of captions that are right word for word, and of captions with the right word, color, object. */
  readonly captions: number;
  readonly words: number;
  readonly videos: number | undefined;
  /** Of the repository's examples, which were drawn by another program: how many captions and videos are right. */
  readonly examples: string;
}

const HELD_OUT_SEED = 987_654_321; // no run's

/** How often a model is right about scenes that it was not trained on, with greedy decoding. */
export async function measureAccuracy(git: Git, base: Image2Text, scenes: number, videos: number): Promise<Accuracy> {
  const model = createImage2Text(git, base.tokenizer, base.imageConfig, { maxBatch: 16 }, [], base.generationConfig);
  const size = git.config.vision.imageSize;
  const drawn = Array.from({ length: scenes }, (_, n) => {
    const random = seededRandom(HELD_OUT_SEED, n);
    const scene = randomScene(random);
    return { scene, image: toImage(drawScene(scene, randomLook(random, scene), size, random), size) };
  });
  const moving = Array.from({ length: videos }, (_, n) => {
    const random = seededRandom(HELD_OUT_SEED, 1_000_000 + n);
    const scene = randomScene(random);
    const direction = pick(random, ['left', 'right'] as const);
    const images = drawVideo(scene, randomLook(random, scene, { isVideo: true }), direction, size, random);
    return { truth: videoCaptionOf(scene, direction), video: frames(images.map((image) => toImage(image, size))) };
  });
  const options = { strategy: 'greedy' } as const;
  const said = (
    await model.caption(
      drawn.map(({ image }) => image),
      options,
    )
  ).map(({ text }) => text);
  const share = (right: readonly boolean[]) => right.filter(Boolean).length / right.length;
  const saidOfVideos: string[] = [];
  for (const { video } of moving) saidOfVideos.push((await model.caption(video, options)).text);
  return {
    scenes,
    captions: share(drawn.map(({ scene }, n) => said[n] === captionOf(scene))),
    words: share(drawn.map(({ scene }, n) => said[n]!.split(' ').slice(2).includes(scene.word))),
    videos: videos === 0 ? undefined : share(moving.map(({ truth }, n) => saidOfVideos[n] === truth)),
    examples: await rightExamples(model),
  };
}

const EXAMPLES = new URL('../', import.meta.url);
interface Expected {
  readonly images: readonly { readonly file: string; readonly truth: string }[];
  readonly videos: readonly { readonly frames: string | readonly string[]; readonly truth: string }[];
}

async function rightExamples(model: Image2Text): Promise<string> {
  const expected = JSON.parse(readFileSync(new URL('../weights/demo/expected.json', EXAMPLES), 'utf8')) as Expected;
  const bytes = (file: string) => new Uint8Array(readFileSync(new URL(`../${file}`, EXAMPLES)));
  let images = 0;
  for (const { file, truth } of expected.images)
    if ((await model.caption(bytes(file), { strategy: 'greedy' })).text === truth) images++;
  let videos = 0;
  for (const { frames: folder, truth } of expected.videos) {
    const files =
      typeof folder === 'string'
        ? readdirSync(new URL(`../${folder}`, EXAMPLES))
            .sort()
            .map((name) => `${folder}/${name}`)
        : folder;
    if ((await model.caption(frames(files.map(bytes)), { strategy: 'greedy' })).text === truth) videos++;
  }
  return `${images}/${expected.images.length} images, ${videos}/${expected.videos.length} videos`;
}
