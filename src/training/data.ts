import type { Tensor, Tensor3D, Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { getBackend, tensor } from '@tensorflow/tfjs-core';
import { fingerprintTensors, sha256 } from '../checkpoint/fingerprint.js';
import { readSafetensors } from '../checkpoint/safetensors.js';
import { ImageError, OptionError } from '../errors.js';
import { type Random, seededRandom } from '../generation/generate.js';
import type { ImageConfig } from '../image/image-config.js';
import type { RgbImage } from '../image/raw-image.js';
import { resize } from '../image/resize.js';
import type { InputLoader } from '../image2text/input-loader.js';
import type { VisualInput } from '../image2text/inputs.js';
import { featuresInTurns, type Git, namedParameters } from '../model/git.js';
import { showValue } from '../options.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { IGNORED_LABEL } from './backward.js';
import { newTensor, safetensorsPieces, type TrainingFolder } from './checkpoint.js';
import { isVisionParameter } from './optimizer.js';

/** What is learned: to say `text` of an image or video, after a prompt or as the answer to a question where there is one. */
export interface TrainingPair {
  /** Opened when it is needed; a function is called then, so that a large set need not be in memory. */
  readonly image: VisualInput | (() => VisualInput | Promise<VisualInput>);
  readonly text: string;
  /** Text that the model goes on from. Not learned. */
  readonly prompt?: string | undefined;
  /** A question whose answer `text` is. Not learned. */
  readonly question?: string | undefined;
  /** Where the pair is from, for messages: `captions.jsonl line 12`. Default: its number. */
  readonly source?: string | undefined;
}

/** Pairs; an error among them is a pair that could not be read, which is reported and skipped. */
export type TrainingPairs = Iterable<TrainingPair | Error> | AsyncIterable<TrainingPair | Error>;

/**
 * Keeps about `count` pairs apart, for validation: all pairs of an image, of images chosen by the seed, until there are so many. What could not be
 * read stays among the others.
 *
 * @throws OptionError where none would be left to learn
 */
export async function holdOut(
  given: TrainingPairs,
  count: number,
  seed = 0,
): Promise<{ readonly pairs: (TrainingPair | Error)[]; readonly validation: TrainingPair[] }> {
  const all: (TrainingPair | Error)[] = [];
  const byImage = new Map<unknown, TrainingPair[]>();
  for await (const pair of given as AsyncIterable<TrainingPair | Error>) {
    all.push(pair);
    if (pair instanceof Error) continue;
    const same = byImage.get(pair.image);
    if (same === undefined) byImage.set(pair.image, [pair]);
    else same.push(pair);
  }
  const groups = [...byImage.values()];
  const held = new Set<TrainingPair | Error>();
  for (const index of epochOrder(groups.length, 0, seed, true)) {
    if (held.size >= count) break;
    for (const pair of groups[index]!) held.add(pair);
  }
  const pairs = all.filter((pair) => !held.has(pair));
  if (pairs.every((pair) => pair instanceof Error)) {
    const detail = `${count} pairs kept apart leave none to learn`;
    throw new OptionError({ path: 'count', code: 'out-of-range', detail });
  }
  return { pairs, validation: all.filter((pair): pair is TrainingPair => held.has(pair)) };
}

/** A pair as tokens. */
export interface TokenizedPair {
  readonly pair: TrainingPair;
  readonly source: string;
  readonly ids: readonly number[];
  /** As `ids`, with -100 where nothing is learned: the start, the prompt, the question. */
  readonly labels: readonly number[];
  /** The ids before the text: what the decoder goes on from. */
  readonly promptIds: readonly number[];
  /** Tokens of the text, the end token not counted. */
  readonly textTokens: number;
  readonly isCut: boolean;
}

/**
 * [CLS], prompt or question, text, [SEP], and the labels. As in the original, prompt and text are cut to `maxTokens` each, and both together,
 * where they are longer than that, to their last `maxTokens - 2`.
 *
 * @throws OptionError for a pair without a text.
 */
export function tokenizePair(
  tokenizer: Tokenizer,
  pair: TrainingPair,
  source: string,
  maxTokens: number,
): TokenizedPair {
  const fail = (code: string, detail: string): never => {
    throw new OptionError({ file: source, path: 'text', code, detail });
  };
  if (typeof pair.text !== 'string' || pair.text.trim() === '')
    fail('empty', `expected a text, found ${showValue(pair.text)}`);
  if (pair.prompt !== undefined && pair.question !== undefined)
    fail('conflict', 'give a prompt or a question, not both');
  const before = pair.question ?? pair.prompt ?? '';
  if (typeof before !== 'string') fail('wrong-type', `the prompt or question is ${showValue(before)}`);
  const idsOf = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  const [wholePrefix, wholeText] = [idsOf(before), idsOf(pair.text)];
  if (wholeText.length === 0) fail('empty', 'the text has no words');
  const prefix = wholePrefix.slice(0, maxTokens);
  const text = wholeText.slice(0, maxTokens);
  const length = prefix.length + text.length;
  const cut = length > maxTokens ? length - Math.max(1, maxTokens - 2) : 0;
  const kept = [...prefix, ...text].slice(cut);
  const learned = Math.min(text.length, kept.length);
  const promptIds = [tokenizer.clsId, ...kept.slice(0, kept.length - learned)];
  const target = [...kept.slice(kept.length - learned), tokenizer.sepId];
  return {
    ...{ pair, source, promptIds, textTokens: learned },
    ids: [...promptIds, ...target],
    labels: [...promptIds.map(() => IGNORED_LABEL), ...target],
    isCut: cut > 0 || prefix.length < wholePrefix.length || text.length < wholeText.length,
  };
}

/** Rows of one length: padded on the right, with labels that are not learned. */
export function padBatch(
  pairs: readonly TokenizedPair[],
  padId: number,
): { readonly ids: number[][]; readonly labels: number[][] } {
  const length = Math.max(...pairs.map(({ ids }) => ids.length));
  const padded = (row: readonly number[], fill: number): number[] => [
    ...row,
    ...Array.from({ length: length - row.length }, () => fill),
  ];
  return {
    ids: pairs.map(({ ids }) => padded(ids, padId)),
    labels: pairs.map(({ labels }) => padded(labels, IGNORED_LABEL)),
  };
}

/** Reads all pairs, as tokens; what is wrong with one is reported and the pair left out. Images are not opened. */
export async function readPairs(
  pairs: TrainingPairs,
  tokenizer: Tokenizer,
  maxTokens: number,
  onSkip: (source: string, error: Error) => void,
  signal?: AbortSignal,
): Promise<TokenizedPair[]> {
  if (
    typeof (pairs as Partial<Iterable<unknown>>)?.[Symbol.iterator] !== 'function' &&
    typeof (pairs as Partial<AsyncIterable<unknown>>)?.[Symbol.asyncIterator] !== 'function'
  ) {
    throw new OptionError({
      path: 'pairs',
      code: 'wrong-type',
      detail: 'expected pairs { image, text }, as a list or an iterable',
    });
  }
  const read: TokenizedPair[] = [];
  let count = 0;
  for await (const pair of pairs as AsyncIterable<TrainingPair | Error>) {
    signal?.throwIfAborted();
    count++;
    const source = (pair instanceof Error ? undefined : pair?.source) ?? `pair ${count}`;
    try {
      if (pair instanceof Error) throw pair;
      if (typeof pair !== 'object' || pair === null || pair.image === undefined || pair.image === null) {
        throw new OptionError({ file: source, path: 'image', code: 'wrong-type', detail: 'there is no image' });
      }
      read.push(tokenizePair(tokenizer, pair, source, maxTokens));
    } catch (error) {
      onSkip(source, error as Error);
    }
  }
  return read;
}

/** The order of an epoch: Fisher and Yates's shuffle, seeded by run and epoch. */
export function epochOrder(count: number, epoch: number, seed: number, shuffle: boolean): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  if (!shuffle) return order;
  const random = seededRandom(seed, 2 * epoch + 1);
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}

