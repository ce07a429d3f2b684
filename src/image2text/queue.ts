import { DisposedError, OptionError } from '../errors.js';
import type { GenerateOptions } from '../generation/options.js';
import type { GeneratedSequence } from '../generation/session.js';
import type { Trace } from '../layers/tidy.js';
import { type TextContext, writeSequences } from './captions.js';
import type { ModelInput } from './encoded-image.js';

/** Lets calls in flight end before what they use is freed. */
export interface Lifetime {
  /**
   * Runs `body` with a signal that fires when the caller's does, or when the model is disposed.
   *
   * @throws DisposedError after `end()`; whatever `body` throws.
   */
  during<T>(signal: AbortSignal | undefined, body: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** The same for a body that yields; leaving the loop over it early ends it. */
  streaming<T>(
    signal: AbortSignal | undefined,
    body: (signal: AbortSignal) => AsyncGenerator<T, void, void>,
  ): AsyncGenerator<T, void, void>;
  /** Refuses new calls, stops those in flight at their next step, then frees. Harmless when called again. */
  end(): void;
  readonly ended: boolean;
}

/** A lifetime whose `free` is called once, when it has ended and no call is left. */
export function startLifetime(free: () => void): Lifetime {
  /** One of each call in flight: listeners of many calls on one signal would be a leak to Node. */
  const calls = new Set<AbortController>();
  let ended: DisposedError | undefined;
  let freed = false;
  const freeWhenIdle = (): void => {
    if (freed || calls.size > 0 || ended === undefined) return;
    freed = true;
    free();
  };
  /** Counts a call in and gives the signal that it is to obey; `leave` counts it out. */
  const enter = (signal: AbortSignal | undefined) => {
    if (ended !== undefined) throw ended;
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new OptionError({ path: 'signal', code: 'wrong-type', detail: 'expected an AbortSignal' });
    }
    signal?.throwIfAborted();
    const call = new AbortController();
    calls.add(call);
    const leave = (): void => {
      calls.delete(call);
      freeWhenIdle();
    };
    return { obeyed: signal === undefined ? call.signal : AbortSignal.any([signal, call.signal]), leave };
  };
  return {
    get ended() {
      return ended !== undefined;
    },
    async during(signal, body) {
      const { obeyed, leave } = enter(signal);
      try {
        return await body(obeyed);
      } finally {
        leave();
      }
    },
    async *streaming(signal, body) {
      const { obeyed, leave } = enter(signal);
      try {
        yield* body(obeyed);
      } finally {
        leave();
      }
    },
    end() {
      if (ended === undefined) {
        ended = new DisposedError({ code: 'model-disposed', detail: 'this model was disposed' });
        for (const call of calls) call.abort(ended);
      }
      freeWhenIdle();
    },
  };
}

/** A call that wants texts for some inputs. */
export interface WriteRequest {
  readonly inputs: number;
  /** Opens one of them, when its turn comes. */
  load(input: number, signal: AbortSignal): Promise<ModelInput>;
  /** Begins to open so many of them, where that goes on beside the model's work. */
  loadAhead?(first: number, count: number): void;
  promptsOf(input: number): readonly (readonly number[])[];
  readonly generation: GenerateOptions;
  readonly trace: Trace | undefined;
  readonly batchSize: number | undefined;
  /** Results and errors as they are; `throw`: the first error ends the call. */
  readonly onError: 'throw' | 'collect';
  readonly signal: AbortSignal;
}

/** `[prompt][rank]` of one input. */
type Written = GeneratedSequence[][];

/**
 * Work of calls that were made at once, one batch after the other: first in, first out, and calls with the same options share batches. A call
 * with many inputs goes to the back of the queue after each batch, so that others need not wait for all of it.
 */
export interface WorkQueue {
  write(request: WriteRequest): Promise<(Written | Error)[]>;
  /** Runs `body` when its turn comes, alone. */
  run<T>(signal: AbortSignal, body: () => Promise<T>): Promise<T>;
}

interface Waiting {
  /** Calls of one key share batches; undefined: alone. */
  readonly key: string | undefined;
  readonly size: number;
  readonly signal: AbortSignal;
  /** Takes inputs of at most `capacity` rows out of the call. */
  take(capacity: number): Job[];
  isEmpty(): boolean;
}

