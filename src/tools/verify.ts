import { realpath } from 'node:fs/promises';
import { basename } from 'node:path';
import { OptionError } from '../errors.js';
import { isOffline } from '../hub/environment.js';
import { defaultImageConfig, type ImageConfig } from '../image/image-config.js';
import type { RgbImage } from '../image/raw-image.js';
import type { CaptionOptions } from '../image2text/captions.js';
import { withEncodedImages } from '../image2text/encoded-image.js';
import type { Image2Text } from '../image2text/image2text.js';
import { createInputLoader, openFrames, toRgbImage } from '../image2text/input-loader.js';
import { type ImageInput, isVideoInput, type VideoSource, type VisualInput, video } from '../image2text/inputs.js';
import { openImageConfig } from '../image2text/load.js';
import { eventSink } from '../load-events.js';
import { disposeGit } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import { type LoadGitOptions, loadGitParams, openGit } from '../model/load-git.js';
import { fromDirectory, openImage } from '../platform/node-files.js';
import { openVideo } from '../platform/node-videos.js';
import { type HubOptions, openModel } from '../platform/open-model.js';
import { listPublishedLogits, type PublishedLogits } from './models.js';

export interface VerifyOptions extends Omit<HubOptions, 'onProgress' | 'weights'> {
  /** Which published checkpoint it is (`microsoft/git-base`, or `git-base` for short), where neither its name nor its path says so. */
  readonly as?: string | undefined;
  /** The image (or frames) of the published numbers. Default: fetched, where that is possible. */
  readonly image?: VisualInput | undefined;
  /** Receives the download. */
  readonly onDownload?: HubOptions['onProgress'];
  /** Receives the loading. */
  readonly onProgress?: LoadGitOptions['onProgress'];
  /** Instead of weights/published-logits.json. */
  readonly catalog?: readonly PublishedLogits[] | undefined;
  /** Where images can be fetched, by what the catalog calls them. */
  readonly addresses?: Readonly<Record<string, string>> | undefined;
}

/** One published number and ours. */
export interface VerifiedLogit {
  readonly index: number;
  readonly expected: number;
  readonly got: number;
  readonly difference: number;
  readonly passed: boolean;
}

export interface Verification {
  readonly checkpoint: string;
  /** How the weights are stored. */
  readonly dtypes: readonly string[];
  /** The image, in the catalog's words. */
  readonly image: string;
  readonly tolerance: number;
  readonly logits: readonly VerifiedLogit[];
  readonly passed: boolean;
  /** What may explain a difference. */
  readonly notes: readonly string[];
}

/**
 * Loads a published checkpoint (a folder, or a name on the Hub) on the current backend and compares its logits of the first word for the
 * published image with the published numbers. That they differ is a result, not an error.
 *
 * @throws OptionError (`which-checkpoint`, `nothing-published`, `image-needed`); ImageError for the image; what finding and loading
 *   the model throws; the signal's reason. Nothing stays loaded.
 */
export async function verifyModel(model: string, options: VerifyOptions = {}): Promise<Verification> {
  const { signal, onDownload, onProgress } = options;
  const published = publishedFor(options.as ?? (await publishedName(model)), model, options.catalog);
  const files = await openModel(model, { ...options, weights: 'f32', onProgress: onDownload });
  const { config, tensors } = await openGit(files);
  const dtypes = [...new Set([...tensors.values()].map(({ dtype }) => dtype))].filter((dtype) => dtype !== 'I64');
  const imageConfig = imageConfigOf(published);
  const notes = [
    ...(same(imageConfig, await openImageConfig(files, config)) ? [] : [otherPreprocessing(published)]),
    ...(dtypes.every((dtype) => dtype === 'F32')
      ? []
      : [`the weights are stored as ${dtypes.join(', ')}, the published numbers are of F32`]),
  ];
  const images = await openPublishedImage(published, options);
  const git = { config, params: await loadGitParams(config, tensors, files.label, { signal, onProgress }) };
  try {
    const asked = { inputIds: published.input_ids[0], signal };
    const logits = compare(published, await firstLogits({ git, imageConfig }, images, asked));
    const passed = logits.every((logit) => logit.passed);
    const { checkpoint, picture, atol: tolerance } = published;
    return { checkpoint, dtypes, image: picture, tolerance, logits, passed, notes };
  } finally {
    disposeGit(git);
  }
}

/** The published numbers were made with these, whatever the checkpoint's own file says. */
const imageConfigOf = ({ config, preprocessing }: PublishedLogits): ImageConfig =>
  defaultImageConfig(config.image_size, preprocessing.startsWith('VideoMAE') ? 'videomae' : 'clip');

const same = (a: ImageConfig, b: ImageConfig): boolean => JSON.stringify(a) === JSON.stringify(b);

const otherPreprocessing = ({ preprocessing }: PublishedLogits): string =>
  `the folder's preprocessor_config.json differs from what was used here, with which the numbers were published: ${preprocessing}`;

function compare({ expected, atol }: PublishedLogits, logits: Float32Array): VerifiedLogit[] {
  return expected.map((value, index) => {
    const got = logits[index] ?? Number.NaN;
    const difference = Math.abs(got - value);
    return { index, expected: value, got, difference, passed: difference <= atol };
  });
}

/** Images of the published numbers that can be fetched. Which frames of the video were used depends on its decoder. */
const ADDRESSES: Readonly<Record<string, string>> = {
  'COCO val2017 000000039769.jpg': 'http://images.cocodataset.org/val2017/000000039769.jpg',
  'nielsr/textvqa-sample bus.png': 'https://huggingface.co/datasets/nielsr/textvqa-sample/resolve/main/bus.png',
};

