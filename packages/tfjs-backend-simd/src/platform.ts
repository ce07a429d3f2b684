/**
 * What differs between Node, browsers and Electron. Node's modules are reached through `process.getBuiltinModule`, so that no bundler and
 * no browser ever sees a `node:` import.
 */

/** A worker that serves from its first message on until it is dismissed. */
export interface KernelWorker {
  /**
   * Whether it has come up. Web workers are started by the event loop of whoever asks for them: not before the caller returns to it. They may
   * also be refused then, by a Content-Security-Policy for one.
   */
  readonly started: Promise<boolean>;
  stop(): void;
}

/** What a worker is given: `thread` is 1 for the first one, `spins` is how often it looks for work before it sleeps. */
export interface WorkerData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly thread: number;
  readonly spins: number;
}

interface NodeProcess {
  readonly versions?: { readonly node?: string };
  /** Only in Electron: `browser` in its main process, `renderer` in a page, `worker` in a web worker with Node integration. */
  readonly type?: string;
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

/** Cores that this process may use; 1 where the platform does not say. */
export function coreCount(): number {
  const os = builtin<{ availableParallelism(): number }>('node:os');
  return os?.availableParallelism() ?? globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** Is this the main thread of a page, which must not wait for others? */
export const isPage = (): boolean => typeof (globalThis as { document?: unknown }).document === 'object';

/** What a worker does with its `WorkerData`; worker.ts has the same lines. */
const SERVE = `({ module, memory, thread, spins }) => {
  new WebAssembly.Instance(module, { env: { memory } }).exports.serve(thread, spins);
}`;

/** Makes a web worker whose script calls `serveKernels` (worker.ts). */
export type MakeWorker = () => Worker;

/**
 * Starts a worker on `data`; undefined where the platform has none or refuses. Its failure is not the caller's: it merely does not help.
 * `ended` is called when it is gone, where the platform reports it. `makeWorker` is for browsers that must not run workers from `blob:`.
 */
export function startWorker(
  data: WorkerData,
  ended: () => void,
  makeWorker: MakeWorker = workerFromBlob,
): KernelWorker | undefined {
  try {
    return startNodeWorker(data, ended) ?? startWebWorker(data, makeWorker);
  } catch {
    return undefined;
  }
}

/** Electron's pages and web workers may see all of Node, whose `worker_threads` do not run there: Chromium's own workers do. */
const inChromium = (type: string | undefined): boolean => type === 'renderer' || type === 'worker';

function startNodeWorker(workerData: WorkerData, ended: () => void): KernelWorker | undefined {
  const threads = builtin<WorkerThreads>('node:worker_threads');
  if (threads === undefined || inChromium(nodeProcess()?.type)) return undefined;
  const code = `(${SERVE})(require('node:worker_threads').workerData)`;
  const worker = new threads.Worker(code, { eval: true, workerData, execArgv: [] });
  worker.on('error', () => {});
  worker.on('exit', ended);
  worker.unref();
  return { started: Promise.resolve(true), stop: () => void worker.terminate() };
}

/** Nobody waits longer than this for a web worker to come up. It may still do so later. */
const START_TIMEOUT_MS = 2000;

function startWebWorker(data: WorkerData, makeWorker: MakeWorker): KernelWorker | undefined {
  if (typeof Worker !== 'function') return undefined;
  const worker = makeWorker();
  const started = new Promise<boolean>((resolve) => {
    worker.onmessage = () => resolve(true);
    worker.onerror = (event) => {
      event.preventDefault(); // else it becomes an error of the whole page
      resolve(false);
    };
    setTimeout(() => resolve(true), START_TIMEOUT_MS);
  });
  worker.postMessage(data);
  return { started, stop: () => worker.terminate() };
}

/** A worker without a file: bundlers need not know of it. */
function workerFromBlob(): Worker {
  const code = `onmessage = (e) => { postMessage(0); (${SERVE})(e.data); close(); }`;
  const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const worker = new Worker(url);
  setTimeout(() => URL.revokeObjectURL(url), START_TIMEOUT_MS); // not at once: there were browsers that had not read it by then
  return worker;
}
