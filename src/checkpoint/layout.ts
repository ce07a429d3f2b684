import type { Layout } from '../layers/param-spec.js';

/**
 * Turns stored weights into the order that the layers use, on the host, once, at load. Rows arrive in groups, so that a matrix is
 * never in memory twice.
 */

/** Edge of the square that is turned at once: a cache line of floats each way. */
const TILE = 16;

/** The shape of a parameter after it is turned. */
export function turnedShape(shape: readonly number[], layout: Layout): number[] {
  if (layout === 'as-is') return [...shape];
  if (layout === 'linear') return [shape[1]!, shape[0]!];
  const [outputs, inputs, height, width] = shape as readonly [number, number, number, number];
  return [height, width, inputs, outputs];
}

/**
 * Puts `rows` (whole rows of a [out, in] matrix, from row `first` on) into `target`, which holds the turned [in, out] matrix.
 */
export function turnRows(
  rows: Float32Array,
  first: number,
  outputs: number,
  inputs: number,
  target: Float32Array,
): void {
  const count = rows.length / inputs;
  for (let rowTile = 0; rowTile < count; rowTile += TILE) {
    const rowEnd = Math.min(rowTile + TILE, count);
    for (let columnTile = 0; columnTile < inputs; columnTile += TILE) {
      const columnEnd = Math.min(columnTile + TILE, inputs);
      for (let column = columnTile; column < columnEnd; column++) {
        const to = column * outputs + first;
        for (let row = rowTile; row < rowEnd; row++) target[to + row] = rows[row * inputs + column]!;
      }
    }
  }
}

/** A convolution's kernels from OIHW to HWIO: for each output, [in, height, width] becomes [height, width, in]. */
export function turnKernels(values: Float32Array, shape: readonly number[], target: Float32Array): void {
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
