import { engine, getBackend, getKernel, registerKernel, setBackend } from '@tensorflow/tfjs-core';
import type { ByteSource, ModelFiles } from '../checkpoint/byte-source.js';
import { readBytes } from '../checkpoint/byte-source.js';
import { readJson } from '../checkpoint/json.js';
import type { LoadProgress } from '../checkpoint/load-params.js';
import { checkWeights, freeBackendBytes } from '../checkpoint/load-params.js';
import { BackendError, ConfigError, OptionError, TokenizerError } from '../errors.js';
import { unlessAborted } from '../event-loop.js';
import { type GenerationConfig, parseGenerationConfig } from '../generation/generation-config.js';
import type { ImageConfig } from '../image/image-config.js';
import { defaultImageConfig, parseImageConfig, parseProcessorConfig } from '../image/image-config.js';
import type { KeepRatio, PreprocessOptions } from '../image/image-options.js';
import { eventSink, type OnLoadEvent } from '../load-events.js';
import { disposeGit } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import type { LoadGitOptions } from '../model/load-git.js';
import { checkGitMemory, loadGitParams, openGit } from '../model/load-git.js';
import { withTokenMerging } from '../model/token-merging.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { loadTokenizer } from '../tokenizer/tokenizer.js';
import type { Image2Text, ModelOptions } from './image2text.js';
import { createImage2Text } from './image2text.js';

/** How a model is loaded, and how its images are opened and preprocessed. */
export interface LoadOptions extends Omit<LoadGitOptions, 'onProgress'>, ModelOptions {
  /** Receives how far loading is, in transformers.js's events. */
  readonly onProgress?: OnLoadEvent | undefined;
  /** Make this registered tfjs backend the current one first. Default: the application's current backend is left as it is. */
  readonly backend?: string | undefined;
  /**
   * How many tokens each layer of the vision tower merges into others that are alike (arXiv 2210.09461): encoding and the cache cost less, and features
   * are not those of the model any more. Default 0: none. At most half of the tokens.
   */
  readonly tokenMerging?: number | undefined;
}

/**
 * Loads a checkpoint from its files: config.json, weights, vocab.txt or tokenizer.json, preprocessor_config.json.
 *
 * @throws ConfigError, TokenizerError, SafetensorsError, TorchFileError, WeightError, BackendError, or the signal's reason; nothing stays
 *   loaded then.
 */
export async function loadImage2Text(source: ModelFiles, options: LoadOptions = {}): Promise<Image2Text> {
  checkSource(source, options);
  await prepareBackend(options);
  const { signal, upload, uploadCopies, weights, backend: _, onProgress: listener, tokenMerging, ...input } = options;
  const onProgress = listener && eventSink(listener);
  const files = abortable(source, signal);
  const { config: stated, tensors, warnings } = await openGit(files); // headers only: a bad small file is found before the weights are read
  const config = withTokenMerging(stated, tokenMerging);
  const tokenizer = await openTokenizer(files, config);
  const imageConfig = await openImageConfig(files, config);
  const generationConfig = await openGenerationConfig(files, config.vocabSize);
  const loading = { signal, onProgress: weightEvents(files.label, onProgress), upload, uploadCopies, weights };
  const params = await loadGitParams(config, tensors, files.label, loading);
  const settings = { ...input, ...publishedPreprocessing(source.repository, input) };
  let model: Image2Text;
  try {
    model = createImage2Text({ config, params }, tokenizer, imageConfig, settings, warnings, generationConfig, source);
  } catch (error) {
    disposeGit({ config, params }); // an option is wrong
    throw error;
  }
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
  if (options.backend !== undefined) await activateBackend(options.backend);
  checkBackend();
  await addFusedKernels();
  checkWeights(options);
}

/** tfjs's webgpu backend has kernels of ours, which are loaded where it is the current one. */
async function addFusedKernels(): Promise<void> {
  if (engine().backendName !== 'webgpu') return;
  const { addWebGpuKernels } = await import('../webgpu/index.js');
  addWebGpuKernels({ engine, getKernel, registerKernel });
}

/** Bytes of weights in memory for one in a file, at the most: int8 that is kept as f32. */
const WIDEST = 4;

