import { BackendError } from './errors.js';

/** What the compiled kernels offer (assembly/index.ts). Addresses are numbers from 0 to 2^32 - 1. */
export interface KernelExports {
  /** Runs all chunks of a job in the calling thread. */
  runAlone(job: number, chunks: number): void;
  /** Runs so many of the jobs at `WAITING` in the calling thread. */
  runWaiting(count: number): void;
  /** Shares a job with the workers; returns the chunks that the calling thread took. `join` must follow. */
  share(job: number, chunks: number): number;
  /**
   * Finishes a shared job. Workers that give no sign of life for `patience` looks lose their chunk to the caller; returns how many
   * of them have not noticed yet. The caller sleeps only where it may.
   */
  join(patience: number, mayWait: number): number;
  /** How many of the first `workers` workers have lost their chunk and not noticed yet. */
  busy(workers: number): number;
  /** Workers with a larger number rest; below zero all of them return from `serve`. */
  setLimit(limit: number): void;
  /** A worker's life; returns when it is dismissed. */
  serve(thread: number, spins: number): void;
  tileRows(): number;
  int8TileRows(): number;
  attentionScratch(rows: number, width: number, textColumns: number, imageColumns: number): number;
  attentionGradientScratch(tokens: number, columns: number, width: number): number;
  largest(x: number, n: number): number;
  /** The `Dots` that this machine computes fastest, and right. */
  bestDots(): number;
  packPanels(b: number, ldb: number, d: number, k: number, n: number, height: number): void;
  packPanelsTransposed(b: number, ldb: number, d: number, k: number, n: number): void;
  packStrip(
    ...at: [
      format: number,
      s: number,
      ld: number,
      transposed: boolean,
      d: number,
      scales: number,
      given: boolean,
      k: number,
      n: number,
      spare: number,
    ]
  ): void;
  widenStored(format: number, s: number, d: number, n: number): void;
  unpackColumn(format: number, w: number, scales: number, d: number, column: number, k: number): void;
  unpackWeight(format: number, w: number, scales: number, d: number, n: number, k: number): void;
}

/** Which of the four binaries to take. */
export interface Variant {
  /** With fused multiply-add (relaxed SIMD). */
  readonly relaxed: boolean;
  /** Over memory that workers share. */
  readonly shared: boolean;
}

/** A module with one instruction of the proposal in question: `i8x16.splat` or `f32x4.relaxed_madd` on constants. */
const tinyModule = (body: readonly number[]) =>
  Uint8Array.from([
    ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, body.length + 4, 1, body.length + 2, 0],
    ...[...body, 11],
  ]);

const SPLAT = [65, 0, 253, 15];

/** Can this platform run WebAssembly SIMD? */
export const hasSimd = (): boolean => typeof WebAssembly === 'object' && WebAssembly.validate(tinyModule(SPLAT));

/** Can it run relaxed SIMD? (On Node 20 only behind a flag of V8, see platform.ts.) */
export const hasRelaxedSimd = (): boolean =>
  WebAssembly.validate(tinyModule([...SPLAT, ...SPLAT, ...SPLAT, 253, 133, 2]));

/** Does it let us share WebAssembly memory? (In a page: only when it is cross-origin isolated.) */
export function hasSharedMemory(): boolean {
  if (typeof SharedArrayBuffer !== 'function') return false;
  return (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false;
}

/** Each variant is a module of its own, so that a program loads one of the four. */
const LOADERS = {
  'plain-unshared': () => import('./generated/plain-unshared.js'),
  'plain-shared': () => import('./generated/plain-shared.js'),
  'relaxed-unshared': () => import('./generated/relaxed-unshared.js'),
  'relaxed-shared': () => import('./generated/relaxed-shared.js'),
};

/**
 * Loads and compiles the kernels.
 * @throws BackendError where the platform refuses them.
 */
export async function compileKernels({ relaxed, shared }: Variant): Promise<WebAssembly.Module> {
  const { base64 } = await LOADERS[`${relaxed ? 'relaxed' : 'plain'}-${shared ? 'shared' : 'unshared'}`]();
  try {
    return await WebAssembly.compile(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
  } catch (cause) {
    const detail = `this platform does not compile the kernels (${(cause as Error).message})`;
    throw new BackendError({ path: 'simd', code: 'cannot-start', detail, cause });
  }
}

const PAGE_BYTES = 65536;

/** The largest memory that the platform grants, 4 GiB where it can, and the bytes that it can grow to. */
export function createMemory(shared: boolean): { readonly memory: WebAssembly.Memory; readonly limit: number } {
  let cause: unknown;
  for (const maximum of [65536, 32768, 16384, 8192]) {
    try {
      const memory = new WebAssembly.Memory({ initial: 256, maximum, shared });
      return { memory, limit: maximum * PAGE_BYTES };
    } catch (error) {
      cause = error;
    }
  }
  throw new BackendError({ path: 'simd', code: 'cannot-start', detail: 'no WebAssembly memory to be had', cause });
}

/** An instance of compiled kernels over a memory. */
export async function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<KernelExports> {
  const instance = await WebAssembly.instantiate(module, { env: { memory } });
  return instance.exports as unknown as KernelExports;
}

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
