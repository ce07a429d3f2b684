// Chunks of a job, shared between the calling thread and its helpers.
//
// The caller publishes a job (`OPEN`), wakes the helpers by a new `EPOCH`, takes chunks like everyone else, closes the job and
// settles with each helper. A helper that starts late finds the job closed. One that holds a chunk is waited for while it gives
// signs of life; one that the system has put aside loses its chunk to the caller (helper.ts) and finds out when it comes back. What
// a chunk computes does not depend on who computes it, so results do not depend on the number of threads.

import { becomeHelper, commit, IDLE, JOINING, parametersOf, pulseOf, stateOf, TAKEN, workApart, WORKING } from './helper';
import { execute, takesApart } from './jobs';
import { CONTROL, PARAMETER_BYTES, PARAMETERS, readParametersAt } from './memory-map';

// One cache line each.
const EPOCH: usize = CONTROL;
const OPEN: usize = CONTROL + 64;
/** The next chunk in its lower half, the epoch in its upper one: a helper that comes back late cannot take from a later job. */
const NEXT: usize = CONTROL + 128;
const SLEEPING: usize = CONTROL + 192;
/** The largest number of a helper that may help; the others sleep on it. Negative: no helper is wanted any more. */
const LIMIT: usize = CONTROL + 256;
/** Job and chunks. */
const JOB: usize = CONTROL + 320;
/** Set while the caller sleeps until a helper has put its chunk in place. */
const CALLER_SLEEPS: usize = CONTROL + 384;

/** Nanoseconds of one sleep of the caller, and how many before a helper counts as dead: ten seconds. */
const NAP: i64 = 1_000_000;
const NAPS: i32 = 10_000;

/** Runs all chunks of a job in this thread. */
export function runAlone(job: i32, chunks: i32): void {
  for (let chunk = 0; chunk < chunks; chunk++) execute(job, chunk, 0);
}

/** Offers a job to the helpers, and helps until no chunk is left; `join` must follow. Returns the chunks done here. */
export function share(job: i32, chunks: i32): i32 {
  store<i32>(JOB, job);
  store<i32>(JOB, chunks, 4);
  const epoch = atomic.load<i32>(EPOCH) + 1;
  atomic.store<i64>(NEXT, <i64>epoch << 32);
  atomic.store<i32>(OPEN, 1);
  atomic.store<i32>(EPOCH, epoch);
  if (atomic.load<i32>(SLEEPING) > 0) atomic.notify(EPOCH, load<i32>(LIMIT));
  let taken = 0;
  for (let chunk = takeNext(); chunk < chunks; chunk = takeNext(), taken++) execute(job, chunk, 0);
  atomic.store<i32>(OPEN, 0);
  return taken;
}

@inline function takeNext(): i32 {
  return <i32>atomic.add<i64>(NEXT, 1);
}

/**
 * Finishes a shared job: on return all of it is done. A helper that gives no sign of life for `patience` looks loses its chunk.
 * `mayNap` is false where a thread must not sleep (a page's own). Returns how many helpers are still at work in vain: until
 * `busy` says that there is none, the memory they use must not be used for anything else.
 */
export function join(patience: i32, mayNap: i32): i32 {
  const limit = load<i32>(LIMIT);
  let late = 0;
  for (let thread = 1; thread <= limit; thread++) late += settle(thread, patience, mayNap);
  return late;
}

/** How many of the first `helpers` helpers have lost their chunk and have not noticed yet. */
export function busy(helpers: i32): i32 {
  let late = 0;
  for (let thread = 1; thread <= helpers; thread++) late += i32(atomic.load<i32>(stateOf(thread)) == TAKEN);
  return late;
}

function settle(thread: i32, patience: i32, mayNap: i32): i32 {
  const state = stateOf(thread), pulse = pulseOf(thread);
  let left = patience, last = atomic.load<i32>(pulse), naps = 0;
  while (true) {
    const now = atomic.load<i32>(state), beat = atomic.load<i32>(pulse);
    if (now == IDLE) return 0;
    if (now == TAKEN) return 1;
    if (beat != last) {
      last = beat;
      left = patience;
    }
    if (--left > 0) continue;
    if (now < 0 && mayNap && naps++ < NAPS) nap(state, now);
    else if ((now > 0 || naps > NAPS) && takeBack(state, now)) return 1;
  }
}

/** Leaves the core to others, perhaps to the helper that is putting its chunk in place. */
function nap(state: usize, now: i32): void {
  atomic.store<i32>(CALLER_SLEEPS, 1);
  atomic.wait<i32>(state, now, NAP);
  atomic.store<i32>(CALLER_SLEEPS, 0);
}

function takeBack(state: usize, now: i32): bool {
  if (atomic.cmpxchg<i32>(state, now, TAKEN) != now) return false;
  const chunk = abs(now) - WORKING;
  if (chunk < 0) return true; // it was about to join
  workApart(true);
  execute(load<i32>(JOB), chunk, 0);
  workApart(false);
  return true;
}

/** A helper's life: look for a new job `spins` times, then sleep until one is there, until it is dismissed. `thread` is 1 for the first helper. */
export function serve(thread: i32, spins: i32): void {
  becomeHelper(thread);
  readParametersAt(parametersOf(thread));
  atomic.store<i32>(stateOf(thread), IDLE);
  let seen = atomic.load<i32>(EPOCH) - 1;
  while (atomic.load<i32>(LIMIT) >= 0) {
    let left = spins;
    while (atomic.load<i32>(EPOCH) == seen) {
      if (--left > 0) continue;
      atomic.add<i32>(SLEEPING, 1);
      atomic.wait<i32>(EPOCH, seen, -1);
      atomic.sub<i32>(SLEEPING, 1);
      left = spins;
    }
    seen = atomic.load<i32>(EPOCH);
    const limit = atomic.load<i32>(LIMIT);
    if (limit < 0) return;
    if (thread > limit) atomic.wait<i32>(LIMIT, limit, -1);
    else help(thread);
  }
}

/** Helpers from `limit` + 1 on rest until the limit is raised; below zero all of them go, and those that begin later at once. */
export function setLimit(limit: i32): void {
  atomic.store<i32>(LIMIT, limit);
  atomic.notify(LIMIT, -1);
  atomic.add<i32>(EPOCH, 1);
  atomic.notify(EPOCH, -1);
}

function help(thread: i32): void {
  const state = stateOf(thread);
  atomic.store<i32>(state, JOINING);
  if (atomic.load<i32>(OPEN)) {
    memory.copy(parametersOf(thread), PARAMETERS, PARAMETER_BYTES);
    work(thread, state, load<i32>(JOB), load<i32>(JOB, 4));
  }
  atomic.store<i32>(state, IDLE);
  if (atomic.load<i32>(CALLER_SLEEPS)) atomic.notify(state, 1);
}

/** Takes chunks until there are none, or until the caller has taken one back. Each is announced before it is claimed. */
function work(thread: i32, state: usize, job: i32, chunks: i32): void {
  let held = JOINING;
  while (true) {
    const next = atomic.load<i64>(NEXT), chunk = <i32>next;
    if (chunk >= chunks || atomic.cmpxchg<i32>(state, held, WORKING + chunk) != held) return;
    held = WORKING + chunk;
    if (atomic.cmpxchg<i64>(NEXT, next, next + 1) != next) continue;
    if (!takesApart(job) && !commit()) return;
    execute(job, chunk, thread);
    held = -held;
    if (atomic.load<i32>(state) != held) return;
  }
}
