import { ConfigError } from '../errors.js';
import type { HostTensor } from './compare.js';

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