/** The numbers published with a checkpoint. Throws OptionError (`which-checkpoint`, `nothing-published`). */
export function publishedFor(
  id: string | undefined,
  model: string,
  catalog: readonly PublishedLogits[] = listPublishedLogits(),
): PublishedLogits {
  const found = catalog.find(({ checkpoint }) => checkpoint === id || checkpoint === `microsoft/${id}`);
  if (found !== undefined) return found;
  const known = catalog.map(({ checkpoint }) => checkpoint.replace(/^microsoft\//, '')).join(', ');
  throw id === undefined
    ? new OptionError({
        file: model,
        path: 'as',
        code: 'which-checkpoint',
        detail: `say which published one it is: ${known}`,
      })
    : new OptionError({
        file: id,
        path: 'as',
        code: 'nothing-published',
        detail: `numbers are published for ${known}`,
      });
}

/**
 * What a model is called on the Hub: the name that it is asked for by, or what its folder's path says. Throws ConfigError for what is
 * neither a name nor a folder.
 */
export async function publishedName(model: string): Promise<string | undefined> {
  const path = await realpath(model).catch(() => undefined);
  if (path === undefined && !/^\w[\w.-]*\/\w[\w.-]*$/.test(model)) await fromDirectory(model);
  if (path === undefined) return model;
  const [, owner, name] = /[\\/]models--([^\\/]+?)--([^\\/]+)/.exec(path) ?? []; // in the Hub's cache
  if (owner !== undefined) return `${owner}/${name}`;
  return basename(path).startsWith('git-') ? `microsoft/${basename(path)}` : undefined;
}

/** The image of published numbers, or the frames of its video. Throws OptionError (`image-needed`), ImageError. */
export async function openPublishedImage(
  { picture: what, config }: PublishedLogits,
  { image, addresses = ADDRESSES, env = process.env, localFilesOnly, signal }: VerifyOptions,
): Promise<RgbImage | RgbImage[]> {
  const address = image ?? (localFilesOnly === true || isOffline(env) ? undefined : addresses[what]);
  if (address === undefined) {
    const detail = `the numbers were published for ${what}, which cannot be fetched here: name your copy`;
    throw new OptionError({ path: 'image', code: 'image-needed', detail });
  }
  const frames = config.num_image_with_embedding;
  const options = { openImage, openVideo, orientation: false };
  if (frames === null) return toRgbImage(address as ImageInput, options, signal);
  const input: VisualInput = isVideoInput(address) ? address : video(address as VideoSource);
  return openFrames(input, frames, options, signal);
}

export interface FirstLogitsOptions {
  /** Default: the model's own. */
  readonly imageConfig?: ImageConfig | undefined;
  /** What the text begins with. Default: the start token alone. */
  readonly inputIds?: readonly number[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The logits of the first word after the prompt, [V], for one image or, from a list, for the frames of one video. */
export async function firstLogits(
  { git, imageConfig }: Pick<Image2Text, 'git' | 'imageConfig'>,
  images: RgbImage | readonly RgbImage[],
  options: FirstLogitsOptions = {},
): Promise<Float32Array> {
  const signal = options.signal ?? new AbortController().signal;
  const input = createInputLoader(git, options.imageConfig ?? imageConfig).prepare(images);
  return withEncodedImages(git, [input], { signal }, async (image) => {
    const session = startSession(git, image);
    try {
      return (await session.step([[...(options.inputIds ?? [git.config.bosTokenId])]]))[0]!;
    } finally {
      session.dispose();
    }
  });
}

/** How two models differ on one image. */
export interface ImageComparison {
  readonly first: string;
  readonly second: string;
  readonly equal: boolean;
  /** Largest difference between their logits of the first word. */
  readonly logitDifference: number;
}

/** How two models differ on all images. */
export interface ModelComparison {
  readonly images: readonly ImageComparison[];
  /** Share of images with equal captions, 0 to 1; 1 where there is no image. */
  readonly equalCaptions: number;
  readonly largestLogitDifference: number;
}

export interface CompareModelsOptions {
  /** How captions are made. Default: the original's beam search, as `caption` does. */
  readonly caption?: CaptionOptions | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Receives how many images are done. */
  readonly onProgress?: ((done: number) => void) | undefined;
}

/**
 * How far one model is from another: the largest difference of their logits at the first word, and how often they write the same caption.
 * Both stay loaded. Throws what reading an image throws, or the signal's reason.
 */
export async function compareModels(
  first: Image2Text,
  second: Image2Text,
  images: readonly ImageInput[],
  options: CompareModelsOptions = {},
): Promise<ModelComparison> {
  const { signal } = options;
  const onProgress = options.onProgress && eventSink(options.onProgress);
  const rows: ImageComparison[] = [];
  for (const input of images) {
    const image = await toRgbImage(input, { openImage }, signal);
    const look = async (model: Image2Text) => {
      const logits = await firstLogits(model, image, { signal });
      const { text } = await model.caption(image, { ...options.caption, ...(signal && { signal }) });
      return { logits, text };
    };
    const [a, b] = [await look(first), await look(second)];
    const logitDifference = a.logits.reduce((most, value, id) => Math.max(most, Math.abs(value - b.logits[id]!)), 0);
    rows.push({ first: a.text, second: b.text, equal: a.text === b.text, logitDifference });
    onProgress?.(rows.length);
  }
  return {
    images: rows,
    equalCaptions: rows.length === 0 ? 1 : rows.filter(({ equal }) => equal).length / rows.length,
    largestLogitDifference: rows.reduce((most, { logitDifference }) => Math.max(most, logitDifference), 0),
  };
}