interface Job {
  readonly rows: number;
  readonly signal: AbortSignal;
  /** Whether its call has an answer already. */
  isSettled(): boolean;
  run(batch: readonly Job[], signal: AbortSignal): Promise<void>;
}

interface WriteJob extends Job {
  readonly request: WriteRequest;
  readonly input: number;
  settle(result: Written | Error): void;
}

/** @param maxBatch most rows that are decoded together, where a call does not say. */
export function createWorkQueue(context: TextContext, maxBatch: number): WorkQueue {
  if (!Number.isInteger(maxBatch) || maxBatch < 1) {
    const detail = `expected a whole number from 1, found ${maxBatch}`;
    throw new OptionError({ path: 'maxBatch', code: 'out-of-range', detail });
  }
  const waiting: Waiting[] = [];
  let isRunning = false;

  const enqueue = (entry: Waiting): void => {
    waiting.push(entry);
    if (!isRunning) void work();
  };

  async function work(): Promise<void> {
    isRunning = true;
    await Promise.resolve(); // calls made in the same breath are there then
    for (let batch = takeBatch(); batch.length > 0; batch = takeBatch()) await runBatch(batch);
    isRunning = false;
  }

  function takeBatch(): Job[] {
    for (let first = waiting.shift(); first !== undefined; first = waiting.shift()) {
      const batch = first.signal.aborted ? [] : first.take(first.size);
      if (batch.length === 0) continue;
      let capacity = first.size - batch.reduce((sum, { rows }) => sum + rows, 0);
      for (let at = 0; first.key !== undefined && capacity > 0 && at < waiting.length; ) {
        const other = waiting[at]!;
        const taken = other.key === first.key && !other.signal.aborted ? other.take(capacity) : [];
        capacity -= taken.reduce((sum, { rows }) => sum + rows, 0);
        batch.push(...taken);
        if (other.isEmpty()) waiting.splice(at, 1);
        else at++;
      }
      if (!first.isEmpty()) waiting.push(first);
      return batch;
    }
    return [];
  }

  return {
    write(request) {
      const { inputs, signal, generation, trace, batchSize = maxBatch, onError } = request;
      if (!Number.isInteger(batchSize) || batchSize < 1) {
        const detail = `expected a whole number from 1, found ${batchSize}`;
        throw new OptionError({ path: 'batchSize', code: 'out-of-range', detail });
      }
      return new Promise((resolve, reject) => {
        const results: (Written | Error)[] = [];
        let next = 0;
        let left = inputs;
        let settled = false;
        const end = (finish: () => void): void => {
          settled = true;
          next = inputs;
          forget();
          finish();
        };
        if (inputs === 0) return resolve(results);
        const job = (input: number): WriteJob => ({
          request,
          input,
          rows: request.promptsOf(input).length,
          signal,
          isSettled: () => settled,
          run: (batch, signal) => writeBatch(context, batch as readonly WriteJob[], signal, maxBatch),
          settle(result) {
            if (settled) return;
            if (result instanceof Error && (onError === 'throw' || signal.aborted))
              return end(() => reject(signal.aborted ? signal.reason : result));
            results[input] = result;
            if (--left === 0) end(() => resolve(results));
          },
        });
        const forget = onAbort(
          signal,
          () => settled,
          () => end(() => reject(signal.reason)),
        );
        if (isRunning) request.loadAhead?.(0, batchSize);
        enqueue({
          key: keyOf([generation, trace, batchSize]),
          size: batchSize,
          signal,
          isEmpty: () => next >= inputs,
          take(capacity) {
            const taken: WriteJob[] = [];
            for (let rows = 0; next < inputs; next++) {
              rows += request.promptsOf(next).length;
              if (rows > capacity && !(taken.length === 0 && capacity === batchSize)) break; // more prompts than a batch: decoded in parts
              taken.push(job(next));
            }
            request.loadAhead?.(next, batchSize);
            return taken;
          },
        });
      });
    },
    run(signal, body) {
      return new Promise((resolve, reject) => {
        let isTaken = false;
        let settled = false;
        const end = (finish: () => void): void => {
          settled = true;
          forget();
          finish();
        };
        const job: Job = {
          rows: 1,
          signal,
          isSettled: () => settled,
          run: () =>
            body().then(
              (value) => end(() => resolve(value)),
              (error: unknown) => end(() => reject(error)),
            ),
        };
        const forget = onAbort(
          signal,
          () => settled || isTaken,
          () => end(() => reject(signal.reason)),
        );
        enqueue({
          key: undefined,
          size: 1,
          signal,
          isEmpty: () => isTaken,
          take() {
            isTaken = true;
            return [job];
          },
        });
      });
    },
  };
}

