import type { Tensor5D } from '@tensorflow/tfjs-core';
import { reshape, tensor4d } from '@tensorflow/tfjs-core';
import { ImageError } from '../errors.js';
import type { PixelValues } from '../image/preprocess.js';
import type { Git } from '../model/git.js';
import { encodeImage } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import type { ImageCache } from '../model/kv-cache.js';
import { concatCaches, disposeCache } from '../model/kv-cache.js';
import type { Trace } from '../model/trace.js';
import type { HeldCache } from './seen.js';

/** One image, or the frames of one video, ready for the model: float32 [1 or F, height, width, 3]. */
export interface ModelInput {
  readonly pixels: PixelValues;
  /** A video's frames get temporal embeddings and become one sequence. */
  readonly video: boolean;
  /** Its cache, where it was looked at before. */
  readonly held?: HeldCache;
}

/**
 * Encodes inputs of one size, one after the other (activations of one at a time, and a batch equals its single runs bit for bit),
 * and calls `body` with their cache, which is freed when `body` has ended.
 */
export async function withImageCache<T>(
  git: Git,
  inputs: readonly ModelInput[],
  options: { readonly signal: AbortSignal; readonly trace?: Trace | undefined },
  body: (image: ImageCache) => Promise<T>,
): Promise<T> {
  const [first] = inputs;
  if (inputs.length === 1 && first?.held !== undefined) return withHeld(first.held, body);
  const caches: ImageCache[] = [];
  let image: ImageCache | undefined;
  try {
    for (const input of inputs) {
      options.signal.throwIfAborted();
      caches.push(encodeOne(git, input, options.trace));
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

/** Encodes one input; the caller disposes of the cache. */
export function encodeOne(git: Git, { pixels, video }: ModelInput, trace?: Trace): ImageCache {
  const values = tensor4d(pixels.data, [...pixels.shape]); // [F, height, width, 3]
  try {
    if (!video) return encodeImage(git, values, trace);
    const frames: Tensor5D = reshape(values, [1, ...pixels.shape]);
    try {
      return encodeImage(git, frames, trace);
    } finally {
      frames.dispose();
    }
  } finally {
    values.dispose();
  }
}

/** Most image tokens of one image: attention grows with their square (1,024 px with patches of 16). */
const MAX_IMAGE_TOKENS = 4097;

/**
 * Refuses input that would not fit the patches or the memory.
 *
 * @throws ImageError naming the size.
 */
export function checkSize({ shape: [, height, width] }: PixelValues, { vision }: GitConfig): void {
  const tokens = 1 + Math.floor(height / vision.patchSize) * Math.floor(width / vision.patchSize);
  if (tokens > 1 && tokens <= MAX_IMAGE_TOKENS) return;
  const detail = `${width} by ${height} pixels make ${tokens - 1} patches of ${vision.patchSize}; 1 to ${MAX_IMAGE_TOKENS - 1} are possible`;
  throw new ImageError({ code: 'input-size', detail });
}

/** Runs of consecutive inputs that can share a batch: same size and kind, at most `batchSize`. */
export function batches<I extends ModelInput>(inputs: readonly I[], batchSize: number): I[][] {
  const runs: I[][] = [];
  for (const input of inputs) {
    const run = runs.at(-1);
    const alone = input.held !== undefined || run?.[0]?.held !== undefined;
    if (run !== undefined && !alone && run.length < batchSize && shapeKey(run[0]!) === shapeKey(input)) run.push(input);
    else runs.push([input]);
  }
  return runs;
}

const shapeKey = ({ pixels, video }: ModelInput): string => `${video} ${pixels.shape.join()}`;
