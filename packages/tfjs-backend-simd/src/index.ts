import {
  engine,
  getKernel,
  registerBackend,
  registerKernel,
  removeBackend,
  unregisterKernel,
} from '@tensorflow/tfjs-core';
import { BackendError } from './errors.js';
import { Heap } from './heap.js';
import { KernelContext, type KernelTable } from './kernel-context.js';
import { convolutionKernels } from './kernels/convolution.js';
import { creationKernels } from './kernels/creation.js';
import { decoderStep } from './kernels/decoder-step.js';
import { elementwiseKernels } from './kernels/elementwise.js';
import { gradientKernels } from './kernels/gradients.js';
import { imageKernels } from './kernels/images.js';
import { indexingKernels } from './kernels/indexing.js';
import { matMulKernels } from './kernels/mat-mul.js';
import { joiningKernels, movementKernels } from './kernels/movement.js';
import { normalizationKernels, reduceKernels } from './kernels/reduce.js';
import { stringKernels } from './kernels/strings.js';
import { transformerKernels } from './kernels/transformer.js';
import { windowKernels } from './kernels/windows.js';
import {
  allowRelaxedSimd,
  compileKernels,
  coreCount,
  createMemory,
  hasRelaxedSimd,
  hasSharedMemory,
  hasSimd,
  instantiate,
  isPage,
} from './platform.js';
import type { WeightFormat } from './tensor-memory.js';
import { ThreadPool } from './thread-pool.js';
import { type ParamSink, paramBytes, startParam } from './weights.js';

export { BackendError } from './errors.js';
export type { LinearActivation } from './kernels/transformer.js';
export type { WeightFormat } from './tensor-memory.js';
export type { ParamSink, StoredNumbers } from './weights.js';
export { uploadWeight, type WeightUpload } from './weights.js';

/** Every kernel of this backend. A name that is not here makes tfjs throw, with the name. */
const allKernels: KernelTable = {
  ...convolutionKernels,
  ...creationKernels,
  GitDecoderStep: decoderStep,
  ...elementwiseKernels,
  ...gradientKernels,
  ...imageKernels,
  ...indexingKernels,
  ...joiningKernels,
  ...matMulKernels,
  ...movementKernels,
  ...normalizationKernels,
  ...reduceKernels,
  ...stringKernels,
  ...transformerKernels,
  ...windowKernels,
};

/** The tfjs backend. */
export class SimdBackend extends KernelContext {
  /**
   * Begins a parameter that a program has piece by piece, as a file stores it: `linear` is a weight [out, in], kept in `format` and read as
   * [in, out]; `embedding` a table, kept in `format`, whose rows are gathered; `as-is` is float32. Undefined for other layouts.
   * @throws BackendError (`memory-limit`).
   */
  startParam(shape: readonly number[], layout: string, format: WeightFormat): ParamSink | undefined {
    return startParam(this, shape, layout, format);
  }

  /** Bytes of this memory that such a parameter takes; a number too large for `format` makes it float32, which its shape does not tell. */
  paramBytes(shape: readonly number[], layout: string, format: WeightFormat): number {
    return paramBytes(shape, layout, format);
  }

  /** Bytes that may still be allocated before the memory is full: 4 GiB at the most, less what is in use. */
  freeBytes(): number {
    return this.heap.freeBytes();
  }
}

/** How the backend starts. Everything left out is chosen by what the platform can do. */
export interface SimdBackendOptions {
  /** Threads, the calling one included. Default: one a core, up to 8. In the main thread of a page it is always 1. */
  readonly threads?: number;
  /** Fused multiply-add. Default: where the platform has it. */
  readonly relaxed?: boolean;
  /** Memory that threads can share. Default: where the platform has it, but not in the main thread of a page. Without it there is one thread. */
  readonly shared?: boolean;
  /**
   * In a page whose Content-Security-Policy forbids workers from `blob:`: makes a web worker of a script of its own that calls
   * `serveKernels` of `tfjs-backend-simd/worker`. Node does not use it.
   */
  readonly worker?: () => Worker;
  /** Name to register under. Default: `simd`. */
  readonly name?: string;
}

const cannotStart = (detail: string) => new BackendError({ path: 'simd', code: 'cannot-start', detail });

/** More threads than this have not been seen to pay at a transformer's sizes. */
const MAX_DEFAULT_THREADS = 8;
const defaultThreads = () => Math.min(coreCount(), MAX_DEFAULT_THREADS);

