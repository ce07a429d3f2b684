import type { LoadProgress } from '../checkpoint/load-params.js';
import type { OnLoadEvent } from '../load-events.js';

const FILE = 'weights';

/** Tells `onEvent` how far the weights of `model` are; `undefined` where nobody listens. */
export function weightEvents(
  model: string,
  onEvent: OnLoadEvent | undefined,
): ((progress: LoadProgress) => void) | undefined {
  if (onEvent === undefined) return undefined;
  let started = false;
  return ({ loaded, total }) => {
    if (!started) onEvent({ status: 'initiate', name: model, file: FILE });
    started = true;
    onEvent({ status: 'progress', name: model, file: FILE, progress: (100 * loaded) / total, loaded, total });
    if (loaded === total) onEvent({ status: 'done', name: model, file: FILE });
  };
}
