import { getBackend } from '@tensorflow/tfjs-core';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import type { ConvertDtype } from '../checkpoint/encode-tensor.js';
import { narrowedLayouts } from '../checkpoint/load-params.js';
import { OptionError } from '../errors.js';
import {
  type BrowserFilesOptions,
  type CachedFiles,
  type ConvertedFiles,
  fetchModelFiles,
} from '../hub/browser-cache.js';
import { fetchFolder } from '../hub/remote-files.js';
import type { Image2Text } from '../image2text/image2text.js';
import { checkOptions } from '../image2text/inputs.js';
import { type LoadOptions, loadImage2Text as loadFiles, prepareBackend } from '../image2text/load.js';
import type { Layout } from '../layers/param-spec.js';
import { eventSink } from '../load-events.js';
import { createEnv, createPipeline, type EnvSettings, readEnv } from '../pipeline/index.js';
import type { MessageEndpoint } from '../worker/messages.js';
import { serve, type TrainerImport } from '../worker/serve.js';
import { backendOfDevice, createBackendStarter, PAGE_BACKENDS, type PageBackend, useThreads } from './start-backend.js';

/** `simd`, and backends that the page has imported. */
export const { startBackend, ensureBackend } = createBackendStarter(PAGE_BACKENDS);

/** Files that a user chose or dropped, as a checkpoint folder. Names are taken without folders. */
export function fromFiles(files: Iterable<File>, label = 'chosen files'): ModelFiles {
  const byName = new Map([...files].map((file) => [file.name, file]));
  return { label, open: async (name) => byName.get(name) };
}

/** Options of a page's `loadImage2Text`. */
export interface BrowserLoadOptions
  extends Omit<LoadOptions, 'backend'>,
    Pick<BrowserFilesOptions, 'revision' | 'endpoint' | 'token' | 'caches'> {
  /**
   * Start `simd`, or make another one that the page has imported the current one. Default `auto`: what the page has registered stays as it is;
   * where it has registered none, `simd`.
   */
  readonly backend?: PageBackend | (string & {}) | undefined;
}

const REPOSITORY = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/**
 * Loads a checkpoint by its name on the Hub (`microsoft/git-base-textcaps`; fetched once, into the browser's Cache API), by the address of a
 * folder (`./model/`, `/weights/demo`, `https://…`, a `URL`), or from files opened otherwise. A backend is started where the page has registered none.
 *
 * @throws as `loadImage2Text` of the main entry point; BackendError with why a backend does not start; HubError when the checkpoint cannot be had.
 */
export async function loadImage2Text(
  model: string | URL | ModelFiles,
  options: BrowserLoadOptions = {},
): Promise<Image2Text> {
  const { revision, endpoint, token, caches, backend, ...rest } = checkOptions(options);
  const onProgress = rest.onProgress && eventSink(rest.onProgress);
  const files = openModel(model, { revision, endpoint, token, caches, signal: rest.signal, onProgress });
  await ensureBackend(backend);
  await prepareBackend(rest);
  const narrowed = narrowedLayouts(rest.weights ?? 'f32');
  if (!('inFormat' in files) || narrowed.length === 0) return loadFiles(files, { ...rest, onProgress });
  const weights = rest.weights as ConvertDtype;
  const { repository } = files;
  const own = { ...(files as CachedFiles).inFormat([weights, ...narrowed].join('-')), repository };
  const loaded = await loadFiles(own, { ...rest, onProgress });
  try {
    await keepAsLoaded(own, weights, narrowed);
  } catch (error) {
    if (rest.signal?.aborted !== true) return loaded; // the model is here, and the file is kept as it is
    loaded.dispose();
    throw error;
  }
  return loaded;
}

/** Keeps the weights as the backend keeps them: a quarter of float32's bytes as int8. */
async function keepAsLoaded(files: ConvertedFiles, weights: ConvertDtype, narrowed: readonly Layout[]): Promise<void> {
  const place = await files.placeForCopy();
  if (place === undefined) return;
  const [{ keepConverted }, { convertedWeights }] = await Promise.all([
    import('../hub/keep-converted.js'),
    import('../model/convert-git.js'),
  ]);
  await keepConverted(place, () => convertedWeights(files, weights, narrowed));
}

