import type { Tensor } from '@tensorflow/tfjs-core';
import { backend, tensor } from '@tensorflow/tfjs-core';

/**
 * What is added to a forbidden score. Finite, because WGSL and half floats promise nothing for infinities: large enough that its
 * exponential is zero beside any allowed column. Future columns get twice the amount of padding, so that a row whose every
 * allowed column is padding (Hugging Face's text-only left padding) averages those columns and still never looks ahead.
 */
export function forbiddenScores(): { readonly padding: number; readonly future: number } {
  return backend().floatPrecision() === 16 ? { padding: -3e4, future: -6e4 } : { padding: -1e9, future: -2e9 };
}

/**
 * Mask of T new text tokens over S = past + T text columns: a token sees the columns up to its own.
 * Undefined for T = 1 without padding, where everything is allowed.
 *
 * @param keyMask 0 where a column is padding, else 1, one list of S per row.
 * @returns float32 [T, S], or [B, T, S] with a keyMask; added to the scores.
 */
export function textMask(
  newTokens: number,
  past: number,
  keyMask?: readonly (readonly number[])[],
): Tensor | undefined {
  const columns = past + newTokens;
  const padded = keyMask?.some((row) => row.includes(0)) ?? false;
  if (newTokens === 1 && !padded) return undefined;
  const { padding, future } = forbiddenScores();
  const rows = padded && keyMask !== undefined ? keyMask : [undefined];
  const values = new Float32Array(rows.length * newTokens * columns);
  let at = 0;
  for (const row of rows) {
    for (let t = 0; t < newTokens; t++) {
      for (let s = 0; s < columns; s++, at++) {
        if (s > past + t) values[at] = future;
        else if (row !== undefined && row[s] === 0) values[at] = padding;
      }
    }
  }
  return tensor(values, padded ? [rows.length, newTokens, columns] : [newTokens, columns]);
}
