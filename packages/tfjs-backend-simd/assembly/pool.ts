// Chunks of a job, shared between the calling thread and its workers.
//
// The caller publishes a job (`OPEN`), wakes the workers by a new `EPOCH`, takes chunks like everyone else, closes the job and
// settles with each worker. A worker that starts late finds the job closed. One that holds a chunk is waited for while its heartbeat
// goes on; one that the system does not run loses its chunk to the caller (thread.ts) and finds out when it runs again. What
// a chunk computes does not depend on who computes it, so results do not depend on the number of threads.

import { CONTROL, Job, PARAMETER_BYTES, PARAMETERS, WAITING, WAITING_BYTES } from './abi';
import { attentionJob } from './attention';
import {
  activationGradientJob, attentionGradientJob, biasGradientJob, crossEntropyJob, embeddingGradientJob, inputGradientJob,
  layerNormGradientJob, packPanelsJob, weightGradientJob,
} from './backward';
import { adamWJob, appendColumnsJob, copyJob, mapJob, squaresJob, zipJob } from './elementwise';
import { roundTilesJob } from './int8';
import { roundBytesJob } from './int8-fast';
import { linearJob, packTilesJob } from './linear';
import { layerNormJob, logSumJob, reduceJob, softmaxJob, topTokensJob } from './rows';
import { becomeWorker, heartbeatOf, IDLE, JOINING, keepResults, parametersOf, publish, readParametersAt, RECLAIMED, stateOf, WORKING } from './thread';

// One cache line each.
const EPOCH: usize = <usize>CONTROL;
const OPEN: usize = <usize>CONTROL + 64;
/** The next chunk in its lower half, the epoch in its upper one: a worker that comes back late cannot take from a later job. */
const NEXT: usize = <usize>CONTROL + 128;
const SLEEPING: usize = <usize>CONTROL + 192;
/** The largest number of a worker that may help; the others sleep on it. Negative: no worker is wanted any more. */
const LIMIT: usize = <usize>CONTROL + 256;
/** Job and chunks. */
const CURRENT: usize = <usize>CONTROL + 320;
/** Set while the caller sleeps until a worker has put its chunk in place. */
const CALLER_SLEEPS: usize = <usize>CONTROL + 384;

/** Nanoseconds of one sleep of the caller, and how many before a worker counts as dead: ten seconds. */
const WAIT_NANOSECONDS: i64 = 1_000_000;
const MAX_WAITS: i32 = 10_000;

/** Jobs with chunks so long that a worker does not write into the result before the end (thread.ts). */
function keepsResultsOf(job: i32): bool {
  return job == Job.linear || job == Job.attention || job == Job.weightGradient || job == Job.inputGradient || job == Job.attentionGradient
    || job == Job.adamW;
}

function execute(job: i32, chunk: i32, thread: i32): void {
  switch (job) {
    case Job.map: mapJob(chunk); break;
    case Job.zip: zipJob(chunk); break;
    case Job.reduce: reduceJob(chunk); break;
    case Job.softmax: softmaxJob(chunk); break;
    case Job.layerNorm: layerNormJob(chunk, thread); break;
    case Job.copy: copyJob(chunk); break;
    case Job.packTiles: packTilesJob(chunk); break;
    case Job.linear: linearJob(chunk, thread); break;
    case Job.roundTiles: roundTilesJob(chunk, thread); break;
    case Job.roundBytes: roundBytesJob(chunk, thread); break;
    case Job.attention: attentionJob(chunk, thread); break;
    case Job.packPanels: packPanelsJob(chunk); break;
    case Job.weightGradient: weightGradientJob(chunk, thread); break;
    case Job.inputGradient: inputGradientJob(chunk, thread); break;
    case Job.biasGradient: biasGradientJob(chunk); break;
    case Job.layerNormGradient: layerNormGradientJob(chunk); break;
    case Job.activationGradient: activationGradientJob(chunk); break;
    case Job.adamW: adamWJob(chunk, thread); break;
    case Job.squares: squaresJob(chunk); break;
    case Job.attentionGradient: attentionGradientJob(chunk, thread); break;
    case Job.crossEntropy: crossEntropyJob(chunk); break;
    case Job.embeddingGradient: embeddingGradientJob(chunk); break;
    case Job.logSum: logSumJob(chunk); break;
    case Job.topTokens: topTokensJob(chunk); break;
    case Job.appendColumns: appendColumnsJob(); break;
  }
}

/** Runs all chunks of a job in this thread. */
export function runAlone(job: i32, chunks: i32): void {
  readParametersAt(<usize>PARAMETERS);
  for (let chunk = 0; chunk < chunks; chunk++) execute(job, chunk, 0);
}