/**
 * The original's augmentation, torchvision's RandomResizedCrop(scale 0.8 to 1, ratio 3/4 to 4/3, bicubic): a part of the image, resized to the
 * model's size. The numbers come from our generator, so that other parts are drawn than in PyTorch.
 */
export function randomResizedCrop(
  image: RgbImage,
  size: { readonly width: number; readonly height: number },
  random: Random,
): RgbImage {
  const { left, top, width, height } = randomPart(image, random);
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * image.width + left) * 3;
    data.set(image.data.subarray(from, from + width * 3), row * width * 3);
  }
  return resize({ data, width, height }, size.width, size.height, 'bicubic');
}

const SCALE = [0.8, 1] as const;
const RATIO = [3 / 4, 4 / 3] as const;
const TRIES = 10;

function randomPart({ width, height }: RgbImage, random: Random) {
  for (let n = 0; n < TRIES; n++) {
    const area = width * height * (SCALE[0] + random() * (SCALE[1] - SCALE[0]));
    const ratio = Math.exp(Math.log(RATIO[0]) + random() * (Math.log(RATIO[1]) - Math.log(RATIO[0])));
    const [w, h] = [Math.round(Math.sqrt(area * ratio)), Math.round(Math.sqrt(area / ratio))];
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const [top, left] = [Math.floor(random() * (height - h + 1)), Math.floor(random() * (width - w + 1))];
    return { left, top, width: w, height: h };
  }
  const ratio = width / height; // the middle, in a ratio that is allowed
  const [w, h] =
    ratio < RATIO[0]
      ? [width, Math.round(width / RATIO[0])]
      : ratio > RATIO[1]
        ? [Math.round(height * RATIO[1]), height]
        : [width, height];
  return { left: Math.floor((width - w) / 2), top: Math.floor((height - h) / 2), width: w, height: h };
}

/** Images as the model takes them: pixels, or features of a vision tower that stays as it is. */
export interface ImageSource {
  /**
   * Pixels [1, height, width, 3] or [1, F, height, width, 3], or features [1, I, Dv]; the caller's. `random` augments.
   *
   * @throws ImageError naming the pair; the signal's reason.
   */
  load(pair: TokenizedPair, random: Random | undefined): Promise<Tensor3D | Tensor4D | Tensor5D>;
}

