import { ConfigError } from '../errors.js';
import { type CaseFile, exactRow, failed, type HostTensor, notRun, type ParityRow } from './cases.js';

/** What a comparison is measured against. */
interface Expectation {
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

type Rows = readonly (readonly number[])[];

/** Rows of ids that must be the same; the error is how many rows are not. */
export function compareIdRows(caseName: string, tensor: string, ours: Rows, expected: Rows): ParityRow {
  const count = Math.max(ours.length, expected.length);
  const wrong: string[] = [];
  for (let row = 0; row < count; row++) {
    const difference = firstDifference(ours[row], expected[row]);
    if (difference !== undefined) wrong.push(`row ${row}${difference}`);
  }
  return exactRow(caseName, tensor, wrong.length, wrong[0]);
}

/** Where two rows of ids part, in words; undefined where they are the same. */
export function firstDifference(
  ours: readonly number[] | undefined,
  expected: readonly number[] | undefined,
): string | undefined {
  if (ours === undefined) return ' is missing in ours';
  if (expected === undefined) return ' is not in the reference';
  const at = Array.from({ length: Math.max(ours.length, expected.length) }).findIndex(
    (_, i) => ours[i] !== expected[i],
  );
  return at < 0 ? undefined : `, token ${at}: ours ${ours[at] ?? 'ended'}, expected ${expected[at] ?? 'no more'}`;
}

/** Row r of the result is row r mod N: [N, …] → [rows, …]. */
export function tileRows(x: HostTensor, rows: number): HostTensor {
  const [count, ...rest] = x.shape as [number, ...number[]];
  if (count === rows) return x;
  const size = x.values.length / count;
  const values = new Float32Array(rows * size);
  for (let i = 0; i < values.length; i++) values[i] = x.values[i % x.values.length]!;
  return { shape: [rows, ...rest], values };
}

/** Some rows, in the order given: [N, …] → [rows, …]. Throws ConfigError for a row that is not there. */
export function takeRows(x: HostTensor, rows: readonly number[], file: string): HostTensor {
  const [count, ...rest] = x.shape as [number, ...number[]];
  const odd = rows.find((row) => row < 0 || row >= count);
  if (odd !== undefined) {
    throw new ConfigError({ file, path: 'images', code: 'case-layout', detail: `there is no row ${odd} of ${count}` });
  }
  const size = x.values.length / count;
  const values = new Float32Array(rows.length * size);
  for (let i = 0; i < values.length; i++) values[i] = x.values[rows[Math.floor(i / size)]! * size + (i % size)]!;
  return { shape: [rows.length, ...rest], values };
}

/** Side by side along the token axis: [B, I, D] and [B, T, D] → [B, I + T, D]. Without an image it is the text alone. */
export function concatTokens(image: HostTensor | undefined, text: HostTensor): HostTensor {
  if (image === undefined) return text;
  const [batch, tokens, features] = text.shape as [number, number, number];
  const [imageSize, textSize] = [image.shape[1]! * features, tokens * features];
  const values = new Float32Array(batch * (imageSize + textSize));
  for (let b = 0; b < batch; b++) {
    const at = b * (imageSize + textSize);
    for (let i = 0; i < imageSize; i++) values[at + i] = image.values[b * imageSize + i]!;
    for (let i = 0; i < textSize; i++) values[at + imageSize + i] = text.values[b * textSize + i]!;
  }
  return { shape: [batch, image.shape[1]! + tokens, features], values };
}

/**
 * Attention of both phases as one matrix: [B, H, I, I] and [B, H, T, I + T] → [B, H, I + T, I + T], zero where the image phase has no
 * text column to look at.
 */
export function concatAttention(image: HostTensor | undefined, text: HostTensor): HostTensor {
  if (image === undefined) return text;
  const [batch, heads, tokens, size] = text.shape as [number, number, number, number];
  const imageTokens = size - tokens;
  const values = new Float32Array(batch * heads * size * size);
  for (let head = 0; head < batch * heads; head++) {
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        const at = (head * size + row) * size + column;
        if (row >= imageTokens) values[at] = text.values[(head * tokens + row - imageTokens) * size + column]!;
        else if (column < imageTokens) {
          values[at] = image.values[(head * imageTokens + row) * imageTokens + column]!;
        }
      }
    }
  }
  return { shape: [batch, heads, size, size], values };
}

/** The part of a [B·F, …] batch that is frame f of each video: [B, …]. */
export function frameOf(x: HostTensor, frame: number, frames: number): HostTensor {
  const [rows, ...rest] = x.shape as [number, ...number[]];
  const size = x.values.length / rows;
  const values = new Float32Array((rows / frames) * size);
  for (let i = 0; i < values.length; i++) {
    values[i] = x.values[(Math.floor(i / size) * frames + frame) * size + (i % size)]!;
  }
  return { shape: [rows / frames, ...rest], values };
}

/** Some positions of an [A, B, …] tensor, each a row of the result: [positions, …]. */
export function pickRows(x: HostTensor, positions: readonly (readonly [number, number])[]): HostTensor {
  const [, columns, ...rest] = x.shape as [number, number, ...number[]];
  const size = rest.reduce((product, n) => product * n, 1);
  const values = new Float64Array(positions.length * size);
  positions.forEach(([a, b], row) => {
    for (let i = 0; i < size; i++) values[row * size + i] = x.values[(a * columns + b) * size + i]!;
  });
  return { shape: [positions.length, ...rest], values };
}

/** Counts the rows that differ and says how the first does. */
export function countRows<T>(
  caseName: string,
  tensor: string,
  rows: readonly T[],
  difference: (row: T) => string | undefined,
): ParityRow {
  const wrong = rows.flatMap((row, index) => {
    const how = difference(row);
    return how === undefined ? [] : [`row ${index + 1}${how}`];
  });
  return exactRow(caseName, tensor, wrong.length, wrong[0]);
}
