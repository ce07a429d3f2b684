/**
 * What differs between Node and browsers. Node's modules are reached through `process.getBuiltinModule`, so that no bundler and no
 * browser ever sees a `node:` import.
 */

/** A worker that serves from its first message on until it is dismissed. */
export interface Helper {
  /**
   * Whether it has come up. Web workers are started by the event loop of whoever asks for them: not before the caller lets go. They may
   * also be refused then, by a Content-Security-Policy for one.
   */
  readonly started: Promise<boolean>;
  stop(): void;
}

interface NodeProcess {
  readonly versions?: { readonly node?: string };
  getBuiltinModule?(name: string): unknown;
}

interface NodeWorker {
  unref(): void;
  on(event: 'error' | 'exit', listener: () => void): void;
  terminate(): Promise<number>;
}

type WorkerThreads = { readonly Worker: new (code: string, options: object) => NodeWorker };

const nodeProcess = (): NodeProcess | undefined => {
  const { process } = globalThis as { process?: NodeProcess };
  return process?.versions?.node !== undefined && process.getBuiltinModule !== undefined ? process : undefined;
};

const builtin = <T>(name: string): T | undefined => nodeProcess()?.getBuiltinModule?.(name) as T | undefined;

/** Node 20 has relaxed SIMD behind a flag of V8, to be set before anything is compiled; later versions have it at once. */
export function allowRelaxedSimd(): void {
  const version = Number.parseInt(nodeProcess()?.versions?.node ?? '99', 10);
  if (version >= 22) return;
  builtin<{ setFlagsFromString(flags: string): void }>('node:v8')?.setFlagsFromString(
    '--experimental-wasm-relaxed-simd',
  );
}

/** Cores that this process may use; 1 where nobody tells. */
export function coreCount(): number {
  const os = builtin<{ availableParallelism(): number }>('node:os');
  return os?.availableParallelism() ?? globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** Is this the main thread of a page, which must not wait for others? */
export const isPage = (): boolean => typeof (globalThis as { document?: unknown }).document === 'object';

/** What a worker does with the `{ module, memory, thread, spins }` it is given. */
const SERVE = `({ module, memory, thread, spins }) => {
  new WebAssembly.Instance(module, { env: { memory } }).exports.serve(thread, spins);
}`;

/** Makes a web worker whose script calls `serveKernels` (helper.ts). */
export type MakeWorker = () => Worker;

/**
 * Starts a worker on `data`; undefined where the platform has none or refuses. Its failure is not the caller's: it merely does not help.
 * `ended` is called when it is gone, where the platform tells. `makeWorker` is for browsers that must not run workers from `blob:`.
 */
export function startHelper(
  data: object,
  ended: () => void,
  makeWorker: MakeWorker = workerFromBlob,
): Helper | undefined {
  const threads = builtin<WorkerThreads>('node:worker_threads');
  try {
    return threads === undefined ? startWebWorker(data, makeWorker) : startNodeWorker(threads, data, ended);
  } catch {
    return undefined;
  }
}

function startNodeWorker({ Worker }: WorkerThreads, workerData: object, ended: () => void): Helper {
  const code = `(${SERVE})(require('node:worker_threads').workerData)`;
  const worker = new Worker(code, { eval: true, workerData, execArgv: [] });
  worker.on('error', () => {});
  worker.on('exit', ended);
  worker.unref();
  return { started: Promise.resolve(true), stop: () => void worker.terminate() };
}

/** Nobody waits longer than this, in milliseconds, for a web worker to come up. It may still do so later. */
const PATIENCE = 2000;

function startWebWorker(data: object, makeWorker: MakeWorker): Helper | undefined {
  if (typeof Worker !== 'function') return undefined;
  const worker = makeWorker();
  const started = new Promise<boolean>((resolve) => {
    worker.onmessage = () => resolve(true);
    worker.onerror = (event) => {
      event.preventDefault(); // else it becomes an error of the whole page
      resolve(false);
    };
    setTimeout(() => resolve(true), PATIENCE);
  });
  worker.postMessage(data);
  return { started, stop: () => worker.terminate() };
}

/** A worker without a file: bundlers need not know of it. helper.ts has the same lines. */
function workerFromBlob(): Worker {
  const code = `onmessage = (e) => { postMessage(0); (${SERVE})(e.data); close(); }`;
  const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const worker = new Worker(url);
  setTimeout(() => URL.revokeObjectURL(url), PATIENCE); // not at once: there were browsers that had not read it by then
  return worker;
}
