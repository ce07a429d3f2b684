import {
  add,
  backend,
  concat,
  expandDims,
  matMul,
  mul,
  reshape,
  slice,
  softmax,
  type Tensor,
  type Tensor3D,
  type Tensor4D,
  tensor,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import { runFused } from './fused-kernel.js';

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

/** Keys and values of one layer, heads apart: both float32 [rows, H, S, K]. */
export interface KeyValue {
  readonly key: Tensor4D;
  readonly value: Tensor4D;
}

/** What a query may attend to: columns of the image, shared by consecutive rows, and columns of the row's own text. */
export interface AttentionColumns {
  /** [N, H, I, K]; with R query rows, row r looks at image floor(r·N/R). Every row sees all of it. */
  readonly image?: KeyValue | undefined;
  /** [R, H, S, K] */
  readonly text?: KeyValue | undefined;
  /** Added to the text scores: [T, S] or [R, T, S]. */
  readonly textMask?: Tensor | undefined;
}

/** [B, T, D] → [B, H, T, K] with D = H·K. */
export function splitHeads(x: Tensor3D, heads: number): Tensor4D {
  const [batch, tokens, features] = x.shape;
  if (tokens === 1) return reshape(x, [batch, heads, 1, features / heads]); // nothing to move
  return tidy(() => transpose<Tensor4D>(reshape(x, [batch, tokens, heads, features / heads]), [0, 2, 1, 3]));
}

/** [B, H, T, K] → [B, T, H·K]. */
export function mergeHeads(x: Tensor4D): Tensor3D {
  return tidy(() => {
    const [batch, heads, tokens, width] = x.shape;
    return reshape(tokens === 1 ? x : transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * width]);
  });
}

/**
 * softmax(q·kᵀ/√K + mask)·v over image and text columns together (Vaswani et al., arXiv 1706.03762), heads merged.
 * q: float32 [R, H, T, K] → [R, T, D]. The image's keys and values are not copied for the rows that share them.
 *
 * @param probabilities receives the attention weights, [R, H, T, I + S], image columns first; asking for them takes the composed path.
 */
export function attend(q: Tensor4D, columns: AttentionColumns, probabilities?: (p: Tensor4D) => void): Tensor3D {
  const { image, text, textMask } = columns;
  const inputs = {
    q,
    key: text?.key,
    value: text?.value,
    imageKey: image?.key,
    imageValue: image?.value,
    mask: textMask,
  };
  const inOne = probabilities === undefined ? runFused<Tensor3D>('GitAttention', inputs) : undefined;
  return inOne ?? tidy(() => mergeHeads(composedAttention(q, columns, probabilities)));
}

function composedAttention(q: Tensor4D, columns: AttentionColumns, probabilities?: (p: Tensor4D) => void): Tensor4D {
  const { image, text, textMask } = columns;
  const scaled: Tensor4D = mul(q, 1 / Math.sqrt(q.shape[3]));
  const scores: Tensor4D[] = [];
  if (image !== undefined) {
    const folded: Tensor4D = matMul(foldRows(scaled, image.key.shape[0]), image.key, false, true); // [N, H, (R/N)·T, I]
    scores.push(unfoldRows(folded, q.shape[0]));
  }
  if (text !== undefined) scores.push(addMask(matMul(scaled, text.key, false, true), textMask)); // [R, H, T, S]
  const weights = softmax(scores.length === 1 ? scores[0]! : concat(scores, 3)); // [R, H, T, I + S]
  probabilities?.(weights);
  const [rows, heads, tokens, all] = weights.shape;
  const imageTokens = image?.key.shape[2] ?? 0;
  const contexts: Tensor4D[] = [];
  if (image !== undefined) {
    const part = text === undefined ? weights : slice(weights, 0, [rows, heads, tokens, imageTokens]);
    contexts.push(unfoldRows(matMul(foldRows(part, image.value.shape[0]), image.value), rows)); // [R, H, T, K]
  }
  if (text !== undefined) {
    const part =
      image === undefined ? weights : slice(weights, [0, 0, 0, imageTokens], [rows, heads, tokens, all - imageTokens]);
    contexts.push(matMul(part, text.value)); // [R, H, T, K]
  }
  return contexts.length === 1 ? contexts[0]! : add(contexts[0]!, contexts[1]!);
}

function addMask(scores: Tensor4D, mask?: Tensor): Tensor4D {
  if (mask === undefined) return scores;
  return add(scores, mask.rank === 3 ? expandDims(mask, 1) : mask); // [R, 1, T, S] or [T, S]
}

/** Rows that share an image become further queries of it: [R, H, T, X] → [N, H, (R/N)·T, X]. */
function foldRows(x: Tensor4D, images: number): Tensor4D {
  const [rows, heads, tokens, last] = x.shape;
  if (rows === images) return x;
  const apart = reshape(x, [images, rows / images, heads, tokens, last]);
  return reshape(transpose(apart, [0, 2, 1, 3, 4]), [images, heads, (rows / images) * tokens, last]);
}

/** The inverse of `foldRows`: [N, H, (R/N)·T, X] → [R, H, T, X]. */
function unfoldRows(x: Tensor4D, rows: number): Tensor4D {
  const [images, heads, queries, last] = x.shape;
  if (rows === images) return x;
  const tokens = (queries * images) / rows;
  const apart = reshape(x, [images, heads, rows / images, tokens, last]);
  return reshape(transpose(apart, [0, 2, 1, 3, 4]), [rows, heads, tokens, last]);
}
