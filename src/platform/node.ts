import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { ImageError, OptionError } from '../errors.js';
import type { Image2Text } from '../image2text/image2text.js';
import { checkOptions } from '../image2text/inputs.js';
import type { LoadOptions } from '../image2text/load.js';
import { loadImage2Text as loadFiles, prepareBackend } from '../image2text/load.js';
import { eventSink } from '../load-events.js';
import { createEnv, createPipeline, type EnvSettings, readEnv } from '../pipeline/index.js';
import { RawImage as AnyRawImage } from '../pipeline/raw-image.js';
import { convertHeic } from './ffmpeg.js';
import { openImage } from './node-files.js';
import { openVideo } from './node-videos.js';
import { type HubOptions, openModel, REPOSITORY } from './open-model.js';
import { backendOfDevice, createBackendStarter, NODE_BACKENDS, type NodeBackend, useThreads } from './start-backend.js';
import { writeWhole } from './write-whole.js';

/** Backends of this machine; packages that are not installed are named. */
export const { startBackend, ensureBackend } = createBackendStarter(NODE_BACKENDS, (name) => import(name));

/** Options of Node's `loadImage2Text`. */
export interface NodeLoadOptions
  extends Omit<LoadOptions, 'backend'>,
    Omit<HubOptions, 'signal' | 'onProgress' | 'weights'> {
  /**
   * Start this backend, or make the application's own of this name the current one. Default `auto`: what the application has registered stays
   * as it is; where it has registered none, the fastest that starts (`simd`).
   */
  readonly backend?: NodeBackend | (string & {}) | undefined;
}

/**
 * Loads a checkpoint by its name on the Hub (`microsoft/git-base-textcaps`; fetched once, into the cache that Python's tools share), `demo`, a
 * folder on this machine, or files opened otherwise. A backend is started where the application has registered none. Images and videos may
 * be paths.
 *
 * @throws as `loadImage2Text` of the main entry point; BackendError with why a backend does not start; ConfigError when the folder does not
 *   exist; HubError when the checkpoint cannot be had.
 */
export async function loadImage2Text(model: string | ModelFiles, options: NodeLoadOptions = {}): Promise<Image2Text> {
  const { revision, cacheDir, token, endpoint, localFilesOnly, env, backend, ...rest } = checkOptions(options);
  checkModel(model);
  const onProgress = rest.onProgress && eventSink(rest.onProgress);
  const hub = { revision, cacheDir, token, endpoint, localFilesOnly, env, signal: rest.signal, onProgress };
  await ensureBackend(backend);
  await prepareBackend(rest); // before a download of hundreds of megabytes
  const weights = rest.upload === undefined ? (rest.weights ?? 'f32') : undefined; // `upload` has its own memory
  const files = typeof model === 'string' ? await openModel(model, { ...hub, weights }) : model;
  return loadFiles(files, { openImage, openVideo, convertHeic, ...rest, onProgress });
}

/** For callers without types. */
function checkModel(model: unknown): void {
  if (typeof model === 'string' && model !== '') return;
  if (typeof (model as Partial<ModelFiles> | null | undefined)?.open === 'function') return;
  const detail = "name a checkpoint: 'microsoft/git-base-textcaps', a folder, or 'demo'";
  throw new OptionError({ path: 'model', code: 'wrong-type', detail });
}

/** transformers.js's settings, read whenever `pipeline` loads a model: docs/pipeline.md says which have a meaning. */
export const env = createEnv({ allowLocalModels: true, localModelPath: '' });

/** An image in memory, as transformers.js has it, read from paths too. */
export class RawImage extends AnyRawImage {
  protected static override readonly opening = { openImage, convertHeic };

  /** Writes the image as a PNG. Throws ImageError `image-format` for a name with another ending; as `node:fs` does. */
  override async save(path: string): Promise<void> {
    if (!/\.png$/i.test(path)) {
      const detail = 'images are written as PNG only: give a name that ends in .png';
      throw new ImageError({ file: path, code: 'image-format', detail, unsupported: true });
    }
    const { encode } = await import('fast-png');
    const { data, width, height, channels } = this;
    await writeWhole(path, encode({ data: Uint8Array.from(data), width, height, channels }));
  }
}

/** The model that a name means with these settings. */
async function applyEnv(model: string, { allowLocal, localPath }: EnvSettings): Promise<string> {
  const isName = REPOSITORY.test(model);
  if (!allowLocal) return isName ? `hf://${model}` : model; // even where a folder has this name
  const folder = join(localPath, model);
  const isLocal = isName && localPath !== '' && (await stat(folder).catch(() => undefined))?.isDirectory() === true;
  return isLocal ? folder : model;
}

/**
 * `pipeline('image-to-text', 'microsoft/git-base-coco')`: a function from images to texts, with transformers.js's inputs, options and results.
 * The model is what `loadImage2Text` takes, or is loaded already; `device` names a backend (`wasm`, `webgpu`, `cuda`, …). `env` has more settings.
 *
 * @throws OptionError for unknown tasks, options and settings, and contradictory ones; what starting the backend and loading throw.
 */
export const pipeline = createPipeline<string | ModelFiles>(async (model, { device, ...options }) => {
  const settings = readEnv(env, 'node');
  const source = typeof model === 'string' ? await applyEnv(model, settings) : model;
  const loaded = await loadImage2Text(source, {
    ...settings.hub,
    ...options,
    ...(settings.allowRemote ? {} : { localFilesOnly: true }),
    ...(device === undefined ? {} : { backend: backendOfDevice(device) }),
  });
  useThreads(settings.threads);
  return loaded;
});