function openModel(model: string | URL | ModelFiles, options: BrowserFilesOptions): ModelFiles {
  const fail = (detail: string): never => {
    throw new OptionError({ path: 'model', code: 'wrong-type', detail });
  };
  if (typeof (model as Partial<ModelFiles> | null | undefined)?.open === 'function') return model as ModelFiles;
  if (model === 'demo')
    fail("a page fetches the demo from an address: serve weights/demo of the package and give that folder's URL");
  if (typeof model === 'string' && REPOSITORY.test(model))
    return { ...fetchModelFiles(model, options), repository: model };
  if (model instanceof URL || (typeof model === 'string' && /^([a-z][a-z+.-]*:|\.{0,2}\/)/i.test(model))) {
    const { signal, onProgress } = options;
    return fetchFolder(String(model), { signal, onProgress });
  }
  return fail("name a checkpoint: 'microsoft/git-base-textcaps', or a folder's address: './model/'");
}

/** transformers.js's settings, read whenever `pipeline` loads a model: docs/pipeline.md says which have a meaning. */
export const env = createEnv({ allowLocalModels: false, localModelPath: '/models/' });

/** The model that a name means with these settings: that of a folder, or of the Hub. Addresses are not names. */
async function applyEnv(model: string, settings: EnvSettings, signal: AbortSignal | undefined): Promise<string | URL> {
  const { allowLocal, allowRemote, localPath } = settings;
  if (!REPOSITORY.test(model) || !allowLocal) return model;
  const folder = new URL(`${localPath}${model}/`, location.href);
  return !allowRemote || (await hasModel(folder, signal)) ? folder : model;
}

/** Whether a server has a model's config.json there; some answer every address with a page. */
async function hasModel(folder: URL, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    const response = await fetch(new URL('config.json', folder), signal === undefined ? {} : { signal });
    return response.ok && typeof (await response.json()) === 'object';
  } catch {
    signal?.throwIfAborted();
    return false;
  }
}

/**
 * `pipeline('image-to-text', 'microsoft/git-base-coco')`: a function from images to texts, with transformers.js's inputs, options and results.
 * The model is what `loadImage2Text` takes, or is loaded already; `device` is `auto`, `wasm`, `webgpu`, … or names a backend. `env` has more settings.
 *
 * @throws OptionError for unknown tasks, options and settings, and contradictory ones; what starting the backend and loading throw.
 */
export const pipeline = createPipeline<string | URL | ModelFiles>(async (model, options) => {
  const { device, cacheDir, localFilesOnly, ...rest } = options;
  const path = cacheDir !== undefined ? 'cacheDir' : localFilesOnly === true ? 'localFilesOnly' : undefined;
  if (path !== undefined) {
    const detail = "a page has no folders: what it fetches is in the browser's Cache API";
    throw new OptionError({ path, code: 'unsupported-option', detail, unsupported: true });
  }
  const settings = readEnv(env, 'page');
  const { endpoint } = settings.hub;
  const source = typeof model === 'string' ? await applyEnv(model, settings, rest.signal) : model;
  const loaded = await loadImage2Text(source, {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(settings.useBrowserCache ? {} : { caches: null }),
    ...rest,
    ...(device === undefined ? {} : { backend: backendOfDevice(device) }),
  });
  useThreads(settings.threads);
  return loaded;
});

/**
 * Serves a page's model from the worker that calls it, for `connectWorker` at the other end of `port` (default: the worker's own scope).
 * `generative-image2text/worker` does nothing else; call it in a worker of your own that also imports other backends. `training`, as
 * `() => import('generative-image2text/training')`, lets it train and use adapters; named here instead, a bundler would give it to pages as well.
 */
export function serveModel(port?: MessageEndpoint, training?: TrainerImport): void {
  serve({ port, load: loadImage2Text, fromFiles, backendName: getBackend, training });
}
