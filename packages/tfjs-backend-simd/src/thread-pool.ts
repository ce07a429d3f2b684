import {
  HEAP_START,
  type Job,
  MAX_WAITING,
  MAX_WORKERS,
  PARAMETER_BYTES,
  PARAMETERS,
  WAITING,
  WAITING_BYTES,
  WORKER_BYTES,
  WORKERS,
} from './abi.js';
import type { Heap } from './heap.js';
import type { KernelExports } from './platform.js';
import { isPage, type KernelWorker, type MakeWorker, startWorker } from './platform.js';

/** Shared work that is judged together, in milliseconds. */
const WINDOW_MS = 20;
/** Working alone, after a window that did not pay: from so many milliseconds, doubled each time in a row, up to so many. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 800;
/** A window pays when it took at most this part of the time alone. */
const LARGEST_SHARED_PART = 0.97;
/** One job in so many of its kind is done alone, to see what it takes: costs a hundredth. */
const JOBS_PER_SAMPLE = 96;
/** Weight of a new measurement in the running average of a kind's time alone. */
const NEW_SAMPLE_WEIGHT = 0.3;
/** Kinds remembered; a program that has more begins anew. */
const MAX_KINDS = 1000;

interface Kind {
  /** Milliseconds that it takes alone, lately. */
  time: number;
  sharedSince: number;
}

/**
 * Whether workers pay. On a busy machine they may take more than they give: from memory, from caches, and from the core that the
 * caller runs on. So now and then a job is done alone, to know what that takes at present, and where sharing does not beat it the
 * caller works alone for a while. Results do not depend on it, only time does.
 */
export class ThreadPolicy {
  private readonly kinds = new Map<number, Kind>();
  private took = 0;
  private alone = 0;
  private pause = FIRST_PAUSE_MS;
  private resume = Number.NEGATIVE_INFINITY;

  /** Shall the next job of this kind be shared, at this time (milliseconds)? */
  allows(now: number, kind: number): boolean {
    return now >= this.resume && (this.kinds.get(kind)?.sharedSince ?? 0) < JOBS_PER_SAMPLE;
  }

  /** Reports what a job took alone. */
  ranAlone(kind: number, time: number): void {
    const known = this.kinds.get(kind);
    if (known === undefined || known.time === 0) {
      if (this.kinds.size >= MAX_KINDS) this.kinds.clear();
      this.kinds.set(kind, { time, sharedSince: 0 });
      return;
    }
    known.time += NEW_SAMPLE_WEIGHT * (time - known.time);
    known.sharedSince = 0;
  }

  /** Reports what a shared job took; `guess` is what it would have taken alone, by the speed of the caller. */
  ranShared(now: number, kind: number, time: number, guess: number): void {
    const known = this.kinds.get(kind);
    if (known === undefined) this.kinds.set(kind, { time: 0, sharedSince: 1 });
    else known.sharedSince++;
    this.took += time;
    this.alone += known === undefined || known.time === 0 ? guess : known.time;
    if (this.took >= WINDOW_MS || this.alone >= WINDOW_MS) this.judge(now);
  }

  private judge(now: number): void {
    if (this.took <= this.alone * LARGEST_SHARED_PART) this.pause = FIRST_PAUSE_MS;
    else {
      this.resume = now + this.pause;
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
    }
    [this.took, this.alone] = [0, 0];
  }
}

/** Below this a job is not worth waking anyone. */
const MIN_CHUNKS = 4;

/** How often a worker looks for new work before it sleeps: some 50 microseconds, a little longer than tfjs needs between two kernels. */
const SPINS = 20_000;

/** How often the caller looks at a worker without a sign of life before it does without: some 60 microseconds, thrice what is usual. */
const PATIENCE = 12_000;

const floats = new Float32Array(1);
const words = new Int32Array(floats.buffer);

/** The 32 bits of a float32, as the integer that a job's parameters pass on. */
export function floatBits(value: number): number {
  floats[0] = value;
  return words[0]!;
}

const jobWords = new Uint32Array(PARAMETER_BYTES / 4);

/**
 * The words of a job's parameters, each at the place that the job's enum in abi.ts gives it: always the same array, good until the next call. Callers
 * write `values` as one literal: to spread others into it takes ten times as long as all the rest, a tenth of a small job.
 */
export function parametersOf<Layout extends object>(layout: Layout, values: Record<keyof Layout, number>): Uint32Array {
  jobWords.fill(0);
  for (const name in values) jobWords[layout[name] as number] = values[name];
  return jobWords;
}

/** Jobs of one kind take the same time: the job and its sizes. Addresses are larger than `HEAP_START`, sizes hardly ever. */
function kindOf(job: Job, chunks: number, parameters: Uint32Array): number {
  let kind = Math.imul(job, 65_599) + chunks;
  for (const word of parameters) if (word < HEAP_START) kind = (Math.imul(kind, 31) + word) | 0;
  return kind;
}

/** What a pool runs on: one instance of the kernels, and what its workers need to make theirs. */
export interface PoolParts {
  readonly kernels: KernelExports;
  readonly heap: Heap;
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Whether workers can share `memory`. */
  readonly shared: boolean;
  readonly makeWorker?: MakeWorker | undefined;
}

/** Runs jobs of the kernels, in chunks, on one or more threads. */
export class ThreadPool {
  /** Worker `thread` at `thread` - 1; undefined where it has died. */
  private readonly workers: (KernelWorker | undefined)[] = [];
  private readonly policy = new ThreadPolicy();
  private readonly mayWait = isPage() ? 0 : 1;
  private readonly isBusy = () => this.parts.kernels.busy(MAX_WORKERS) > 0;
  private most: number;
  private count = 1;
  /** Jobs that wait (`inOneGo`); undefined where jobs run at once. */
  private waiting: number | undefined;

