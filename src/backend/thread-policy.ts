/**
 * Whether helpers pay. On a busy machine a helper that the system has put aside with a chunk in its hands makes everyone wait;
 * then it is better to work alone for a while. Results do not depend on it, only time does.
 */
export interface ThreadPolicy {
  /** May the next job be shared, at this time (milliseconds)? */
  allowed(now: number): boolean;
  /** Tells how a shared job went: it took `took` milliseconds, and the caller alone would have needed `alone`. */
  record(now: number, took: number, alone: number): void;
}

/** Shared work that is looked at together, in milliseconds of the caller alone. */
const WINDOW = 20;
/** Working alone, after a window that did not pay: from so many milliseconds, doubled each time in a row, up to so many. */
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 1600;
/** A window pays when it took at most this part of the time alone. */
const WORTH = 0.97;

export function createThreadPolicy(): ThreadPolicy {
  let [took, alone] = [0, 0];
  let pause = FIRST_PAUSE;
  let resume = Number.NEGATIVE_INFINITY;
  return {
    allowed: (now) => now >= resume,
    record(now, jobTook, jobAlone) {
      took += jobTook;
      alone += jobAlone;
      if (alone < WINDOW && took < WINDOW) return;
      if (took <= alone * WORTH) pause = FIRST_PAUSE;
      else {
        resume = now + pause;
        pause = Math.min(2 * pause, LONGEST_PAUSE);
      }
      [took, alone] = [0, 0];
    },
  };
}
