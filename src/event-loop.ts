/**
 * What `promise` resolves to, unless `signal` fires first: for code of a caller that may never settle.
 *
 * @throws the signal's reason; what `promise` rejects with.
 */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
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
