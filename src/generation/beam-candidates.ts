import { argMax, logNormalizer, logSumExp, workingCopies } from './log-softmax.js';
import { applyAll } from './logits-processors.js';
import type { LogitsProcessor } from './types.js';

/** Next-token log-probabilities of one beam. */
export interface ScoredRow {
  /** What the search ranks by: log-probabilities with the processors applied. */
  readonly scores: Float32Array;
  /** log-softmax of the raw logits. */
  readonly rawLogProb: (id: number) => number;
}

/** Turns the logits of an image's row number `row`, whose tokens are `ids`, into scores; good until the row's next step. */
export type RowScorer = (logits: Float32Array, row: number, ids: readonly number[], place: string) => ScoredRow;

/** Hugging Face: log-softmax first, processors act on log-probabilities, nothing is normalised again. Overwrites the logits. */
export function logSoftmaxThenProcess(processors: readonly LogitsProcessor[]): RowScorer {
  const copy = workingCopies();
  return (logits, row, ids, place) => {
    subtract(logits, logNormalizer(logits, place));
    const scores = processors.length === 0 ? logits : copy(logits, row);
    applyAll(processors, scores, ids);
    return { scores, rawLogProb: (id) => logits[id]! };
  };
}

/** The original: processors act on raw logits, log-softmax last. Overwrites the logits where there is no processor. */
export function processThenLogSoftmax(processors: readonly LogitsProcessor[]): RowScorer {
  const copy = workingCopies();
  return (logits, row, ids, place) => {
    const normalizer = logNormalizer(logits, place);
    if (processors.length === 0) {
      subtract(logits, normalizer);
      return { scores: logits, rawLogProb: (id) => logits[id]! };
    }
    const scores = copy(logits, row);
    applyAll(processors, scores, ids);
    const best = argMax(scores);
    if (best >= 0) subtract(scores, logSumExp(scores, scores[best]!));
    return { scores, rawLogProb: (id) => logits[id]! - normalizer };
  };
}

function subtract(scores: Float32Array, value: number): void {
  for (let id = 0; id < scores.length; id++) scores[id] = scores[id]! - value;
}

/** A continuation: token `id` behind beam `beam`, with the sum of log-probabilities that it would have. */
export interface Candidate {
  readonly beam: number;
  readonly id: number;
  readonly sum: number;
}

/**
 * The `count` best of `sums[beam] + scores[beam][id]` over all beams and tokens, best first, in one pass without a sort; of equals the
 * lower beam, then the lower id comes first. Forbidden tokens (-Infinity) are never candidates, so there may be fewer.
 */
export function bestCandidates(scores: readonly Float32Array[], sums: readonly number[], count: number): Candidate[] {
  const best: Candidate[] = [];
  let edge = Number.NEGATIVE_INFINITY; // nothing at or below gets in
  scores.forEach((row, beam) => {
    const base = sums[beam]!;
    for (let id = 0; id < row.length; id++) {
      const sum = base + row[id]!;
      if (sum > edge) {
        insert(best, { beam, id, sum }, count);
        if (best.length === count) edge = best[count - 1]!.sum;
      }
    }
  });
  return best;
}

function insert(best: Candidate[], candidate: Candidate, count: number): void {
  if (best.length === count) best.pop();
  let at = best.length;
  while (at > 0 && best[at - 1]!.sum < candidate.sum) at--;
  best.splice(at, 0, candidate);
}
