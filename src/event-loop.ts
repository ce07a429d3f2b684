/** Who waits for each signal: one listener for all of them, since many tensors are read at once and Node warns from eleven on. */
const waiting = new WeakMap<AbortSignal, { readonly rejects: Set<(reason: unknown) => void>; stop(): void }>();

function waitersOf(signal: AbortSignal): { readonly rejects: Set<(reason: unknown) => void>; stop(): void } {
  const found = waiting.get(signal);
  if (found !== undefined) return found;
  const rejects = new Set<(reason: unknown) => void>();
  const abort = (): void => {
    for (const reject of rejects) reject(signal.reason);
  };
  const stop = (): void => {
    signal.removeEventListener('abort', abort);
    waiting.delete(signal);
  };
  signal.addEventListener('abort', abort, { once: true });
  const made = { rejects, stop };
  waiting.set(signal, made);
  return made;
}

/**
 * What `promise` resolves to, unless `signal` fires first: for code of a caller that may never settle.
 *
 * @throws the signal's reason; what `promise` rejects with.
 */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    promise.then(resolve, reject);
    if (signal.aborted) return reject(signal.reason);
    const { rejects, stop } = waitersOf(signal);
    rejects.add(reject);
    const leave = (): void => {
      rejects.delete(reject);
      if (rejects.size === 0) stop();
    };
    promise.then(leave, leave);
  });
}

/**
 * Lets timers, input and aborts have their turn. Backends that compute at once (cpu, wasm, simd) answer `data()` as a microtask, so that a loop
 * of steps would otherwise never return to the event loop, and an abort from a timer or a click would come too late.
 */
export function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') {
      setImmediate(resolve);
      return;
    }
    const { port1, port2 } = new MessageChannel(); // setTimeout waits 4 ms once it is nested
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}

/** Work is done in slices of about this many milliseconds, between which other tasks run and an abort is noticed. */
const SLICE_MS = 25;

/**
 * Does work that yields now and then, giving the event loop a turn after every slice. What is small is done in the first one.
 * @throws the signal's reason once it is aborted.
 */
export async function runInSlices<T>(work: Generator<unknown, T>, signal: AbortSignal | undefined): Promise<T> {
  signal?.throwIfAborted();
  for (let until = performance.now() + SLICE_MS; ; ) {
    const step = work.next();
    if (step.done) return step.value;
    if (performance.now() < until) continue;
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    until = performance.now() + SLICE_MS;
  }
}

/** Does such work at once. */
export function finish<T>(work: Generator<unknown, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}
