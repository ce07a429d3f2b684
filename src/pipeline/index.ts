/**
 * `pipeline` for code written for transformers.js.
 *
 * @module
 */

import type { ModelFiles } from '../checkpoint/byte-source.js';
import { DisposedError, OptionError, quote } from '../errors.js';
import type { Image2Text } from '../image2text/image2text.js';
import { loadImage2Text } from '../image2text/load.js';
import type { OnLoadEvent } from '../load-events.js';
import { imageTextToText } from './chat.js';
import {
  checkSignal,
  contradiction,
  type Given,
  readOptions,
  spellingsOf,
  withoutNulls,
  wrongType,
} from './options.js';
import { pipelineTokenizer } from './streaming.js';
import {
  documentQuestionAnswering,
  imageClassification,
  imageFeatureExtraction,
  imageToText,
  readLabels,
  type Task,
  videoClassification,
  videoToText,
  visualQuestionAnswering,
  zeroShotImageClassification,
} from './tasks.js';
import type { CreatePipeline, ModelLoadOptions, Pipelines, PipelineTask } from './types.js';

export type { CriterionFunction, PipelineTokenizer, StoppingCriteriaInput, TextStreamerOptions } from './streaming.js';
export { InterruptableStoppingCriteria, StoppingCriteria, StoppingCriteriaList, TextStreamer } from './streaming.js';
export type * from './types.js';

/** Loads a model for a pipeline. */
export type ModelLoader<M> = (model: M, options: ModelLoadOptions) => Promise<Image2Text>;

interface TaskEntry {
  /** `labels`: the names that a classification chooses from by default. */
  readonly start: (labels: readonly string[] | undefined) => Task;
  /** The published checkpoint that is loaded where none is named. */
  readonly model: string;
  /** Its name where this one is another of its names. */
  readonly name?: PipelineTask;
}

const CAPTIONS = 'microsoft/git-base-textcaps';
const QUESTIONS = 'microsoft/git-base-textvqa';
const VIDEOS = 'microsoft/git-base-vatex';

const TASKS: Readonly<Record<PipelineTask, TaskEntry>> = {
  'image-to-text': { start: () => imageToText, model: CAPTIONS },
  'image-text-to-text': { start: () => imageTextToText, model: QUESTIONS },
  'video-to-text': { start: () => videoToText, model: VIDEOS },
  'visual-question-answering': { start: () => visualQuestionAnswering, model: QUESTIONS },
  vqa: { start: () => visualQuestionAnswering, model: QUESTIONS, name: 'visual-question-answering' },
  'document-question-answering': { start: () => documentQuestionAnswering, model: QUESTIONS },
  'image-classification': { start: imageClassification, model: CAPTIONS },
  'video-classification': { start: videoClassification, model: VIDEOS },
  'zero-shot-image-classification': { start: () => zeroShotImageClassification, model: CAPTIONS },
  'image-feature-extraction': { start: () => imageFeatureExtraction, model: CAPTIONS },
};

/** What the loader is given; the type keeps the list complete. */
const LOADING: Readonly<Record<keyof ModelLoadOptions, true>> = {
  backend: true,
  cacheDir: true,
  convertHeic: true,
  device: true,
  endpoint: true,
  keepRatio: true,
  localFilesOnly: true,
  maxBatch: true,
  maxPixels: true,
  onProgress: true,
  onWarning: true,
  openImage: true,
  prepareImage: true,
  openVideo: true,
  orientation: true,
  preprocessing: true,
  revision: true,
  signal: true,
  token: true,
  tokenMerging: true,
  upload: true,
  uploadCopies: true,
  weights: true,
};
const SPELLINGS = spellingsOf([...Object.keys(LOADING), 'progressCallback', 'dtype', 'candidateLabels']);

