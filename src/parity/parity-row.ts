/** One comparison: a tensor, a sequence or a file of a case, and how far ours is from it. */
export interface ParityRow {
  /** Folder and case, as `--only` matches it: `tiny-a/forward_b1`. */
  readonly case: string;
  /** What was compared: `decoder.layer.2`, `sequences`, `pixel_values`; `-` where the case did not get that far. */
  readonly tensor: string;
  /** Largest |ours - float64 truth|, or |ours - reference| where the reference has no float64 run; a count of wrong items for exact kinds. */
  readonly error?: number;
  /** The reference's own |float32 - float64|, largest. */
  readonly referenceError?: number;
  /** error / referenceError, where both are against float64 and the latter is not zero. */
  readonly ratio?: number;
  /** Most that `error` may be. 0: exact. */
  readonly tolerance?: number;
  readonly verdict: Verdict;
  /** Where and what the largest error is; or why it was not run. One line. */
  readonly note?: string;
}

export type Verdict = 'pass' | 'fail' | 'not run';

/** A comparison that was not made, and why. */
export const notRun = (caseName: string, tensor: string, why: string): ParityRow => ({
  case: caseName,
  tensor,
  verdict: 'not run',
  note: why,
});

/** A case that broke before a number was there. */
export const failed = (caseName: string, tensor: string, why: string): ParityRow => ({
  case: caseName,
  tensor,
  verdict: 'fail',
  note: why,
});

/** An exact comparison: `wrong` items differ; `first` says how the first of them does. */
export function exactRow(caseName: string, tensor: string, wrong: number, first?: string): ParityRow {
  const row = { case: caseName, tensor, error: wrong, tolerance: 0 };
  if (wrong === 0) return { ...row, verdict: 'pass' };
  return { ...row, verdict: 'fail', ...(first === undefined ? {} : { note: first }) };
}
