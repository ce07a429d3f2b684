import type { KernelExports } from './binary.js';
import type { Heap } from './heap.js';
import { PARAMETERS } from './memory-map.js';
import { type Helper, type MakeWorker, startHelper } from './platform.js';
import { createThreadPolicy } from './thread-policy.js';

/** Runs jobs of the kernels, in chunks, on one or more threads. */
export interface ThreadPool {
  /**
   * Runs all `chunks` of a job. `parameters` are its words in order: integers and addresses as they are, float32 numbers through
   * `floatBits`. Jobs with fewer than `MIN_CHUNKS` chunks stay on the calling thread.
   */
  run(job: number, chunks: number, parameters: readonly number[]): void;
  /** Threads that a job can use, the calling one included: what per-thread scratch must be multiplied with. */
  readonly threads: number;
  /** Uses `count` threads from the next job on; fewer where the memory is not shared or workers cannot be started. */
  setThreads(count: number): void;
  /** Resolves when every worker has come up, or is known not to: then `threads` no longer counts it. */
  started(): Promise<void>;
  /** Ends all workers, for good. */
  stop(): void;
}

/** Below this a job is not worth waking anyone. */
const MIN_CHUNKS = 4;

/** How often a worker looks for new work before it sleeps: some 50 microseconds, a little longer than tfjs needs between two kernels. */
const SPINS = 20_000;

const floats = new Float32Array(1);
const words = new Int32Array(floats.buffer);

/** The 32 bits of a float32, as the integer that `run` passes on. */
export function floatBits(value: number): number {
  floats[0] = value;
  return words[0]!;
}

/** A pool over one instance of the kernels; `module` and a shared `memory` are what its workers need. */
export function createThreadPool(
  kernels: KernelExports,
  heap: Heap,
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  shared: boolean,
  makeWorker?: MakeWorker,
): ThreadPool {
  const helpers: Helper[] = [];
  const policy = createThreadPolicy();
  let threads = 1;
  let most = shared ? Number.POSITIVE_INFINITY : 1;

  /** A worker that did not come up: those after it would have the wrong number, and what refused it would refuse the next one too. */
  function giveUp(helper: Helper): void {
    const at = helpers.indexOf(helper);
    if (at < 0) return;
    for (const useless of helpers.splice(at)) useless.stop();
    most = at + 1;
    threads = Math.min(threads, most);
  }

  return {
    run(job, chunks, parameters) {
      heap.i32.set(parameters, PARAMETERS >> 2);
      const start = threads > 1 && chunks >= MIN_CHUNKS ? performance.now() : 0;
      if (start === 0 || !policy.allowed(start)) {
        kernels.runAlone(job, chunks);
        return;
      }
      const own = kernels.share(job, chunks, threads - 1);
      const done = performance.now();
      kernels.join();
      const end = performance.now();
      policy.record(end, end - start, ((done - start) * chunks) / Math.max(own, 1));
    },
    get threads() {
      return threads;
    },
    setThreads(count) {
      const wanted = Math.min(Math.max(1, Math.floor(count)), most);
      while (helpers.length < wanted - 1) {
        const helper = startHelper({ module, memory, thread: helpers.length + 1, spins: SPINS }, makeWorker);
        if (helper === undefined) break;
        helpers.push(helper);
        void helper.started.then((up) => up || giveUp(helper));
      }
      threads = Math.min(wanted, helpers.length + 1);
    },
    async started() {
      await Promise.all(helpers.map((helper) => helper.started));
    },
    stop() {
      kernels.dismiss(); // a browser lets a worker that waits live on for seconds after `terminate`
      for (const helper of helpers.splice(0)) helper.stop();
      threads = 1;
    },
  };
}