/** Options of transformers.js's loading that say where its ONNX files are, with the values that change nothing here. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  config: [],
  model_file_name: [],
  session_options: [],
  subfolder: ['onnx', ''],
  use_external_data_format: [false],
};

/** The weight format of a number format; `auto` leaves the choice to the loader. */
const WEIGHTS: Readonly<Record<string, ModelLoadOptions['weights']>> = {
  auto: undefined,
  fp32: 'f32',
  fp16: 'f16',
  bf16: 'bf16',
  q8: 'int8',
  int8: 'int8',
  uint8: 'int8',
};

/**
 * `pipeline(task, model, options)` as transformers.js has it, for an entry point that loads models its own way. A model that is loaded already
 * may be given instead; it stays the caller's.
 *
 * @throws OptionError for unknown tasks and options, contradictory ones, and those of loading where the model is loaded; what loading throws.
 */
export const createPipeline =
  <M>(load: ModelLoader<M | string>): CreatePipeline<M> =>
  async (task, model, options) => {
    if (!Object.hasOwn(TASKS, task)) {
      const detail = `there is no task ${quote(String(task))}; known are ${Object.keys(TASKS).join(', ')}`;
      throw new OptionError({ path: 'task', code: 'unknown-task', detail });
    }
    const given = withoutNulls(readOptions(options, SPELLINGS, 'pipeline', NEUTRAL));
    const { report, labels, loading } = readPipelineOptions(task, given);
    const run = TASKS[task].start(labels);
    if (isLoaded(model)) {
      refuseLoading(given);
      report?.({ status: 'ready', task, model: 'loaded model' });
      return assemble(task, model, run, false);
    }
    const source = model ?? TASKS[task].model;
    const loaded = await load(source, {
      ...loading,
      onProgress: report && ((event) => event.status === 'ready' || report(event)),
    });
    try {
      report?.({ status: 'ready', task, model: labelOf(source) });
    } catch (error) {
      loaded.dispose();
      throw error;
    }
    return assemble(task, loaded, run, true);
  };

function readPipelineOptions(task: PipelineTask, given: Given) {
  const { progressCallback, onProgress, dtype, candidateLabels, ...loading } = given;
  for (const [name, other] of SYNONYMS)
    if (name in given && other in given) contradiction(name, `${name} and ${other} say the same: give one of them`);
  const report = progressCallback ?? onProgress;
  if (report !== undefined && typeof report !== 'function') wrongType('progress_callback', 'a function', report);
  if (candidateLabels !== undefined && task !== 'image-classification' && task !== 'video-classification')
    contradiction('candidate_labels', `the task ${task} does not use it`);
  checkSignal(loading);
  for (const name of ['revision', 'cacheDir'])
    if (loading[name] !== undefined && typeof loading[name] !== 'string') wrongType(name, 'a text', loading[name]);
  const device = forAllModules('device', loading['device']);
  const weights = dtype === undefined ? undefined : weightsOf(forAllModules('dtype', dtype));
  return {
    report: report as OnLoadEvent | undefined,
    labels: candidateLabels === undefined ? undefined : readLabels(candidateLabels),
    loading: {
      ...loading,
      ...(device === undefined ? {} : { device }),
      ...(weights === undefined ? {} : { weights }),
    } as ModelLoadOptions,
  };
}

const SYNONYMS = [
  ['device', 'backend'],
  ['dtype', 'weights'],
  ['progressCallback', 'onProgress'],
] as const;

/** A value, or the one that all modules have in `{ encoder_model: …, decoder_model_merged: … }`. */
function forAllModules(path: string, value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value;
  if (typeof value !== 'object' || Array.isArray(value)) return wrongType(path, 'a text', value);
  const values = new Set(Object.values(value as object));
  if (values.size > 1) contradiction(path, 'the parts of a model are loaded alike: give one value for all');
  const [one] = values;
  return one === undefined || typeof one === 'string' ? one : wrongType(path, 'a text', one);
}

function weightsOf(dtype: string | undefined): ModelLoadOptions['weights'] {
  if (dtype === undefined) return undefined;
  if (Object.hasOwn(WEIGHTS, dtype)) return WEIGHTS[dtype];
  const detail = `there are no weights of ${quote(dtype)}; there are ${Object.keys(WEIGHTS).join(', ')}`;
  throw new OptionError({ path: 'dtype', code: 'unsupported-dtype', detail, unsupported: true });
}