/** Runs the first `count` jobs that wait, one after the other, in this thread. */
export function runWaiting(count: i32): void {
  let at = <usize>WAITING;
  for (let i = 0; i < count; i++, at += <usize>WAITING_BYTES) {
    readParametersAt(at + 64);
    for (let chunk = 0; chunk < load<i32>(at, 4); chunk++) execute(load<i32>(at), chunk, 0);
  }
}

/** Offers a job to the workers, and helps until no chunk is left; `join` must follow. Returns the chunks done here. */
export function share(job: i32, chunks: i32): i32 {
  readParametersAt(<usize>PARAMETERS);
  store<i32>(CURRENT, job);
  store<i32>(CURRENT, chunks, 4);
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
 * Finishes a shared job: on return all of it is done. A worker that gives no sign of life for `patience` looks loses its chunk.
 * `mayWait` is false where a thread must not sleep (a page's own). Returns how many workers are still at work in vain: until
 * `busy` says that there is none, the memory they use must not be used for anything else.
 */
export function join(patience: i32, mayWait: i32): i32 {
  const limit = load<i32>(LIMIT);
  let late = 0;
  for (let thread = 1; thread <= limit; thread++) late += settle(thread, patience, mayWait);
  return late;
}

/** How many of the first `workers` workers have lost their chunk and have not noticed yet. */
export function busy(workers: i32): i32 {
  let late = 0;
  for (let thread = 1; thread <= workers; thread++) late += i32(atomic.load<i32>(stateOf(thread)) == RECLAIMED);
  return late;
}

function settle(thread: i32, patience: i32, mayWait: i32): i32 {
  const state = stateOf(thread), heart = heartbeatOf(thread);
  let left = patience, last = atomic.load<i32>(heart), waits = 0;
  while (true) {
    const now = atomic.load<i32>(state), beat = atomic.load<i32>(heart);
    if (now == IDLE) return 0;
    if (now == RECLAIMED) return 1;
    if (beat != last) {
      last = beat;
      left = patience;
    }
    if (--left > 0) continue;
    if (now < 0 && mayWait && waits++ < MAX_WAITS) wait(state, now);
    else if ((now > 0 || waits > MAX_WAITS) && reclaim(state, now)) return 1;
  }
}

/** Leaves the core to others, perhaps to the worker that is putting its chunk in place. */
function wait(state: usize, now: i32): void {
  atomic.store<i32>(CALLER_SLEEPS, 1);
  atomic.wait<i32>(state, now, WAIT_NANOSECONDS);
  atomic.store<i32>(CALLER_SLEEPS, 0);
}

function reclaim(state: usize, now: i32): bool {
  if (atomic.cmpxchg<i32>(state, now, RECLAIMED) != now) return false;
  const chunk = abs(now) - WORKING;
  if (chunk < 0) return true; // it was about to join
  keepResults(true);
  execute(load<i32>(CURRENT), chunk, 0);
  keepResults(false);
  return true;
}

/** A worker's life: look for a new job `spins` times, then sleep until one is there, until it is dismissed. `thread` is 1 for the first worker. */
export function serve(thread: i32, spins: i32): void {
  becomeWorker(thread);
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
    else work(thread);
  }
}

/** Workers from `limit` + 1 on rest until the limit is raised; below zero all of them go, and those that begin later at once. */
export function setLimit(limit: i32): void {
  atomic.store<i32>(LIMIT, limit);
  atomic.notify(LIMIT, -1);
  atomic.add<i32>(EPOCH, 1);
  atomic.notify(EPOCH, -1);
}

function work(thread: i32): void {
  const state = stateOf(thread);
  atomic.store<i32>(state, JOINING);
  if (atomic.load<i32>(OPEN)) {
    memory.copy(parametersOf(thread), <usize>PARAMETERS, PARAMETER_BYTES);
    takeChunks(thread, state, load<i32>(CURRENT), load<i32>(CURRENT, 4));
  }
  atomic.store<i32>(state, IDLE);
  if (atomic.load<i32>(CALLER_SLEEPS)) atomic.notify(state, 1);
}

/** Takes chunks until there are none, or until the caller has taken one back. Each is announced before it is claimed. */
function takeChunks(thread: i32, state: usize, job: i32, chunks: i32): void {
  let held = JOINING;
  while (true) {
    const next = atomic.load<i64>(NEXT), chunk = <i32>next;
    if (chunk >= chunks || atomic.cmpxchg<i32>(state, held, WORKING + chunk) != held) return;
    held = WORKING + chunk;
    if (atomic.cmpxchg<i64>(NEXT, next, next + 1) != next) continue;
    if (!keepsResultsOf(job) && !publish()) return;
    execute(job, chunk, thread);
    held = -held;
    if (atomic.load<i32>(state) != held) return;
  }
}
