import {
  concat,
  gather,
  matMul,
  reshape,
  slice,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tensor1d,
  tensor2d,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import { runFused } from './fused-kernel.js';
import { type ParamsOf, tensorSpec } from './param-spec.js';

/** torch.nn.Embedding: `weight` [rows, D]. */
export const embeddingSpec = (rows: number, features: number, layout: 'as-is' | 'embedding' = 'as-is') => ({
  weight: tensorSpec([rows, features], layout),
});
export type Embedding = ParamsOf<ReturnType<typeof embeddingSpec>>;

/** Rows of the table by id. ids: B lists of T integers below the table's length → float32 [B, T, D]. */
export function embed(p: Embedding, ids: readonly (readonly number[])[]): Tensor3D {
  return tidy(() => {
    const rows = gather(p.weight as Tensor2D, tensor1d(ids.flat(), 'int32')); // [B·T, D]
    return reshape(rows, [ids.length, ids[0]?.length ?? 0, rows.shape[1]]);
  });
}

/** torch.nn.Conv2d with stride = kernel and no bias: `weight` [D, 3, P, P] in the checkpoint, [P, P, 3, D] once loaded. */
export const patchEmbeddingSpec = (features: number, patch: number) => ({
  weight: tensorSpec([features, 3, patch, patch], 'conv2d'),
});
export type PatchEmbedding = ParamsOf<ReturnType<typeof patchEmbeddingSpec>>;

/**
 * Cuts images into P × P patches, row by row: [B, height, width, C] → [B·rows·columns, P·P·C]. Pixels right and below the last whole patch are
 * left out, as in a convolution.
 */
export function cutPatches(pixels: Tensor4D, patch: number): Tensor2D {
  return tidy(() => {
    const [batch, height, width, channels] = pixels.shape;
    const [rows, columns] = [Math.floor(height / patch), Math.floor(width / patch)];
    const whole = slice(pixels, 0, [batch, rows * patch, columns * patch, channels]);
    const cut = reshape(whole, [batch, rows, patch, columns, patch * channels]);
    return reshape(transpose(cut, [0, 1, 3, 2, 4]), [batch * rows * columns, patch * patch * channels]);
  });
}

/** Projects patches as `cutPatches` gives them, [M, P·P·3] → [M, D]. Patches do not overlap, so the convolution is one matrix product. */
export function embedPatches(p: PatchEmbedding, patches: Tensor2D): Tensor2D {
  return tidy(() => {
    const [patch, , channels, features] = p.weight.shape as [number, number, number, number];
    const weight = reshape(p.weight, [patch * patch * channels, features]) as Tensor2D;
    return runFused<Tensor2D>('GitLinear', { x: patches, weight }, { activation: 'none' }) ?? matMul(patches, weight);
  });
}

/** Projects each patch of the image: float32 [B, height, width, 3] → [B, rows·columns, D]. */
export function patchEmbedding(p: PatchEmbedding, pixels: Tensor4D): Tensor3D {
  return tidy(() => {
    const product = embedPatches(p, cutPatches(pixels, p.weight.shape[0]!));
    return reshape(product, [pixels.shape[0], product.shape[0] / pixels.shape[0], product.shape[1]]); // [B, I-1, D]
  });
}

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
