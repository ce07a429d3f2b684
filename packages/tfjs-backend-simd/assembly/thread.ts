// What a thread knows of itself: the parameters of the job at hand, and its state among the others. Each thread has its own instance of
// the kernels, and so its own globals.
//
// A worker computes into memory of its own, and copies that into the result at the end, if it may (`publish`). So the caller can reclaim a
// chunk from a worker that the system does not run, at any time before that, and nobody waits for it.

import { CONTROL, PARAMETERS, WORKER_BYTES, WORKERS } from './abi';

/** Workers read a copy: the caller may be at its next job before they notice that theirs is over. */
let parameters: usize = <usize>PARAMETERS;
export function readParametersAt(at: usize): void {
  parameters = at;
}

/** Integer or address parameter `i` of the current job. */
@inline export function param(i: i32): usize {
  return load<usize>(parameters + (<usize>i << 2));
}

/** Signed parameter `i`. */
@inline export function paramInt(i: i32): i32 {
  return load<i32>(parameters + (<usize>i << 2));
}

/** Float parameter `i`. */
@inline export function paramFloat(i: i32): f32 {
  return load<f32>(parameters + (<usize>i << 2));
}

/** Float parameter `i` in all four lanes. */
@inline export function paramLanes(i: i32): v128 {
  return v128.load_splat<f32>(parameters + (<usize>i << 2));
}

/** States of a worker; `WORKING` + chunk and -(`WORKING` + chunk) are the others: computing a chunk, and putting it in place. */
export const IDLE: i32 = 0;
export const JOINING: i32 = 1;
/** The caller has reclaimed its chunk. */
export const RECLAIMED: i32 = 2;
export const WORKING: i32 = 4;

/** A word that nobody reads: the caller's own heartbeat. */
const UNREAD: usize = <usize>CONTROL + 512;

let state: usize = 0;
let heartbeatAt: usize = UNREAD;
let keeping: bool = false;

@inline export function stateOf(thread: i32): usize {
  return <usize>WORKERS + <usize>(thread - 1) * <usize>WORKER_BYTES;
}

@inline export function heartbeatOf(thread: i32): usize {
  return stateOf(thread) + 64;
}

@inline export function parametersOf(thread: i32): usize {
  return stateOf(thread) + 128;
}

/** From here on this instance is worker number `thread`. */
export function becomeWorker(thread: i32): void {
  state = stateOf(thread);
  heartbeatAt = heartbeatOf(thread);
  keeping = true;
}

/** The caller, redoing a chunk that a worker may still be at, must keep its half-finished sums to itself as well. */
export function keepResults(value: bool): void {
  keeping = value;
}

/** Does this thread keep its results to itself until `publish`? */
export function keepsResults(): bool {
  return keeping;
}

/** A sign of life, some every 20 microseconds in long chunks: whoever gives none for a while is not running. */
@inline export function heartbeat(): void {
  store<i32>(heartbeatAt, load<i32>(heartbeatAt) + 1);
}

/** May this thread put its chunk into the result? False when the caller has taken it back: then its work is void. */
export function publish(): bool {
  if (!state) return true;
  const now = atomic.load<i32>(state);
  return now < 0 || (now >= WORKING && atomic.cmpxchg<i32>(state, now, -now) == now);
}
