import type { Tensor3D, Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { tensor } from '@tensorflow/tfjs-core';
import { DisposedError, ImageError, OptionError } from '../errors.js';
import type { Trace } from '../layers/tidy.js';
import type { ImageCache } from '../model/git.js';
import {
  concatCaches,
  disposeCache,
  encodeImageInTurns,
  featuresInTurns,
  type Git,
  joinFrames,
  prefillInTurns,
} from '../model/git.js';
import { type EncodedImage, evenly, isVideoInput, type VisualInput } from './inputs.js';

/**
 * An image or video ready for the model: float32 [1, height, width, 3] or, for the frames of a video, which get temporal embeddings and become
 * one sequence, [1, F, height, width, 3].
 */
export interface ModelInput {
  readonly data: Float32Array;
  readonly shape: readonly number[];
  /** Its cache, where it was encoded before. */
  readonly held?: HeldCache;
  /** Its frames, where all of them were encoded before. */
  readonly frames?: readonly HeldCache[];
}

/** A cache that several calls may use at once and that its EncodedImage frees. */
interface HeldCache {
  readonly image: ImageCache;
  /** What the vision tower made of it, [1, I, Dv], where it can be a frame. */
  readonly features: Tensor3D | undefined;
  retain(): void;
  release(): void;
}

/** How an encoding ends early and is watched. */
interface EncodeOptions {
  readonly signal: AbortSignal;
  readonly trace?: Trace | undefined;
}

/**
 * Encodes one input, with a turn of the event loop between layers; the caller disposes of the cache.
 *
 * @throws the signal's reason, within one layer; DisposedError where a frame was disposed of.
 */
export async function encodeInput(git: Git, input: ModelInput, options: EncodeOptions): Promise<ImageCache> {
  if (input.frames !== undefined) {
    const features = await inputFeatures(git, input, options);
    return prefillInTurns(git, features, options).finally(() => features.dispose());
  }
  const pixels = pixelsOf(input);
  try {
    return await encodeImageInTurns(git, pixels, options);
  } finally {
    pixels.dispose();
  }
}

/**
 * The same for what is kept: with the features of an image that can be a frame of a video later.
 *
 * @throws as `encodeInput`.
 */
export async function encodeToKeep(
  git: Git,
  input: ModelInput,
  options: EncodeOptions,
): Promise<{ readonly image: ImageCache; readonly features: Tensor3D | undefined }> {
  if (git.config.numImageWithEmbedding === 0 || input.shape.length === 5)
    return { image: await encodeInput(git, input, options), features: undefined };
  const features = await inputFeatures(git, input, options);
  try {
    return { image: await prefillInTurns(git, features, options), features };
  } catch (error) {
    features.dispose();
    throw error;
  }
}

/** What the vision tower makes of an input, [1, I, Dv], the caller's; nothing is computed again of frames that were encoded before. @throws as `encodeInput`. */
export async function inputFeatures(git: Git, input: ModelInput, options: EncodeOptions): Promise<Tensor3D> {
  const { frames } = input;
  if (frames === undefined) {
    const pixels = pixelsOf(input);
    return featuresInTurns(git, pixels, options.signal, options.trace).finally(() => pixels.dispose());
  }
  const retained: HeldCache[] = [];
  try {
    for (const frame of frames) {
      frame.retain();
      retained.push(frame);
    }
    return joinFrames(
      git,
      frames.map(({ features }) => features!),
    );
  } finally {
    for (const frame of retained) frame.release();
  }
}

const pixelsOf = ({ data, shape }: ModelInput): Tensor4D | Tensor5D =>
  tensor(data, [...shape] as [number, number, number, number], 'float32') as Tensor4D | Tensor5D;

/**
 * Encodes inputs of one shape, one after the other (activations of one at a time, and a batch equals its single runs bit for bit),
 * and calls `body` with their cache, which is freed when `body` has ended.
 */
export async function withEncodedImages<T>(
  git: Git,
  inputs: readonly ModelInput[],
  options: EncodeOptions,
  body: (image: ImageCache) => Promise<T>,
): Promise<T> {
  const [first] = inputs;
  if (inputs.length === 1 && first!.held !== undefined) return withHeld(first!.held, body);
  const caches: ImageCache[] = [];
  let image: ImageCache | undefined;
  try {
    for (const input of inputs) {
      caches.push(await encodeInput(git, input, options));
    }
    image = caches.length === 1 ? caches.pop()! : concatCaches(caches);
    for (const cache of caches.splice(0)) disposeCache(cache);
    return await body(image);
  } finally {
    for (const cache of caches) disposeCache(cache);
    if (image !== undefined) disposeCache(image);
  }
}

async function withHeld<T>(cache: HeldCache, body: (image: ImageCache) => Promise<T>): Promise<T> {
  cache.retain();
  try {
    return await body(cache.image);
  } finally {
    cache.release();
  }
}

/** Whether two inputs can be decoded in one batch: same size and kind, neither encoded before. */
export const canShareBatch = (a: ModelInput, b: ModelInput): boolean =>
  a.held === undefined && b.held === undefined && a.shape.join() === b.shape.join();

/** Runs of consecutive inputs that can share a batch, at most `batchSize` long. */
export function batches<I extends ModelInput>(inputs: readonly I[], batchSize: number): I[][] {
  const runs: I[][] = [];
  for (const input of inputs) {
    const run = runs.at(-1);
    if (run !== undefined && run.length < batchSize && canShareBatch(run[0]!, input)) run.push(input);
    else runs.push([input]);
  }
  return runs;
}

interface Held {
  readonly git: Git;
  readonly input: ModelInput;
  readonly ended: () => boolean;
}

const held = new WeakMap<EncodedImage, Held>();

/** Keeps the cache of `input`, and its features; owns them from here on. `onEnd` is called when it is disposed of. */
export function holdImage(
  git: Git,
  source: VisualInput,
  input: ModelInput,
  { image, features }: Awaited<ReturnType<typeof encodeToKeep>>,
  onEnd: () => void,
): EncodedImage {
  let users = 0;
  let ended = false;
  let freed = false;
  const freeWhenIdle = (): void => {
    if (!ended || users > 0 || freed) return;
    freed = true;
    disposeCache(image);
    features?.dispose();
  };
  const cache: HeldCache = {
    image,
    features,
    retain: () => {
      if (ended && users === 0) throw disposedError();
      users++;
    },
    release: () => {
      users--;
      freeWhenIdle();
    },
  };
  const encoded: EncodedImage = {
    source,
    dispose() {
      if (ended) return;
      ended = true;
      onEnd();
      freeWhenIdle();
    },
  };
  const { data, shape } = input;
  held.set(encoded, { git, input: { data, shape, held: cache }, ended: () => ended });
  return encoded;
}

const disposedError = () => new DisposedError({ code: 'image-disposed', detail: 'this encoded image was disposed' });

export const isEncodedImage = (input: unknown): input is EncodedImage =>
  typeof input === 'object' && input !== null && held.has(input as EncodedImage);

/**
 * What was encoded before among `inputs`, at their places; it is kept until `release()`, whoever disposes of it meanwhile.
 *
 * @throws as `encodedInput`.
 */
export function retainEncoded(
  inputs: readonly unknown[],
  git: Git,
): { readonly ready: readonly (ModelInput | undefined)[]; release(): void } {
  const ready = inputs.map((input) => encodedInput(input, git));
  const caches = ready.flatMap((input) => input?.held ?? input?.frames ?? []);
  for (const cache of caches) cache.retain();
  return {
    ready,
    release() {
      for (const cache of caches.splice(0)) cache.release();
    },
  };
}

/**
 * The input that was encoded, with its cache, or a video all of whose frames that the model takes were; undefined for all others.
 *
 * @throws DisposedError after `dispose()`; OptionError for another model's; ImageError for frames that are videos, or of several sizes.
 */
export function encodedInput(input: unknown, git: Git): ModelInput | undefined {
  if (isEncodedImage(input)) return findHeld(input, git);
  const count = git.config.numImageWithEmbedding;
  const given: unknown = isVideoInput(input) && 'frames' in input ? input.frames : undefined;
  if (count === 0 || !Array.isArray(given) || given.length === 0) return undefined;
  const listed = evenly(given.length, count).map((index) => given[index] as unknown);
  if (!listed.every(isEncodedImage)) return undefined;
  const frames = listed.map((frame) => findHeld(frame, git));
  const [first, ...others] = frames as [ModelInput, ...ModelInput[]];
  const fail = (code: string, detail: string): never => {
    throw new ImageError({ code, detail });
  };
  if (frames.some(({ shape }) => shape.length === 5)) fail('not-an-image', 'this is an encoded video');
  const odd = others.find(({ shape }) => shape.join() !== first.shape.join());
  if (odd !== undefined) fail('image-batch', `frames of [${first.shape}] and [${odd.shape}] in one video`);
  const data = new Float32Array(frames.length * first.data.length);
  for (const [f, frame] of frames.entries()) data.set(frame.data, f * first.data.length);
  return { data, shape: [1, frames.length, ...first.shape.slice(1)], frames: frames.map((frame) => frame.held!) };
}

function findHeld(image: EncodedImage, git: Git): ModelInput {
  const found = held.get(image)!;
  if (found.ended()) throw disposedError();
  if (found.git !== git)
    throw new OptionError({ path: 'image', code: 'other-model', detail: 'another model encoded this image' });
  return found.input;
}
