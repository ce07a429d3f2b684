import { engine, setBackend } from '@tensorflow/tfjs-core';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { checkWeights } from '../checkpoint/load-params.js';
import { BackendError, OptionError } from '../errors.js';
import type { OnLoadEvent } from '../load-events.js';
import type { LoadGitOptions } from '../model/load-git.js';
import { loadGitParams, openGit } from '../model/load-git.js';
import { openImageConfig, openTokenizer } from './checkpoint-files.js';
import { createImage2Text } from './create.js';
import type { SightOptions } from './eyes.js';
import type { Image2Text } from './image2text.js';
import { weightEvents } from './weight-events.js';

/** How a model is loaded and how it sees. */
export interface LoadOptions extends Omit<LoadGitOptions, 'onProgress'>, SightOptions {
  /** Hears how far loading is, in transformers.js's events. */
  readonly onProgress?: OnLoadEvent | undefined;
  /** Make this registered tfjs backend the current one first. Default: the application's current backend is left as it is. */
  readonly backend?: string | undefined;
}

/**
 * Loads a checkpoint from its files: config.json, weights, vocab.txt or tokenizer.json, preprocessor_config.json.
 *
 * @throws ConfigError, TokenizerError, SafetensorsError, TorchFileError, WeightError, BackendError, or the signal's reason; nothing stays
 *   loaded then.
 */
export async function loadImage2Text(files: ModelFiles, options: LoadOptions = {}): Promise<Image2Text> {
  checkSource(files, options);
  await prepareBackend(options);
  const { config, tensors } = await openGit(files); // headers only: a bad small file is found before the weights are read
  const tokenizer = await openTokenizer(files, config);
  const imageConfig = await openImageConfig(files, config);
  const { signal, onProgress, upload, uploadCopies, weights, backend: _, ...sight } = options;
  const loading = { signal, onProgress: weightEvents(files.label, onProgress), upload, uploadCopies, weights };
  const params = await loadGitParams(config, tensors, files.label, loading);
  const model = createImage2Text({ config, params }, tokenizer, imageConfig, sight);
  try {
    onProgress?.({ status: 'ready', task: 'image-to-text', model: files.label });
  } catch (error) {
    model.dispose(); // the listener's error is the caller's, and so are the weights no longer
    throw error;
  }
  return model;
}

/**
 * What can be said before anything is read or fetched: the backend that is asked for is the current one, and keeps weights as they are asked for.
 *
 * @throws OptionError, BackendError.
 */
export async function prepareBackend(options: Pick<LoadOptions, 'backend' | 'weights' | 'upload'>): Promise<void> {
  if (options.backend !== undefined) await useBackend(options.backend);
  checkBackend();
  checkWeights(options);
}

/** For callers without types: what is wrong is said before anything is read. */
function checkSource(files: unknown, options: unknown): void {
  const fail = (path: string, detail: string): never => {
    throw new OptionError({ path, code: 'wrong-type', detail });
  };
  if (typeof (files as Partial<ModelFiles> | undefined | null)?.open !== 'function')
    fail('model', 'expected the files of a checkpoint');
  if (typeof options !== 'object' || options === null) fail('options', 'expected an object');
  for (const name of ['onProgress', 'upload'] as const) {
    const given = (options as LoadOptions)[name];
    if (given !== undefined && typeof given !== 'function') fail(name, 'expected a function');
  }
}

/** The commonest first mistake: no backend was ever imported. */
function checkBackend(): void {
  if (Object.keys(engine().registryFactory).length > 0) return;
  const detail =
    "no tfjs backend is registered: import '@tensorflow/tfjs-backend-wasm' (or another one) first, or call startBackend of generative-image2text/node";
  throw new BackendError({ code: 'no-backend', detail });
}

async function useBackend(name: string): Promise<void> {
  const started = await setBackend(name).catch((cause: unknown) => cause); // tfjs throws for a name that is not registered
  if (started === true) return;
  const detail = Object.hasOwn(engine().registryFactory, name)
    ? 'it does not start; tfjs has said why on the console'
    : 'it is not registered; import its package first (simd: call registerSimdBackend)';
  throw new BackendError({ path: name, code: 'backend-failed', detail, cause: started });
}