const isLoaded = (model: unknown): model is Image2Text =>
  typeof model === 'object' && model !== null && 'git' in model && 'caption' in model;

const labelOf = (model: unknown): string => {
  if (typeof model === 'string') return model;
  return typeof model === 'object' && model !== null && 'label' in model ? String(model.label) : 'model';
};

function refuseLoading(given: Given): void {
  for (const name of [...Object.keys(LOADING), 'dtype'])
    if (name in given && name !== 'onProgress')
      contradiction(name, 'the model is loaded already; this option is of loading');
}

/** The function that transformers.js's users know, with its properties. */
function assemble<T extends PipelineTask>(task: T, model: Image2Text, run: Task, isOwn: boolean): Pipelines[T] {
  let disposed = false;
  const call = async (...inputs: readonly unknown[]): Promise<unknown> => {
    if (disposed) throw new DisposedError({ code: 'pipeline-disposed', detail: 'this pipeline was disposed' });
    return run(model, inputs);
  };
  const properties = {
    task: TASKS[task].name ?? task,
    model,
    tokenizer: pipelineTokenizer(model.tokenizer),
    async dispose(): Promise<void> {
      disposed = true;
      if (isOwn) model.dispose();
    },
  };
  return Object.assign(call, properties) as unknown as Pipelines[T];
}

/**
 * `pipeline('image-to-text', files)`: a function from images to texts, with transformers.js's inputs, options and results. The model comes
 * from files, or is one that is loaded; `device` names a registered tfjs backend (`auto`: the current one). Nothing is downloaded, so that
 * `cacheDir`, `localFilesOnly`, `token` and `endpoint` have no effect, and there is no revision but `main`.
 */
export const pipeline = createPipeline<ModelFiles>((files, options) => {
  const { device, revision, cacheDir: _, localFilesOnly: __, token: ___, endpoint: ____, ...rest } = options;
  if (revision !== undefined && revision !== 'main') contradiction('revision', 'a model from files has no revisions');
  const backend = device === undefined || device === 'auto' ? {} : { backend: device };
  return loadImage2Text(files as ModelFiles, { ...rest, ...backend });
});

/** Settings of onnxruntime: here only `wasm.numThreads` has a meaning; the others change no result and are not read. */
interface OnnxSettings {
  wasm: { numThreads?: number | undefined; [name: string]: unknown };
  webgpu: Record<string, unknown>;
  [name: string]: unknown;
}

/** The settings of transformers.js's `env`, read whenever `pipeline` loads a model. Those that have no meaning here are named so. */
export interface TransformersEnv {
  /** Whether models may come from the Hub; false is `local_files_only`. Default true. */
  allowRemoteModels: boolean;
  /** The Hub. Default huggingface.co, or in Node what `HF_ENDPOINT` says. */
  remoteHost: string;
  /** Not supported: the default only. */
  remotePathTemplate: string;
  /** Whether a name may be that of a folder: below `localModelPath`, or in Node of any. Default true in Node, false in pages. */
  allowLocalModels: boolean;
  /** Where named models are looked for first: a folder, in a page the address of one. Default `/models/` in pages, in Node none. */
  localModelPath: string;
  /** Node's cache folder. Default null: the one that Python's tools share. No meaning in pages. */
  cacheDir: string | null;
  /** Whether a page keeps what it fetches in its Cache API. Default true. No meaning in Node. */
  useBrowserCache: boolean;
  /** Node always uses its file system and its cache there. No meaning in pages. */
  useFS: boolean;
  useFSCache: boolean;
  /** Not supported: false and null only. */
  useCustomCache: boolean;
  customCache: unknown;
  fetch: unknown;
  /** No meaning here. */
  useWasmCache: boolean;
  cacheKey: string;
  logLevel: number;
  experimental_useCrossOriginStorage: boolean;
  readonly backends: { readonly onnx: OnnxSettings };
}

