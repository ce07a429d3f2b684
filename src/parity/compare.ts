import type { CaseFile } from './case-file.js';
import type { ParityRow } from './parity-row.js';
import { failed, notRun } from './parity-row.js';

/** Numbers on the host, row-major. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** What a comparison is measured against. */
export interface Expectation {
  /** The float64 run where there is one, else the float32 run. */
  readonly expected: HostTensor;
  readonly referenceError?: number | undefined;
  /** `expected` is the float64 truth, so that error and reference error can be divided. */
  readonly isTruth: boolean;
  readonly tolerance: number;
}

/** The largest |a - b| and where it is; NaN counts as infinite, equal infinities as no difference. */
export function largestError(a: ArrayLike<number>, b: ArrayLike<number>): { error: number; index: number } {
  let error = 0;
  let index = -1;
  for (let i = 0; i < b.length; i++) {
    const difference = a[i] === b[i] ? 0 : Math.abs(a[i]! - b[i]!);
    const here = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (here > error) [error, index] = [here, i];
  }
  return { error, index };
}

/** Compares `ours` with the tensor of this name in a case file, by the tolerance that the file states or its numbers imply. */
export function compareTensor(caseName: string, name: string, ours: HostTensor, file: CaseFile): ParityRow {
  const expectation = expectationOf(name, file);
  if (expectation === undefined) {
    return notRun(caseName, name, 'no float64 run to judge by, and no "suggested_atol" or "atol" in the json');
  }
  return compareNumbers(caseName, name, ours, expectation);
}

/** Compares numbers; a difference in shape is a failure. */
export function compareNumbers(
  caseName: string,
  tensor: string,
  ours: HostTensor,
  { expected, referenceError, isTruth, tolerance }: Expectation,
): ParityRow {
  if (ours.shape.join() !== expected.shape.join()) {
    return failed(caseName, tensor, `ours has shape [${ours.shape}], the reference [${expected.shape}]`);
  }
  const { error, index } = largestError(ours.values, expected.values);
  const ratio = isTruth && referenceError !== undefined && referenceError > 0 ? error / referenceError : undefined;
  const at = `at [${coordinates(index, expected.shape)}]: ours ${ours.values[index]}, expected ${expected.values[index]}`;
  return {
    case: caseName,
    tensor,
    error,
    ...(referenceError === undefined ? {} : { referenceError }),
    ...(ratio === undefined ? {} : { ratio }),
    tolerance,
    verdict: error <= tolerance ? 'pass' : 'fail',
    ...(error <= tolerance ? {} : { note: at }),
  };
}

/** What a case file says of the tensor `name`; undefined where nothing tells how close is close enough. */
export function expectationOf(name: string, file: CaseFile): Expectation | undefined {
  const run = file.tensors.get(name);
  const truth = file.tensors.get(`${name}.f64`);
  const expected = truth ?? run;
  if (expected === undefined) return undefined;
  const both = truth !== undefined && run !== undefined;
  const referenceError = both ? largestError(run.values, truth.values).error : file.facts.f32_vs_f64_max_abs?.[name];
  const tolerance =
    file.facts.suggested_atol?.[name] ??
    file.facts.atol ??
    (both ? impliedTolerance(referenceError!, truth) : undefined);
  if (tolerance === undefined) return undefined;
  return { expected, referenceError, isTruth: truth !== undefined, tolerance };
}

/** Most that a tolerance of a case without a json may be, as a share of the largest value. */
const PLAUSIBLE = 1e-3;

/**
 * The rule by which the shared cases were given their tolerances: docs/parity.md. It stops at a thousandth of the largest value: a case whose own
 * two runs are further apart, or not finite, is broken, and must not be given a tolerance that passes anything.
 */
function impliedTolerance(referenceError: number, truth: HostTensor): number {
  let largest = 1;
  for (let i = 0; i < truth.values.length; i++) largest = Math.max(largest, Math.abs(truth.values[i]!));
  return Math.max(Math.min(20 * referenceError, PLAUSIBLE * largest), 2e-6 * largest);
}

/** The index of a row-major element as coordinates. */
function coordinates(index: number, shape: readonly number[]): number[] {
  const result: number[] = [];
  let rest = index;
  for (const size of [...shape].reverse()) {
    result.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return result;
}
