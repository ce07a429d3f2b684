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
