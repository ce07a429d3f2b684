// Chunks of a job, shared between the calling thread and the workers.
//
// The caller publishes a job (`OPEN`), wakes the workers by a new `EPOCH`, takes chunks like everyone else, closes the job and
// waits until no worker is `ACTIVE`. A worker that starts late or was put aside by the system finds the job closed and goes back
// to sleep: nobody waits for it. What a chunk computes does not depend on who takes it, so results do not depend on the number of
// threads.

import { execute } from './jobs';
import { CONTROL } from './memory-map';

// One cache line each.
const EPOCH: usize = CONTROL;
const OPEN: usize = CONTROL + 64;
const NEXT: usize = CONTROL + 128;
const ACTIVE: usize = CONTROL + 192;
const SLEEPING: usize = CONTROL + 256;
/** Job, chunks, and the largest number of a worker that may help. */
const JOB: usize = CONTROL + 320;
/** Not zero once no worker is wanted any more. */
const DISMISSED: usize = CONTROL + 384;

/** Takes chunks until there are none; returns how many. */
function takeChunks(thread: i32): i32 {
  const job = load<i32>(JOB), chunks = load<i32>(JOB, 4);
  let taken = 0;
  for (let chunk = atomic.add<i32>(NEXT, 1); chunk < chunks; chunk = atomic.add<i32>(NEXT, 1), taken++) {
    execute(job, chunk, thread);
  }
  return taken;
}

/** Runs all chunks of a job in this thread. */
export function runAlone(job: i32, chunks: i32): void {
  for (let chunk = 0; chunk < chunks; chunk++) execute(job, chunk, 0);
}

/** Offers a job to up to `helpers` workers, and helps until no chunk is left; `join` must follow. Returns the chunks done here. */
export function share(job: i32, chunks: i32, helpers: i32): i32 {
  store<i32>(JOB, job);
  store<i32>(JOB, chunks, 4);
  store<i32>(JOB, helpers, 8);
  atomic.store<i32>(NEXT, 0);
  atomic.store<i32>(OPEN, 1);
  atomic.add<i32>(EPOCH, 1);
  if (atomic.load<i32>(SLEEPING) > 0) atomic.notify(EPOCH, helpers);
  const taken = takeChunks(0);
  atomic.store<i32>(OPEN, 0);
  return taken;
}

/** Waits for the workers that are still at a chunk. */
export function join(): void {
  while (atomic.load<i32>(ACTIVE) > 0) {}
}

/** Lets all workers return from `serve`, and those that begin later return at once. */
export function dismiss(): void {
  atomic.store<i32>(DISMISSED, 1);
  atomic.add<i32>(EPOCH, 1);
  atomic.notify(EPOCH, -1);
}

/** A worker's life: look for a new job `spins` times, then sleep until one is there. `thread` is 1 for the first worker. */
export function serve(thread: i32, spins: i32): void {
  let seen = atomic.load<i32>(EPOCH);
  while (!atomic.load<i32>(DISMISSED)) {
    let left = spins;
    while (atomic.load<i32>(EPOCH) == seen) {
      if (--left > 0) continue;
      atomic.add<i32>(SLEEPING, 1);
      atomic.wait<i32>(EPOCH, seen, -1);
      atomic.sub<i32>(SLEEPING, 1);
      left = spins;
    }
    seen = atomic.load<i32>(EPOCH);
    atomic.add<i32>(ACTIVE, 1);
    if (atomic.load<i32>(OPEN) && thread <= load<i32>(JOB, 8)) takeChunks(thread);
    atomic.sub<i32>(ACTIVE, 1);
  }
}
