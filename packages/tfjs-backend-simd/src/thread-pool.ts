import type { KernelExports } from './binary.js';
import type { Heap } from './heap.js';
import { HEAP_START, HELPER_BYTES, HELPERS, MOST_HELPERS, PARAMETERS } from './memory-map.js';
import { type Helper, isPage, type MakeWorker, startHelper } from './platform.js';
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
  /** Uses `count` (a whole number from 1 on) threads from the next job on; fewer where the memory is not shared or workers cannot be started. */
  setThreads(count: number): void;
  /** Resolves when every worker has come up, or is known not to: then `threads` no longer counts it. */
  started(): Promise<void>;
  /** Ends all workers, for good. */
  stop(): void;
}

/** Below this a job is not worth waking anyone. */
const MIN_CHUNKS = 4;

/** How often a helper looks for new work before it sleeps: some 50 microseconds, a little longer than tfjs needs between two kernels. */
const SPINS = 20_000;

/** How often the caller looks at a helper without a sign of life before it does without: some 60 microseconds, thrice what is usual. */
const PATIENCE = 12_000;

const floats = new Float32Array(1);
const words = new Int32Array(floats.buffer);

/** The 32 bits of a float32, as the integer that `run` passes on. */
export function floatBits(value: number): number {
  floats[0] = value;
  return words[0]!;
}

/** Jobs of one kind take the same time: the job and its sizes. Addresses are larger than `HEAP_START`, sizes hardly ever. */
function kindOf(job: number, chunks: number, parameters: readonly number[]): number {
  let kind = Math.imul(job, 65_599) + chunks;
  for (const word of parameters) if (word < HEAP_START) kind = (Math.imul(kind, 31) + word) | 0;
  return kind;
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
  /** Helper `thread` at `thread` - 1; undefined where it has died. */
  const helpers: (Helper | undefined)[] = [];
  const policy = createThreadPolicy();
  const mayNap = isPage() ? 0 : 1;
  const isBusy = () => kernels.busy(MOST_HELPERS) > 0;
  let threads = 1;
  let most = shared ? MOST_HELPERS + 1 : 1;

  /** A worker that did not come up: what refused it would refuse the next one too. */
  function giveUp(index: number): void {
    for (const useless of helpers.splice(index)) useless?.stop();
    most = index + 1;
    threads = Math.min(threads, most);
    kernels.setLimit(threads - 1);
  }

  function start(index: number): Helper | undefined {
    const ended = () => {
      if (helpers[index] !== helper) return;
      helpers[index] = undefined;
      Atomics.store(heap.i32, (HELPERS + index * HELPER_BYTES) >> 2, 0); // whatever it was at, nobody waits for it
    };
    const helper = startHelper({ module, memory, thread: index + 1, spins: SPINS }, ended, makeWorker);
    void helper?.started.then((up) => up || helpers[index] !== helper || giveUp(index));
    return helper;
  }

  function runMany(job: number, chunks: number, kind: number): void {
    const start = performance.now();
    if (!policy.allowed(start, kind)) {
      kernels.runAlone(job, chunks);
      policy.alone(kind, performance.now() - start);
      return;
    }
    const own = kernels.share(job, chunks);
    const done = performance.now();
    if (kernels.join(PATIENCE, mayNap) > 0) heap.hold(isBusy);
    const end = performance.now();
    policy.shared(end, kind, end - start, ((done - start) * chunks) / Math.max(own, 1));
  }

  return {
    run(job, chunks, parameters) {
      heap.i32.set(parameters, PARAMETERS >> 2);
      if (threads === 1 || chunks < MIN_CHUNKS) kernels.runAlone(job, chunks);
      else runMany(job, chunks, kindOf(job, chunks, parameters));
    },
    get threads() {
      return threads;
    },
    setThreads(count) {
      const wanted = Math.min(count, most);
      threads = 1;
      for (; threads < wanted; threads++) {
        helpers[threads - 1] ??= start(threads - 1);
        if (helpers[threads - 1] === undefined) break;
      }
      kernels.setLimit(threads - 1);
    },
    async started() {
      await Promise.all(helpers.map((helper) => helper?.started));
    },
    stop() {
      kernels.setLimit(-1); // a browser lets a worker that waits live on for seconds after `terminate`
      for (const helper of helpers.splice(0)) helper?.stop();
      threads = 1;
    },
  };
}