const REMOTE_HOST = 'https://huggingface.co/';
const PATH_TEMPLATE = '{model}/resolve/{revision}/';

/** The settings of an entry point, with its defaults. */
export const createEnv = (own: Pick<TransformersEnv, 'allowLocalModels' | 'localModelPath'>): TransformersEnv => ({
  allowRemoteModels: true,
  remoteHost: REMOTE_HOST,
  remotePathTemplate: PATH_TEMPLATE,
  ...own,
  cacheDir: null,
  useBrowserCache: true,
  useFS: true,
  useFSCache: true,
  useCustomCache: false,
  customCache: null,
  fetch: null,
  useWasmCache: true,
  cacheKey: 'transformers-cache',
  logLevel: 30,
  experimental_useCrossOriginStorage: false,
  backends: { onnx: { wasm: {}, webgpu: {} } },
});

/** What settings mean for loading. */
export interface EnvSettings {
  readonly allowRemote: boolean;
  readonly allowLocal: boolean;
  /** With a slash at its end, or empty. */
  readonly localPath: string;
  /** `endpoint` and `cacheDir`, where they are not the default. */
  readonly hub: { readonly endpoint?: string; readonly cacheDir?: string };
  readonly useBrowserCache: boolean;
  /** Threads to compute with; undefined leaves the number to the backend. */
  readonly threads: number | undefined;
}

const BOOLEANS = ['allowRemoteModels', 'allowLocalModels', 'useBrowserCache', 'useFS', 'useFSCache', 'useCustomCache'];

/** @throws OptionError naming the setting (`env.…`): one of a wrong type, one that would change something and is not supported, or both kinds of models excluded. */
export function readEnv(env: TransformersEnv, place: 'node' | 'page'): EnvSettings {
  const given = env as unknown as Given;
  const { allowRemoteModels, allowLocalModels, remoteHost, localModelPath, cacheDir } = env;
  for (const name of BOOLEANS) {
    if (typeof given[name] !== 'boolean') wrongType(`env.${name}`, 'true or false', given[name]);
  }
  for (const name of ['remoteHost', 'localModelPath']) {
    if (typeof given[name] !== 'string') wrongType(`env.${name}`, 'a text', given[name]);
  }
  if (cacheDir !== null && cacheDir !== undefined && typeof cacheDir !== 'string')
    wrongType('env.cacheDir', 'a text', cacheDir);
  const unsupported: Readonly<Record<string, boolean>> = {
    remotePathTemplate: env.remotePathTemplate !== PATH_TEMPLATE,
    useCustomCache: env.useCustomCache,
    fetch: env.fetch !== null && env.fetch !== undefined && env.fetch !== globalThis.fetch,
    useFS: place === 'node' && !env.useFS,
    useFSCache: place === 'node' && !env.useFSCache,
  };
  for (const [name, isSet] of Object.entries(unsupported)) {
    const detail = 'this setting is not supported: leave it as it was';
    if (isSet) throw new OptionError({ path: `env.${name}`, code: 'unsupported-option', detail, unsupported: true });
  }
  if (!allowRemoteModels && !allowLocalModels)
    contradiction('env.allowLocalModels', 'both local and remote models are excluded: nothing can be loaded');
  const threads = env.backends?.onnx?.wasm?.numThreads;
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 0))
    wrongType('env.backends.onnx.wasm.numThreads', 'a whole number', threads);
  return {
    allowRemote: allowRemoteModels,
    allowLocal: allowLocalModels,
    localPath: localModelPath === '' || localModelPath.endsWith('/') ? localModelPath : `${localModelPath}/`,
    hub: {
      ...(remoteHost === REMOTE_HOST ? {} : { endpoint: remoteHost }),
      ...(typeof cacheDir === 'string' ? { cacheDir } : {}),
    },
    useBrowserCache: env.useBrowserCache,
    threads: threads === 0 ? undefined : threads, // onnxruntime's 0 is its default
  };
}
