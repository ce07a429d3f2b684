/** The rules that shape the distribution for sampling, as Hugging Face transformers 4.40 has them (`generation/logits_process.py`). */
import type { LogitsProcessor } from './types.js';

const FORBIDDEN = Number.NEGATIVE_INFINITY;

/** What sampling adds behind the processors, in Hugging Face's order: temperature, top-k, top-p. */
export function warpersFor(settings: { temperature: number; topK: number; topP: number }): LogitsProcessor[] {
  const list: LogitsProcessor[] = [];
  if (settings.temperature !== 1) list.push(temperature(settings.temperature));
  if (settings.topK > 0) list.push(topK(settings.topK));
  if (settings.topP < 1) list.push(topP(settings.topP));
  return list;
}

/** Divides every score: below 1 sharper, above 1 flatter. */
export function temperature(value: number): LogitsProcessor {
  return (scores) => {
    for (let id = 0; id < scores.length; id++) scores[id] = scores[id]! / value;
  };
}

/** Keeps every score that is at least the k-th largest (ties at the edge all stay), and `minTokensToKeep` at least. */
export function topK(k: number, minTokensToKeep = 1): LogitsProcessor {
  let heap = new Float32Array(0);
  return (scores) => {
    const keep = Math.min(Math.max(k, minTokensToKeep), scores.length);
    if (heap.length !== keep) heap = new Float32Array(keep);
    const edge = kthLargest(scores, heap);
    for (let id = 0; id < scores.length; id++) if (scores[id]! < edge) scores[id] = FORBIDDEN;
  };
}

/**
 * Nucleus sampling (Holtzman 2019): keeps the most likely tokens until their probability reaches `p`; the one that crosses stays, and
 * `minTokensToKeep` at least. Among equal scores the lower id counts as more likely.
 */
export function topP(p: number, minTokensToKeep = 1): LogitsProcessor {
  let heap = new Uint32Array(0);
  return (scores) => {
    if (heap.length !== scores.length) heap = new Uint32Array(scores.length);
    const { max, total } = softmaxTotal(scores);
    // All tokens below this edge together hold less than 1 - p, so the nucleus is above it: few tokens are left to order.
    const edge = minTokensToKeep > 1 ? FORBIDDEN : max + Math.log(((1 - p) * total) / scores.length) - 1e-3;
    let size = 0;
    for (let id = 0; id < scores.length; id++) {
      if (scores[id]! > edge) heap[size++] = id;
      else scores[id] = FORBIDDEN;
    }
    for (let at = (size >> 1) - 1; at >= 0; at--) sinkMostLikely(heap, at, size, scores);
    let kept = 0;
    let mass = 0; // probability of the more likely tokens: only a part of the heap is ever sorted
    while (size > 0 && (kept < minTokensToKeep || mass < p * total)) {
      mass += Math.exp(scores[heap[0]!]! - max);
      kept++;
      heap[0] = heap[--size]!;
      sinkMostLikely(heap, 0, size, scores);
    }
    for (let at = 0; at < size; at++) scores[heap[at]!] = FORBIDDEN;
  };
}

function softmaxTotal(scores: Float32Array): { readonly max: number; readonly total: number } {
  let max = FORBIDDEN;
  for (let id = 0; id < scores.length; id++) if (scores[id]! > max) max = scores[id]!;
  let total = 0;
  for (let id = 0; id < scores.length; id++) if (scores[id]! !== FORBIDDEN) total += Math.exp(scores[id]! - max);
  return { max, total };
}

/** The heap.length-th largest score, by a heap of the largest seen so far with the smallest of them on top. */
function kthLargest(scores: Float32Array, heap: Float32Array): number {
  heap.set(scores.subarray(0, heap.length));
  for (let at = (heap.length >> 1) - 1; at >= 0; at--) sinkSmallest(heap, at);
  for (let id = heap.length; id < scores.length; id++) {
    if (scores[id]! > heap[0]!) {
      heap[0] = scores[id]!;
      sinkSmallest(heap, 0);
    }
  }
  return heap[0]!;
}

function sinkSmallest(heap: Float32Array, from: number): void {
  const value = heap[from]!;
  let at = from;
  for (let child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= value) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = value;
}

function sinkMostLikely(heap: Uint32Array, from: number, size: number, scores: Float32Array): void {
  if (from >= size) return;
  const id = heap[from]!;
  let at = from;
  for (let child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && likelier(heap[child + 1]!, heap[child]!, scores)) child++;
    if (!likelier(heap[child]!, id, scores)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = id;
}

/** Is token `a` more likely than `b`? */
const likelier = (a: number, b: number, scores: Float32Array): boolean =>
  scores[a]! > scores[b]! || (scores[a]! === scores[b]! && a < b);
