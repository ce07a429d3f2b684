import { getBackend } from '@tensorflow/tfjs-core';
import type { MessageEndpoint } from '../worker/messages.js';
import { serve, type TrainerImport } from '../worker/serve.js';
import { fromFiles, loadImage2Text } from './browser.js';

/**
 * Serves a page's model from the worker that calls it, for `connectWorker` at the other end of `port` (default: the worker's own scope).
 * `generative-image2text/worker` does nothing else; call it in a worker of your own that also imports other backends. `training`, as
 * `() => import('generative-image2text/training')`, lets it train and use adapters; named here instead, a bundler would give it to pages as well.
 */
export function serveModel(port?: MessageEndpoint, training?: TrainerImport): void {
  serve({ port, load: loadImage2Text, fromFiles, backendName: getBackend, training });
}
