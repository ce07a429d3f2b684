import { BackendError } from '../errors.js';

/**
 * log(sum(exp(logits))), accumulated in double: `logits[id] - logNormalizer(logits)` is the log-probability of `id`.
 *
 * @throws BackendError `logits-not-finite` for NaN or an infinity anywhere: forbidden tokens get -Infinity only after this check.
 */
export function logNormalizer(logits: Float32Array, path: string): number {
  let max = Number.NEGATIVE_INFINITY;
  let zero = 0;
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!;
    zero += x * 0; // stays 0, unless x is NaN or infinite: one check without a branch per entry
    if (x > max) max = x;
  }
  if (zero !== 0) refuse(logits, path);
  return logSumExp(logits, max);
}

/** log(sum(exp(scores))) of scores that may hold -Infinity; -Infinity when all of them do. `max`: their largest. */
export function logSumExp(scores: Float32Array, max: number): number {
  if (max === Number.NEGATIVE_INFINITY) return max;
  let sum = 0;
  for (let id = 0; id < scores.length; id++) sum += Math.exp(scores[id]! - max);
  return max + Math.log(sum);
}

/** A working copy of a row, reused from row to row: a new array of a vocabulary's length each time costs as much as the exponentials. */
export function workingCopy(): (source: Float32Array) => Float32Array {
  let copy = new Float32Array();
  return (source) => {
    if (copy.length !== source.length) copy = new Float32Array(source.length);
    copy.set(source);
    return copy;
  };
}

/** Index of the largest score, the first of equals; -1 when there is none above -Infinity. */
export function argMax(scores: Float32Array): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < scores.length; id++) {
    const x = scores[id]!;
    if (x > max) {
      max = x;
      best = id;
    }
  }
  return best;
}

function refuse(logits: Float32Array, path: string): never {
  const id = logits.findIndex((x) => !Number.isFinite(x));
  throw new BackendError({
    path,
    code: 'logits-not-finite',
    detail: `the model gave ${logits[id]} for token ${id}: its weights, its input or the backend are broken`,
  });
}
