// What a thread knows of itself while it works at a chunk. Each thread has its own instance of the kernels, and so its own globals.
//
// A helper works apart: it keeps what it computes to itself and puts it into the result at the end, if it may. So the caller can
// take a chunk back from a helper that the system has put aside, at any time before that, and nobody waits for it.

import { CONTROL, HELPER_BYTES, HELPERS } from './memory-map';

/** States of a helper; `WORKING` + chunk and -(`WORKING` + chunk) are the others: computing a chunk, and putting it in place. */
export const IDLE: i32 = 0;
export const JOINING: i32 = 1;
/** The caller does not count on it any more. */
export const TAKEN: i32 = 2;
export const WORKING: i32 = 4;

/** A word that nobody reads: the caller's own pulse. */
const NOWHERE: usize = CONTROL + 512;

let state: usize = 0;
let pulse: usize = NOWHERE;
let apart: bool = false;

@inline export function stateOf(thread: i32): usize {
  return HELPERS + <usize>(thread - 1) * HELPER_BYTES;
}

@inline export function pulseOf(thread: i32): usize {
  return stateOf(thread) + 64;
}

@inline export function parametersOf(thread: i32): usize {
  return stateOf(thread) + 128;
}

/** From here on this instance is helper number `thread`. */
export function becomeHelper(thread: i32): void {
  state = stateOf(thread);
  pulse = pulseOf(thread);
  apart = true;
}

/** The caller, redoing a chunk that a helper may still be at, must keep its half-finished sums to itself as well. */
export function workApart(value: bool): void {
  apart = value;
}

/** Does this thread keep its results to itself until `commit`? */
export function worksApart(): bool {
  return apart;
}

/** A sign of life, some every 20 microseconds in long chunks: whoever gives none for a while is not running. */
@inline export function beat(): void {
  store<i32>(pulse, load<i32>(pulse) + 1);
}

/** May this thread put its chunk into the result? False when the caller has taken it back: then its work is void. */
export function commit(): bool {
  if (!state) return true;
  const now = atomic.load<i32>(state);
  return now < 0 || (now >= WORKING && atomic.cmpxchg<i32>(state, now, -now) == now);
}