async function start({
  threads = defaultThreads(),
  relaxed,
  shared = hasSharedMemory() && !isPage(),
  worker,
}: SimdBackendOptions): Promise<SimdBackend> {
  if (!hasSimd()) throw cannotStart('this platform has no WebAssembly SIMD');
  if (relaxed !== false) allowRelaxedSimd();
  const fused = relaxed ?? hasRelaxedSimd();
  if (fused && !hasRelaxedSimd()) throw cannotStart('this platform has no relaxed WebAssembly SIMD');
  const module = await compileKernels({ relaxed: fused, shared });
  const { memory, limit } = createMemory(shared);
  const kernels = await instantiate(module, memory);
  const heap = new Heap(memory, limit);
  const pool = new ThreadPool({ kernels, heap, module, memory, shared: shared && !isPage(), makeWorker: worker });
  pool.setThreads(threads);
  await pool.started(); // in a worker of a page they come up only while this function awaits: a first image could be done before that
  return new SimdBackend(kernels, heap, pool);
}

/**
 * Registers this backend with tfjs under the name `simd`, with all its kernels; `await setBackend('simd')` then starts it. Where a
 * program does not choose, tfjs prefers every other backend that it registered, except cpu (see `PRIORITY`). Calling it again changes
 * nothing unless the options differ: then the backend of that name is replaced, and its tensors are lost.
 *
 * Runs in Node 20 or later and in browsers. In a page the model should run in a worker, and threads need that and cross-origin
 * isolation: while a job runs, the calling thread waits for the others without letting go, which a page's main thread must not do.
 * @throws BackendError: `thread-count`; from `setBackend` `cannot-start`, where the platform has no WebAssembly SIMD.
 */
export function registerSimdBackend(options: SimdBackendOptions = {}): void {
  const { name = 'simd', threads, relaxed, shared, worker } = options;
  if (threads !== undefined) checkCount(name, threads);
  const chosen = [threads, relaxed, shared, worker];
  const same = registered.get(name)?.every((value, i) => value === chosen[i]);
  if (same && engine().registryFactory[name] !== undefined) return;
  if (engine().registryFactory[name] !== undefined) removeBackend(name);
  if (!registered.has(name))
    for (const [kernelName, kernel] of Object.entries(allKernels)) registerOne(name, kernelName, kernel);
  registered.set(name, chosen);
  const factory = () => {
    const starting = start(options);
    void disposeIfDropped(name, starting);
    return starting;
  };
  registerBackend(name, factory, PRIORITY);
}

/**
 * `tf.ready()`, and the first operation of a program that has set no backend, start the registered backend with the highest priority:
 * cpu has 1, webgl and wasm 2, webgpu and tfjs-node's 3. Those an application registers because it wants them; registering this one, maybe in
 * some library, must not take their place.
 */
const PRIORITY = 1.5;

/** tfjs forgets a backend that is still starting when it is removed or another one is set. Its workers would live on. */
async function disposeIfDropped(name: string, starting: Promise<SimdBackend>): Promise<void> {
  const backend = await starting.catch(() => undefined); // tfjs reports that it does not start
  await new Promise((resolve) => setTimeout(resolve)); // until tfjs has taken it or not
  if (engine().registry[name] !== backend) backend?.dispose();
}

/** The options that each backend was registered with. */
const registered = new Map<string, readonly unknown[]>();

function registerOne(backendName: string, kernelName: string, kernel: (typeof allKernels)[string]): void {
  // Another copy of this package may have registered it: a kernel and its backend must be of one copy.
  if (getKernel(kernelName, backendName) !== undefined) unregisterKernel(kernelName, backendName);
  registerKernel({
    kernelName,
    backendName,
    kernelFunc: ({ inputs, attrs, backend }) => {
      const simd = backend as SimdBackend;
      return simd.call(kernelName, () => kernel(simd, inputs as never, (attrs ?? {}) as never));
    },
  });
}

function running(name: string): SimdBackend {
  const backend = engine().findBackend(name);
  if (backend instanceof SimdBackend) return backend;
  throw new BackendError({ path: name, code: 'not-started', detail: `await setBackend('${name}') first` });
}

function checkCount(path: string, count: number): void {
  if (Number.isInteger(count) && count >= 1) return;
  throw new BackendError({ path, code: 'thread-count', detail: `expected a whole number from 1 on, not ${count}` });
}

/**
 * Uses `count` threads from the next kernel on, at most 49. Results are the same for every number. Where memory is not shared it
 * stays at 1. Returns the number in use.
 * @throws BackendError: `not-started` before the backend runs, `thread-count`.
 */
export function setThreads(count: number, name = 'simd'): number {
  const { pool } = running(name);
  checkCount(name, count);
  pool.setThreads(count);
  return pool.threads;
}

/** Cores that this process may use: the most that `setThreads` can make use of. */
export const availableThreads = (): number => coreCount();