  constructor(private readonly parts: PoolParts) {
    this.most = parts.shared ? MAX_WORKERS + 1 : 1;
  }

  /** Threads that a job can use, the calling one included: what per-thread scratch must be multiplied with. */
  get threads(): number {
    return this.count;
  }

  /** Runs all `chunks` of a job. Jobs with fewer than `MIN_CHUNKS` chunks stay on the calling thread. */
  run(job: Job, chunks: number, parameters: Uint32Array): void {
    const { heap, kernels } = this.parts;
    if (this.waiting !== undefined) {
      this.wait(job, chunks, parameters);
      return;
    }
    heap.i32.set(parameters, PARAMETERS >> 2);
    if (this.count === 1 || chunks < MIN_CHUNKS) kernels.runAlone(job, chunks);
    else this.runMany(job, chunks, kindOf(job, chunks, parameters));
  }

  /**
   * Lets the jobs of `work` wait, and runs them one after the other when it ends, on one thread in one call: after a job that reads megabytes of weights
   * JavaScript finds nothing of its own in the caches. What reads their results without a job, or writes where they write, calls `settle` first.
   */
  inOneGo(work: () => void): void {
    const outermost = this.waiting === undefined;
    this.waiting ??= 0;
    try {
      work();
      if (outermost) this.settle();
    } finally {
      if (outermost) this.waiting = undefined;
    }
  }

  /** Are there jobs that wait? Then the scratch memory they use must not be freed yet. */
  get waits(): boolean {
    return (this.waiting ?? 0) > 0;
  }

  /** Runs the jobs that wait. */
  settle(): void {
    const { heap, kernels } = this.parts;
    const count = this.waiting ?? 0;
    if (count === 0) return;
    this.waiting = 0;
    if (this.count === 1) {
      kernels.runWaiting(count);
      return;
    }
    for (let i = 0; i < count; i++) {
      const at = (WAITING + i * WAITING_BYTES) >> 2;
      const [job, chunks, kind] = [heap.i32[at]!, heap.i32[at + 1]!, heap.i32[at + 2]!];
      heap.i32.copyWithin(PARAMETERS >> 2, at + 16, at + 16 + PARAMETER_BYTES / 4);
      if (chunks < MIN_CHUNKS) kernels.runAlone(job, chunks);
      else this.runMany(job, chunks, kind);
    }
  }

  private wait(job: Job, chunks: number, parameters: Uint32Array): void {
    if (this.waiting === MAX_WAITING) this.settle();
    const { i32 } = this.parts.heap;
    const at = (WAITING + this.waiting! * WAITING_BYTES) >> 2;
    i32[at] = job;
    i32[at + 1] = chunks;
    if (this.count > 1 && chunks >= MIN_CHUNKS) i32[at + 2] = kindOf(job, chunks, parameters);
    i32.set(parameters, at + 16);
    this.waiting!++;
  }

  private runMany(job: Job, chunks: number, kind: number): void {
    const { heap, kernels } = this.parts;
    const start = performance.now();
    if (!this.policy.allows(start, kind)) {
      kernels.runAlone(job, chunks);
      this.policy.ranAlone(kind, performance.now() - start);
      return;
    }
    const own = kernels.share(job, chunks);
    const done = performance.now();
    if (kernels.join(PATIENCE, this.mayWait) > 0) heap.hold(this.isBusy);
    const end = performance.now();
    this.policy.ranShared(end, kind, end - start, ((done - start) * chunks) / Math.max(own, 1));
  }

  /** Uses `count` (a whole number from 1 on) threads from the next job on; fewer where the memory is not shared or workers cannot be started. */
  setThreads(count: number): void {
    const wanted = Math.min(count, this.most);
    this.count = 1;
    for (; this.count < wanted; this.count++) {
      this.workers[this.count - 1] ??= this.start(this.count - 1);
      if (this.workers[this.count - 1] === undefined) break;
    }
    this.parts.kernels.setLimit(this.count - 1);
  }

  private start(index: number): KernelWorker | undefined {
    const { heap, module, memory, makeWorker } = this.parts;
    const ended = () => {
      if (this.workers[index] !== worker) return;
      this.workers[index] = undefined;
      Atomics.store(heap.i32, (WORKERS + index * WORKER_BYTES) >> 2, 0); // whatever it was at, nobody waits for it
    };
    const worker = startWorker({ module, memory, thread: index + 1, spins: SPINS }, ended, makeWorker);
    void worker?.started.then((up) => up || this.workers[index] !== worker || this.giveUp(index));
    return worker;
  }

  /** A worker that did not come up: what refused it would refuse the next one too. */
  private giveUp(index: number): void {
    for (const useless of this.workers.splice(index)) useless?.stop();
    this.most = index + 1;
    this.count = Math.min(this.count, this.most);
    this.parts.kernels.setLimit(this.count - 1);
  }

  /** Resolves when every worker has come up, or is known not to: then `threads` no longer counts it. */
  async started(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker?.started));
  }

  /** Ends all workers, for good. */
  stop(): void {
    this.parts.kernels.setLimit(-1); // a browser lets a worker that waits live on for seconds after `terminate`
    for (const worker of this.workers.splice(0)) worker?.stop();
    this.count = 1;
  }
}
