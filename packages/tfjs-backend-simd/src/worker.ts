/**
 * A worker of the simd backend as a file of the application's own, for pages whose Content-Security-Policy forbids workers
 * from `blob:`. In Node and in other pages nobody needs it.
 *
 * @module
 */

import type { WorkerData } from './platform.js';

/**
 * Makes the web worker that calls it a thread of the simd backend that made the worker (option `worker` of `registerSimdBackend`). It
 * is all that the worker's script has to do; the worker ends with the backend.
 */
export function serveKernels(): void {
  const serve = ({ data: { module, memory, thread, spins } }: MessageEvent<WorkerData>) => {
    postMessage(0); // it has come up
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    (exports as { serve(thread: number, spins: number): void }).serve(thread, spins);
    close();
  };
  addEventListener('message', serve, { once: true });
}
