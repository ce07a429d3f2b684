/** Work is done in slices of about this many milliseconds, between which other tasks run and an abort is noticed. */
const SLICE_MS = 25;

/**
 * Runs a decoder that yields now and then, giving the event loop a turn after every slice. A small image is done in the first one.
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
