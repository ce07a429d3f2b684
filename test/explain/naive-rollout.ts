/** Attention rollout as its paper writes it, whole matrices in double precision: the oracle of `rollout`, of which it shares no line. */

export type Square = number[][];

/** The mean over heads of [heads, size, size], values of one batch item from `offset` on. */
export function headMean(values: ArrayLike<number>, heads: number, size: number, offset = 0): Square {
  return Array.from({ length: size }, (_, row) =>
    Array.from({ length: size }, (_, column) => {
      let sum = 0;
      for (let head = 0; head < heads; head++) sum += values[offset + (head * size + row) * size + column]!;
      return sum / heads;
    }),
  );
}

const withResidual = (a: Square): Square => a.map((row, r) => row.map((value, c) => 0.5 * value + (r === c ? 0.5 : 0)));

const times = (a: Square, b: Square): Square =>
  a.map((row) => b[0]!.map((_, c) => row.reduce((sum, value, k) => sum + value * b[k]![c]!, 0)));

const identity = (size: number): Square =>
  Array.from({ length: size }, (_, r) => Array.from({ length: size }, (_, c) => (r === c ? 1 : 0)));

/** The product of all layers, the last one leftmost. */
const product = (layers: readonly Square[], size: number): Square =>
  layers.reduce((result, layer) => times(withResidual(layer), result), identity(size));

/**
 * Shares of all inputs for every row of the last decoder layer.
 *
 * @param vision [frame][layer] square matrices of a frame's tokens.
 * @param decoder [layer] square matrices over image and text tokens.
 */
export function naiveRollout(vision: readonly (readonly Square[])[], decoder: readonly Square[]): Square {
  const all = decoder[0]!.length;
  const perFrame = vision[0]![0]!.length;
  const tower = identity(all); // text tokens pass it by
  vision.forEach((layers, frame) => {
    product(layers, perFrame).forEach((row, r) => {
      row.forEach((value, c) => {
        tower[frame * perFrame + r]![frame * perFrame + c] = value;
      });
    });
  });
  return times(product(decoder, all), tower);
}
