import { OptionError } from '../errors.js';
import { contradiction, type Given, wrongType } from './options.js';

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
