import type { Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { tensor } from '@tensorflow/tfjs-core';
import { DisposedError, OptionError } from '../errors.js';
import type { Trace } from '../layers/tidy.js';
import type { ImageCache } from '../model/git.js';
import { concatCaches, disposeCache, encodeImageInTurns, type Git } from '../model/git.js';
import type { EncodedImage, VisualInput } from './inputs.js';

/**
 * An image or video ready for the model: float32 [1, height, width, 3] or, for the frames of a video, which get temporal embeddings and become
 * one sequence, [1, F, height, width, 3].
 */
export interface ModelInput {
  readonly data: Float32Array;
  readonly shape: readonly number[];
  /** Its cache, where it was encoded before. */
  readonly held?: HeldCache;
}

/** A cache that several calls may use at once and that its EncodedImage frees. */
interface HeldCache {
  readonly image: ImageCache;
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
 * @throws the signal's reason, within one layer.
 */
export async function encodeInput(git: Git, { data, shape }: ModelInput, options: EncodeOptions): Promise<ImageCache> {
  const pixels = tensor(data, [...shape] as [number, number, number, number], 'float32') as Tensor4D | Tensor5D;
  try {
    return await encodeImageInTurns(git, pixels, options);
  } finally {
    pixels.dispose();
  }
}

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

/** Keeps `image`, the cache of `input`; owns it from here on. `onEnd` is called when it is disposed of. */
export function holdImage(
  git: Git,
  source: VisualInput,
  input: ModelInput,
  image: ImageCache,
  onEnd: () => void,
): EncodedImage {
  let users = 0;
  let ended = false;
  let freed = false;
  const freeWhenIdle = (): void => {
    if (!ended || users > 0 || freed) return;
    freed = true;
    disposeCache(image);
  };
  const cache: HeldCache = {
    image,
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
  held.set(encoded, { git, input: { ...input, held: cache }, ended: () => ended });
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
  const ready = inputs.map((input) => (isEncodedImage(input) ? encodedInput(input, git) : undefined));
  const caches = ready.flatMap((input) => input?.held ?? []);
  for (const cache of caches) cache.retain();
  return {
    ready,
    release() {
      for (const cache of caches.splice(0)) cache.release();
    },
  };
}

/**
 * The input that was encoded, with its cache.
 *
 * @throws DisposedError after `dispose()`; OptionError for another model's.
 */
export function encodedInput(image: EncodedImage, git: Git): ModelInput {
  const found = held.get(image)!;
  if (found.ended()) throw disposedError();
  if (found.git !== git)
    throw new OptionError({ path: 'image', code: 'other-model', detail: 'another model encoded this image' });
  return found.input;
}
