/** The model in its worker: starting, loading with pause and resume, and starting again when the worker is lost. */
import type { LoadEvent } from '../../src/load-events.js';
import { connectWorker, type WorkerModel, type WorkerModelInfo } from '../../src/worker/client.js';
import type { EngineReply, EngineRequest } from './worker.js';

export type Backend = EngineRequest['backend'];

/** What is to be loaded, and how. */
export interface Choice {
  readonly source: string | readonly File[];
  readonly name: string;
  readonly weights: 'f32' | 'bf16' | 'int8';
  readonly backend: Backend;
}

export interface Loaded {
  readonly model: WorkerModel;
  readonly info: WorkerModelInfo;
  readonly choice: Choice;
  readonly threads: number;
  readonly loadMs: number;
}

let worker: Worker | undefined;
let connected: WorkerModel | undefined;
let backend: Backend | undefined;

/** One worker an engine: a backend of tfjs takes its memory with it when its worker ends. */
function start(wanted: Backend): WorkerModel {
  if (worker !== undefined && backend === wanted && connected !== undefined) return connected;
  worker?.terminate();
  worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  backend = wanted;
  connected = connectWorker(worker);
  return connected;
}

/** Ends the worker; the next load starts another one. */
export function endWorker(): void {
  worker?.terminate();
  worker = undefined;
  connected = undefined;
}

function startEngine(wanted: Backend): Promise<number> {
  return new Promise((resolve, reject) => {
    const listen = ({ data }: MessageEvent<EngineReply>): void => {
      if (data?.page !== 'engine') return;
      worker?.removeEventListener('message', listen);
      if ('error' in data) reject(new Error(data.error));
      else resolve(data.threads);
    };
    worker?.addEventListener('message', listen);
    worker?.addEventListener('error', () => reject(Object.assign(new Error(), { code: 'worker-failed' })), {
      once: true,
    });
    worker?.postMessage({ page: 'engine', backend: wanted } satisfies EngineRequest);
  });
}

/** Loads a checkpoint in place of the one that is there. `onProgress` receives 0 to 100 and bytes. */
export async function load(
  choice: Choice,
  signal: AbortSignal,
  onProgress: (event: LoadEvent) => void,
): Promise<Loaded> {
  const model = start(choice.backend);
  const began = performance.now();
  const threads = await startEngine(choice.backend);
  signal.throwIfAborted();
  const { weights, backend, source } = choice;
  const options = { signal, onProgress, backend, ...(weights === 'f32' ? {} : { weights }) };
  const info = await model.load(typeof source === 'string' ? source : [...source], options);
  return { model, info, choice, threads, loadMs: performance.now() - began };
}

/** The demo stands beside the page; anything else with a slash in it is the Hub's, or a folder's address. */
export const addressOf = (name: string): string => (name === 'demo' ? './weights/demo/' : name);

/** The published checkpoints with their bytes in f32; the build fills it in from weights/models.json. */
declare const __PUBLISHED__: Readonly<Record<string, number>>;
export const PUBLISHED = __PUBLISHED__;
