import { DisposedError, OptionError } from '../errors.js';
import type { Git } from '../model/git.js';
import type { ImageCache } from '../model/kv-cache.js';
import { disposeCache } from '../model/kv-cache.js';
import type { ModelInput } from './encode.js';
import type { ImageInput } from './images.js';

/**
 * An image that a model has looked at already, from `model.look`: give it to `caption`, `answer`, `stream`, `classify` or `score` in place of the
 * image, any number of times, and nothing is encoded again. It keeps the image's part of the cache (7 MB for git-base at 224 px) until
 * `dispose()`, which waits for calls in flight, or until its model is disposed.
 */
export interface EncodedImage {
  /** What was looked at. */
  readonly seen: ImageInput;
  dispose(): void;
}

/** A cache that several calls may use at once and that somebody else frees. */
export interface HeldCache {
  readonly image: ImageCache;
  retain(): void;
  release(): void;
}

interface Held {
  readonly git: Git;
  readonly input: ModelInput;
  readonly ended: () => boolean;
}

const held = new WeakMap<EncodedImage, Held>();

/** Keeps `image`, the cache of `input`; owns it from here on. `onEnd` hears of its disposal. */
export function holdImage(
  git: Git,
  source: ImageInput,
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
      if (ended) throw disposedError(); // between the look-up and the use
      users++;
    },
    release: () => {
      users--;
      freeWhenIdle();
    },
  };
  const seen: EncodedImage = {
    seen: source,
    dispose() {
      if (ended) return;
      ended = true;
      onEnd();
      freeWhenIdle();
    },
  };
  held.set(seen, { git, input: { ...input, held: cache }, ended: () => ended });
  return seen;
}

const disposedError = () => new DisposedError({ code: 'image-disposed', detail: 'this encoded image was disposed' });

export const isSeen = (image: unknown): image is EncodedImage =>
  typeof image === 'object' && image !== null && held.has(image as EncodedImage);

/**
 * The input that was looked at, with its cache.
 *
 * @throws DisposedError after `dispose()`; OptionError for another model's.
 */
export function seenInput(image: EncodedImage, git: Git): ModelInput {
  const found = held.get(image)!;
  if (found.ended()) throw disposedError();
  if (found.git !== git)
    throw new OptionError({ path: 'image', code: 'other-model', detail: 'another model encoded this image' });
  return found.input;
}
