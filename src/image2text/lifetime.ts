import { DisposedError } from '../errors.js';

/** Lets calls in flight end before what they use is freed. */
export interface Lifetime {
  /**
   * Runs `body` with a signal that fires when the caller's does, or when the model is disposed.
   *
   * @throws DisposedError after `end()`; whatever `body` throws.
   */
  during<T>(signal: AbortSignal | undefined, body: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Refuses new calls, stops those in flight at their next step, then frees. Harmless when called again. */
  end(): void;
  readonly ended: boolean;
}

/** A lifetime whose `free` is called once, when it has ended and no call is left. */
export function startLifetime(free: () => void): Lifetime {
  const ending = new AbortController();
  let calls = 0;
  let freed = false;
  const freeWhenIdle = (): void => {
    if (freed || calls > 0 || !ending.signal.aborted) return;
    freed = true;
    free();
  };
  return {
    get ended() {
      return ending.signal.aborted;
    },
    async during(signal, body) {
      if (ending.signal.aborted) throw ending.signal.reason;
      signal?.throwIfAborted();
      calls++;
      try {
        return await body(signal === undefined ? ending.signal : AbortSignal.any([signal, ending.signal]));
      } finally {
        calls--;
        freeWhenIdle();
      }
    },
    end() {
      if (!ending.signal.aborted)
        ending.abort(new DisposedError({ rule: 'model-disposed', detail: 'this model was disposed' }));
      freeWhenIdle();
    },
  };
}