export interface ImageSourceOptions {
  readonly loader: InputLoader;
  readonly imageConfig: ImageConfig;
  /** Encode with this model's vision tower; undefined: pixels. */
  readonly encodeWith: Git | undefined;
  readonly cacheBytes: number;
  /** Keeps features beyond the run. */
  readonly cacheFolder: TrainingFolder | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Opens, augments, preprocesses and encodes images; features are kept up to `cacheBytes`, those of the longest unused image go first. */
export function createImageSource(options: ImageSourceOptions): ImageSource {
  const { loader, imageConfig, encodeWith, cacheBytes, cacheFolder, signal } = options;
  const stored =
    cacheFolder === undefined || encodeWith === undefined ? undefined : openFeatureStore(cacheFolder, encodeWith);
  const kept = new Map<unknown, { readonly values: Float32Array; readonly shape: readonly number[] }>();
  let bytes = 0;
  const keep = (key: unknown, values: Float32Array, shape: readonly number[]): void => {
    if (values.byteLength > cacheBytes) return;
    kept.set(key, { values, shape });
    bytes += values.byteLength;
    for (const [oldest, { values: old }] of kept) {
      if (bytes <= cacheBytes) break;
      kept.delete(oldest);
      bytes -= old.byteLength;
    }
  };
  return {
    async load({ pair, source }, random) {
      const key = pair.image;
      const found = random === undefined && encodeWith !== undefined ? kept.get(key) : undefined;
      if (found !== undefined) {
        kept.delete(key);
        kept.set(key, found); // the last one used
        return tensor(found.values, found.shape as [number, number, number], 'float32') as Tensor3D;
      }
      const pixels: Tensor4D | Tensor5D = await openPixels(pair, source, loader, imageConfig, random, signal);
      if (encodeWith === undefined) return pixels;
      try {
        const encode = () => featuresInTurns(encodeWith, pixels, signal);
        const features = stored === undefined || random !== undefined ? await encode() : await stored(pixels, encode);
        if (random === undefined) keep(key, (await features.data()) as Float32Array, features.shape);
        return features;
      } finally {
        pixels.dispose();
      }
    },
  };
}

/**
 * Features in files, by a hash of the pixels, the vision tower and the backend, whose bits they are. Resolves to those of a file that is there, else
 * to those of `encode`, which are then written.
 */
function openFeatureStore(folder: TrainingFolder, git: Git) {
  let tower: Promise<string> | undefined;
  const towerOf = async (): Promise<string> => {
    const parameters = [...namedParameters(git)].filter(([name]) => isVisionParameter(name));
    return JSON.stringify([getBackend(), git.config.vision, await fingerprintTensors(parameters)]);
  };
  return async (pixels: Tensor, encode: () => Promise<Tensor3D>): Promise<Tensor3D> => {
    tower ??= towerOf();
    const image = await fingerprintTensors([['pixels', pixels]]);
    const name = `${await sha256(new TextEncoder().encode(`${await tower} ${image}`))}.safetensors`;
    const found = await readFeatures(folder, name);
    if (found !== undefined) return found;
    const features = await encode();
    const file = safetensorsPieces([newTensor('features', features.shape, () => features.clone())], {});
    try {
      await folder.write(name, file);
    } catch (error) {
      features.dispose();
      throw error;
    }
    return features;
  };
}

async function readFeatures(folder: TrainingFolder, name: string): Promise<Tensor3D | undefined> {
  const source = await folder.open(name);
  if (source === undefined) return undefined;
  const file = await readSafetensors(source, name).catch(() => undefined); // a broken one is written again
  const stored = file?.tensors.get('features');
  if (stored?.dtype !== 'F32' || stored.shape.length !== 3) return undefined;
  const bytes = await stored.read();
  const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  return tensor(values, stored.shape as [number, number, number], 'float32') as Tensor3D;
}

async function openPixels(
  pair: TrainingPair,
  source: string,
  loader: InputLoader,
  { cropSize }: ImageConfig,
  random: Random | undefined,
  signal: AbortSignal | undefined,
): Promise<Tensor4D | Tensor5D> {
  try {
    const input = typeof pair.image === 'function' ? await pair.image() : pair.image;
    const images = await loader.open(input as VisualInput, signal);
    const { data, shape } = loader.prepare(random === undefined ? images : augment(images, cropSize, random));
    return tensor(data, [...shape] as [number, number, number, number], 'float32') as Tensor4D | Tensor5D;
  } catch (cause) {
    signal?.throwIfAborted();
    const { code = 'cannot-open', message } = cause as Error & { readonly code?: string };
    throw new ImageError({ file: source, code, detail: message, cause });
  }
}

/** Frames of a video, which are of one size, lose the same part. */
function augment(images: RgbImage | RgbImage[], size: ImageConfig['cropSize'], random: Random): RgbImage | RgbImage[] {
  const seed = Math.floor(random() * 2 ** 32);
  const change = (image: RgbImage) => randomResizedCrop(image, size, seededRandom(seed));
  return Array.isArray(images) ? images.map(change) : change(images);
}
