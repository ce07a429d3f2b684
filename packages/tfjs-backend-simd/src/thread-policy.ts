/**
 * Whether helpers pay. On a busy machine they may take more than they give: from memory, from caches, and from the core that the
 * caller runs on. So now and then a job is done alone, to know what that takes at present, and where sharing does not beat it the
 * caller works alone for a while. Results do not depend on it, only time does.
 */
export interface ThreadPolicy {
  /** Shall the next job of this kind be shared, at this time (milliseconds)? */
  allowed(now: number, kind: number): boolean;
  /** Tells what a job took alone. */
  alone(kind: number, took: number): void;
  /** Tells what a shared job took; `guess` is what it would have taken alone, by the speed of the caller. */
  shared(now: number, kind: number, took: number, guess: number): void;
}

/** Shared work that is looked at together, in milliseconds. */
const WINDOW = 20;
/** Working alone, after a window that did not pay: from so many milliseconds, doubled each time in a row, up to so many. */
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 800;
/** A window pays when it took at most this part of the time alone. */
const WORTH = 0.97;
/** One job in so many of its kind is done alone, to see what it takes: costs a hundredth. */
const SAMPLE = 96;
/** What a new measurement counts for, beside those before it. */
const NEWS = 0.3;
/** Kinds remembered; a program that has more begins anew. */
const MOST_KINDS = 1000;

interface Kind {
  /** Milliseconds that it takes alone, lately. */
  time: number;
  sharedSince: number;
}

export function createThreadPolicy(): ThreadPolicy {
  const kinds = new Map<number, Kind>();
  let [took, alone] = [0, 0];
  let pause = FIRST_PAUSE;
  let resume = Number.NEGATIVE_INFINITY;

  function look(now: number): void {
    if (took <= alone * WORTH) pause = FIRST_PAUSE;
    else {
      resume = now + pause;
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
    [took, alone] = [0, 0];
  }

  return {
    allowed: (now, kind) => now >= resume && (kinds.get(kind)?.sharedSince ?? 0) < SAMPLE,
    alone(kind, time) {
      const known = kinds.get(kind);
      if (known === undefined || known.time === 0) {
        if (kinds.size >= MOST_KINDS) kinds.clear();
        kinds.set(kind, { time, sharedSince: 0 });
        return;
      }
      known.time += NEWS * (time - known.time);
      known.sharedSince = 0;
    },
    shared(now, kind, time, guess) {
      const known = kinds.get(kind);
      if (known === undefined) kinds.set(kind, { time: 0, sharedSince: 1 });
      else known.sharedSince++;
      took += time;
      alone += known === undefined || known.time === 0 ? guess : known.time;
      if (took >= WINDOW || alone >= WINDOW) look(now);
    },
  };
}
