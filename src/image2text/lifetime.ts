import { DisposedError, OptionError } from '../errors.js';

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
  const ending = new AbortController();
  let calls = 0;
  let freed = false;
  const freeWhenIdle = (): void => {
    if (freed || calls > 0 || !ending.signal.aborted) return;
    freed = true;
    free();
  };
  /** Counts a call in and gives the signal that it is to obey; `leave` counts it out. */
  const enter = (signal: AbortSignal | undefined): AbortSignal => {
    if (ending.signal.aborted) throw ending.signal.reason;
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new OptionError({ path: 'signal', code: 'wrong-type', detail: 'expected an AbortSignal' });
    }
    signal?.throwIfAborted();
    calls++;
    return signal === undefined ? ending.signal : AbortSignal.any([signal, ending.signal]);
  };
  const leave = (): void => {
    calls--;
    freeWhenIdle();
  };
  return {
    get ended() {
      return ending.signal.aborted;
    },
    async during(signal, body) {
      const obeyed = enter(signal);
      try {
        return await body(obeyed);
      } finally {
        leave();
      }
    },
    async *streaming(signal, body) {
      const obeyed = enter(signal);
      try {
        yield* body(obeyed);
      } finally {
        leave();
      }
    },
    end() {
      if (!ending.signal.aborted)
        ending.abort(new DisposedError({ code: 'model-disposed', detail: 'this model was disposed' }));
      freeWhenIdle();
    },
  };
}