/** What is computed now, by the signals of its calls. */
const running = new WeakMap<AbortSignal, readonly Job[]>();

/**
 * A call that is aborted ends at once, unless it is the last of the batch that is computed for it: then when that has stopped and
 * left nothing behind.
 *
 * @returns what makes it forget the call.
 */
function onAbort(signal: AbortSignal, isSettled: () => boolean, end: () => void): () => void {
  const abort = (): void => {
    const others = running.get(signal)?.filter((job) => job.signal !== signal && !job.isSettled());
    if (!isSettled() && others?.length !== 0) end();
  };
  if (signal.aborted) queueMicrotask(abort);
  else signal.addEventListener('abort', abort);
  return () => signal.removeEventListener('abort', abort);
}

async function runBatch(batch: readonly Job[]): Promise<void> {
  const controller = new AbortController();
  const stopIfAlone = (): void => {
    const live = batch.find((job) => !job.isSettled() && !job.signal.aborted);
    const [first] = batch;
    if (live === undefined) controller.abort(first!.signal.reason);
  };
  for (const job of batch) {
    running.set(job.signal, batch);
    job.signal.addEventListener('abort', stopIfAlone);
  }
  stopIfAlone();
  try {
    await batch[0]!.run(batch, controller.signal);
  } finally {
    for (const job of batch) {
      running.delete(job.signal);
      job.signal.removeEventListener('abort', stopIfAlone);
    }
  }
}

/** Opens, encodes and decodes a batch; an input that fails fails alone. */
async function writeBatch(
  context: TextContext,
  batch: readonly WriteJob[],
  signal: AbortSignal,
  maxBatch: number,
): Promise<void> {
  const loaded: { readonly job: WriteJob; readonly input: ModelInput }[] = [];
  for (const job of batch) {
    if (job.isSettled()) continue;
    try {
      loaded.push({ job, input: await job.request.load(job.input, job.signal) });
    } catch (error) {
      job.settle(asError(error));
    }
  }
  await write(context, loaded, signal, maxBatch);
}

async function write(
  context: TextContext,
  loaded: readonly { readonly job: WriteJob; readonly input: ModelInput }[],
  signal: AbortSignal,
  maxBatch: number,
): Promise<void> {
  const live = loaded.filter(({ job }) => !job.isSettled());
  const [first] = live;
  if (first === undefined) return;
  const { generation, trace, batchSize = maxBatch } = first.job.request;
  try {
    signal.throwIfAborted();
    const tasks = live.map(({ job, input }) => ({ ...input, prompts: job.request.promptsOf(job.input) }));
    const written = await writeSequences(context, tasks, generation, { batchSize, trace, signal });
    for (const [n, { job }] of live.entries()) job.settle(written[n]!);
  } catch (error) {
    if (live.length === 1 || signal.aborted) for (const { job } of live) job.settle(asError(error));
    else for (const one of live) await write(context, [one], signal, maxBatch);
  }
}

const asError = (error: unknown): Error =>
  error instanceof Error ? error : new Error(String(error), { cause: error });

/** The same for options that say the same; functions and other objects with an identity of their own are told apart by it. */
function keyOf(options: readonly unknown[]): string {
  return JSON.stringify(options, (_, value: unknown) => {
    if (typeof value === 'function') return `function ${identity(value)}`;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    if (Object.getPrototypeOf(value) !== Object.prototype) return `object ${identity(value)}`;
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, each]) => each !== undefined)
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  });
}

const identities = new WeakMap<object, number>();
let known = 0;
function identity(value: object): number {
  if (!identities.has(value)) identities.set(value, ++known);
  return identities.get(value)!;
}
