import type { Tensor2D } from '@tensorflow/tfjs-core';
import { concat, matMul, slice, tensor2d, tidy } from '@tensorflow/tfjs-core';

/**
 * A position table for another image size: the class row is kept, the square grid is resized bicubically
 * (a = -0.75, half-pixel centers, no antialiasing, borders clamped: torch's `interpolate` as CLIP and GIT use it).
 * table: float32 [1 + g·g, D] → [1 + rows·columns, D].
 *
 * Resizing is linear in the table, so it is one product with a matrix that has at most 16 non-zero weights a row.
 */
export function interpolatePositions(table: Tensor2D, rows: number, columns: number): Tensor2D {
  return tidy(() => {
    const grid = Math.round(Math.sqrt(table.shape[0] - 1));
    if (rows === grid && columns === grid) return table.clone();
    const positions = slice(table, [1, 0]); // [g·g, D]
    const weights = tensor2d(resizeMatrix(grid, rows, columns), [rows * columns, grid * grid]);
    return concat([slice(table, 0, [1, table.shape[1]]), matMul(weights, positions)], 0);
  });
}

/** Weights of the g × g source positions for each of rows × columns targets, row-major [rows·columns, g·g]. */
export function resizeMatrix(grid: number, rows: number, columns: number): Float32Array {
  const vertical = cubicTaps(grid, rows);
  const horizontal = cubicTaps(grid, columns);
  const matrix = new Float32Array(rows * columns * grid * grid);
  vertical.forEach((down, y) => {
    horizontal.forEach((across, x) => {
      const start = (y * columns + x) * grid * grid;
      for (const [row, a] of down) for (const [column, b] of across) matrix[start + row * grid + column]! += a * b;
    });
  });
  return matrix;
}

/** For each of `size` targets the four [source index, weight] pairs along one axis of length `grid`. */
function cubicTaps(grid: number, size: number): [number, number][][] {
  return Array.from({ length: size }, (_, target) => {
    const center = ((target + 0.5) * grid) / size - 0.5;
    const first = Math.floor(center) - 1;
    return [0, 1, 2, 3].map((tap): [number, number] => [
      Math.min(Math.max(first + tap, 0), grid - 1),
      cubic(Math.abs(center - (first + tap))),
    ]);
  });
}

/** Keys' cubic convolution kernel with a = -0.75 at distance 0 <= x <= 2. */
function cubic(x: number): number {
  const a = -0.75;
  return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : (((x - 5) * x + 8) * x - 4) * a;
}