/**
 * What can be said of weights of `bytes` before they are downloaded: that they are too large for the backend's memory. Reads headers, and only
 * where the size leaves it open; what is wrong with the files themselves is left to loading.
 *
 * @throws BackendError (`memory-limit`); the signal's reason.
 */
export async function checkDownload(
  files: ModelFiles,
  bytes: number,
  options: Pick<LoadOptions, 'weights' | 'signal'>,
): Promise<void> {
  const free = freeBackendBytes();
  if (free === undefined || bytes * WIDEST <= free) return;
  try {
    await checkGitMemory(files, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof BackendError) throw error;
  }
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
    'no tfjs backend is registered: load the model with loadImage2Text of generative-image2text/node or /browser, which start one, or import one first';
  throw new BackendError({ code: 'no-backend', detail });
}

/**
 * Makes a registered backend the current one; `shown` is its name for people.
 *
 * @returns the name tfjs knows it by.
 * @throws BackendError with what the backend itself says, which tfjs only prints on the console.
 */
export async function activateBackend(name: string, shown: string = name): Promise<string> {
  const entry = engine().registryFactory[name];
  if (entry === undefined) {
    const detail = 'it is not registered; import its package first (simd: call registerSimdBackend)';
    throw new BackendError({ path: shown, code: 'backend-failed', detail });
  }
  const { factory } = entry;
  const { backendName: current } = engine();
  let cause: unknown;
  const keep = (error: unknown): never => {
    cause = error;
    throw error;
  };
  entry.factory = () => {
    try {
      const made = factory();
      return made instanceof Promise ? made.catch(keep) : made;
    } catch (error) {
      return keep(error);
    }
  };
  try {
    if (await setBackend(name)) {
      await addFusedKernels();
      return getBackend();
    }
  } catch (error) {
    cause ??= error;
  } finally {
    entry.factory = factory;
  }
  if (current !== null && current !== undefined && current !== name) await setBackend(current); // tfjs has given it up
  const detail = cause instanceof Error ? cause.message : 'it does not start on this machine';
  throw new BackendError({ path: shown, code: 'backend-failed', detail, cause });
}

/** Files whose reading ends with the signal, even where a source never answers. */
function abortable(files: ModelFiles, signal: AbortSignal | undefined): ModelFiles {
  if (signal === undefined) return files;
  return {
    label: files.label,
    async open(name) {
      const source = await unlessAborted(files.open(name), signal);
      if (source === undefined) return undefined;
      const { readInto } = source;
      return {
        size: source.size,
        slice: (start, end) => ({
          arrayBuffer: () => unlessAborted(source.slice(start, end).arrayBuffer(), signal),
        }),
        ...(readInto && { readInto: (start, target) => unlessAborted(readInto.call(source, start, target), signal) }),
      };
    },
  };
}

const MAX_FILE_BYTES = 64 * 2 ** 20;

/** The vocabulary of a checkpoint folder: vocab.txt, else tokenizer.json, with tokenizer_config.json's settings where there is one. */
export async function openTokenizer(files: ModelFiles, config: GitConfig): Promise<Tokenizer> {
  const [vocabTxt, tokenizerJson, settings] = await Promise.all([
    readSmall(files, 'vocab.txt'),
    readSmall(files, 'tokenizer.json'),
    readJsonFile(files, 'tokenizer_config.json'),
  ]);
  if (vocabTxt === undefined && tokenizerJson === undefined) {
    const detail = 'there is no vocab.txt and no tokenizer.json in this folder';
    throw new TokenizerError({ file: files.label, code: 'missing-file', detail });
  }
  const tokenizer = loadTokenizer({
    ...(vocabTxt === undefined ? { tokenizerJson: tokenizerJson! } : { vocabTxt }),
    ...(settings === undefined ? {} : { tokenizerConfig: settings }),
  });
  checkFit(tokenizer, config, vocabTxt?.file ?? 'tokenizer.json');
  return tokenizer;
}

