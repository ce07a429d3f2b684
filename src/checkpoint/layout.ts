import type { Layout } from '../layers/param-spec.js';

/**
 * Transposes stored weights into the order that the layers use, on the host, once, at load. Rows arrive in groups, so that a matrix is
 * never in memory twice.
 */

/** Rows that are transposed together: their floats are side by side in the target, so that lines of the cache are filled at once. */
export const ROW_GROUP = 8;
/** Columns to a strip: as many lines of the target are being filled at a time, and must stay in the cache. */
const COLUMNS = 16;

/** The shape of a parameter after it is transposed. */
export function transposedShape(shape: readonly number[], layout: Layout): number[] {
  if (layout === 'as-is') return [...shape];
  if (layout === 'linear') return [shape[1]!, shape[0]!];
  const [outputs, inputs, height, width] = shape as readonly [number, number, number, number];
  return [height, width, inputs, outputs];
}

/**
 * Puts `rows` (whole rows of a [out, in] matrix, from row `first` on) into `target`, which holds the transposed [in, out] matrix.
 * Returns whether all of them are finite: looking at each number once more would take as long again.
 */
export function transposeRows(
  rows: Float32Array,
  first: number,
  outputs: number,
  inputs: number,
  target: Float32Array,
): boolean {
  const count = rows.length / inputs;
  const whole = count - (count % ROW_GROUP);
  let zero = 0;
  for (let strip = 0; strip < inputs; strip += COLUMNS) {
    const end = Math.min(strip + COLUMNS, inputs);
    for (let row = 0; row < whole; row += ROW_GROUP) {
      zero += transposeEightRows(rows, row * inputs, strip, end, target, first + row, outputs, inputs);
    }
    for (let row = whole; row < count; row++) {
      for (let column = strip; column < end; column++) {
        const value = rows[row * inputs + column]!;
        zero += value * 0;
        target[column * outputs + first + row] = value;
      }
    }
  }
  return zero === 0;
}

/**
 * Eight rows of one strip of columns, written out: the loop over them would cost more than the copying. Returns the sum of all values
 * times 0, which is 0 for finite ones and NaN for the others.
 */
function transposeEightRows(
  rows: Float32Array,
  start: number,
  begin: number,
  end: number,
  target: Float32Array,
  at: number,
  outputs: number,
  inputs: number,
): number {
  let left = 0;
  let right = 0;
  let to = begin * outputs + at;
  for (let column = begin; column < end; column++) {
    const from = start + column;
    const a = rows[from]!;
    const b = rows[from + inputs]!;
    const c = rows[from + 2 * inputs]!;
    const d = rows[from + 3 * inputs]!;
    const e = rows[from + 4 * inputs]!;
    const f = rows[from + 5 * inputs]!;
    const g = rows[from + 6 * inputs]!;
    const h = rows[from + 7 * inputs]!;
    left += a * 0 + b * 0 + (c * 0 + d * 0);
    right += e * 0 + f * 0 + (g * 0 + h * 0);
    target[to] = a;
    target[to + 1] = b;
    target[to + 2] = c;
    target[to + 3] = d;
    target[to + 4] = e;
    target[to + 5] = f;
    target[to + 6] = g;
    target[to + 7] = h;
    to += outputs;
  }
  return left + right;
}

/** A convolution's kernels from OIHW to HWIO: for each output, [in, height, width] becomes [height, width, in]. */
export function transposeKernels(values: Float32Array, shape: readonly number[], target: Float32Array): void {
  const [outputs, inputs, height, width] = shape as readonly [number, number, number, number];
  const area = height * width;
  for (let output = 0; output < outputs; output++) {
    for (let input = 0; input < inputs; input++) {
      const from = (output * inputs + input) * area;
      for (let pixel = 0; pixel < area; pixel++) {
        target[(pixel * inputs + input) * outputs + output] = values[from + pixel]!;
      }
    }
  }
}
