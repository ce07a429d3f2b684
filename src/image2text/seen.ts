import { DisposedError, OptionError } from '../errors.js';
import type { Git } from '../model/git.js';
import type { ImageCache } from '../model/kv-cache.js';
import { disposeCache } from '../model/kv-cache.js';
import type { ModelInput } from './encode.js';
import type { Picture } from './pictures.js';

/**
 * A picture that a model has looked at already, from `model.look`: give it to `caption`, `answer`, `stream`, `classify` or `score` in place of the
 * picture, any number of times, and nothing is encoded again. It keeps the picture's part of the cache (7 MB for git-base at 224 px) until
 * `dispose()`, which waits for calls in flight, or until its model is disposed.
 */
export interface SeenPicture {
  /** What was looked at. */
  readonly seen: Picture;
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

const held = new WeakMap<SeenPicture, Held>();

/** Keeps `image`, the cache of `input`; owns it from here on. `onEnd` hears of its disposal. */
export function holdPicture(
  git: Git,
  picture: Picture,
  input: ModelInput,
  image: ImageCache,
  onEnd: () => void,
): SeenPicture {
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
  const seen: SeenPicture = {
    seen: picture,
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

const disposedError = () =>
  new DisposedError({ rule: 'picture-disposed', detail: 'this looked-at picture was disposed' });

export const isSeen = (picture: unknown): picture is SeenPicture =>
  typeof picture === 'object' && picture !== null && held.has(picture as SeenPicture);

/**
 * The input that was looked at, with its cache.
 *
 * @throws DisposedError after `dispose()`; OptionError for another model's.
 */
export function seenInput(picture: SeenPicture, git: Git): ModelInput {
  const found = held.get(picture)!;
  if (found.ended()) throw disposedError();
  if (found.git !== git)
    throw new OptionError({ place: 'picture', rule: 'other-model', detail: 'another model looked at this picture' });
  return found.input;
}