/** A vocabulary of another model gives words that have nothing to do with the image, and no other sign. */
function checkFit(tokenizer: Tokenizer, config: GitConfig, file: string): void {
  const fail = (detail: string): never => {
    throw new ConfigError({ file, code: 'vocabulary-does-not-fit', detail: `${detail}: is it of another checkpoint?` });
  };
  if (tokenizer.vocabSize > config.vocabSize)
    fail(`${tokenizer.vocabSize} words, config.json has vocab_size ${config.vocabSize}`);
  if (tokenizer.clsId !== config.bosTokenId)
    fail(`[CLS] has id ${tokenizer.clsId}, config.json has bos_token_id ${config.bosTokenId}`);
  if (!config.eosTokenIds.includes(tokenizer.sepId))
    fail(`[SEP] has id ${tokenizer.sepId}, config.json has eos_token_id ${config.eosTokenIds.join(', ')}`);
}

/** The processor in processor_config.json, else preprocessor_config.json, or what CLIP does for images of the model's size where there is none. */
export async function openImageConfig(files: ModelFiles, config: GitConfig): Promise<ImageConfig> {
  const nested = await readJsonFile(files, 'processor_config.json');
  const processor = nested && parseProcessorConfig(nested.json, nested.file);
  if (processor) return processor;
  const found = await readJsonFile(files, 'preprocessor_config.json');
  return found === undefined ? defaultImageConfig(config.vision.imageSize) : parseImageConfig(found.json, found.file);
}

/** What the checkpoint says of generation, where it says anything. */
export async function openGenerationConfig(
  files: ModelFiles,
  vocabSize = Number.POSITIVE_INFINITY,
): Promise<GenerationConfig | undefined> {
  const found = await readJsonFile(files, 'generation_config.json');
  return found && parseGenerationConfig(found.json, found.file, vocabSize);
}

/** Sides in pixels of the published checkpoints that the original gives images in their own ratio; weights/models.json has the sources. */
const KEPT_RATIOS: Readonly<Record<string, KeepRatio>> = {
  'microsoft/git-base-vqav2': { min: 480, max: 640 },
  'microsoft/git-base-textvqa': { min: 480, max: 640 },
  'microsoft/git-large-vqav2': { min: 420, max: 560 },
  'microsoft/git-large-textvqa': { min: 420, max: 560 },
};

/** How the original preprocesses a published checkpoint whose processor on the Hub does otherwise. What the caller asks for wins. */
export function publishedPreprocessing(
  repository: string | undefined,
  { preprocessing = 'original', keepRatio }: PreprocessOptions = {},
): PreprocessOptions {
  if (repository === undefined || keepRatio !== undefined || preprocessing !== 'original') return {};
  const published = Object.hasOwn(KEPT_RATIOS, repository) ? KEPT_RATIOS[repository] : undefined;
  return published === undefined ? {} : { preprocessing, keepRatio: published };
}

async function readJsonFile(files: ModelFiles, file: string): Promise<{ json: unknown; file: string } | undefined> {
  const found = await readSmall(files, file);
  return found === undefined ? undefined : { json: readJson(found.bytes, file), file };
}

async function readSmall(files: ModelFiles, file: string): Promise<{ bytes: Uint8Array; file: string } | undefined> {
  const source: ByteSource | undefined = await files.open(file);
  if (source === undefined) return undefined;
  if (source.size > MAX_FILE_BYTES) {
    throw new ConfigError({ file, code: 'too-large', detail: `${source.size} bytes, at most ${MAX_FILE_BYTES}` });
  }
  return { bytes: await readBytes(source, 0, source.size), file };
}

const FILE = 'weights';

/** Reports to `onEvent` how far the weights of `model` are; `undefined` where there is none. */
function weightEvents(model: string, onEvent: OnLoadEvent | undefined): ((progress: LoadProgress) => void) | undefined {
  if (onEvent === undefined) return undefined;
  let started = false;
  return ({ loaded, total }) => {
    if (!started) onEvent({ status: 'initiate', name: model, file: FILE });
    started = true;
    onEvent({ status: 'progress', name: model, file: FILE, progress: (100 * loaded) / total, loaded, total });
    if (loaded === total) onEvent({ status: 'done', name: model, file: FILE });
  };
}
