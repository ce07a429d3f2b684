import type { ExplainedWord, Grid, Look, TokenLook, View } from './types.js';

/** What the arrays that are read back are made of. */
export interface Lookout {
  readonly grid: Grid;
  /** T: text columns after the image columns. */
  readonly textTokens: number;
  readonly layers: number;
  readonly heads: number;
}

/** I: every frame has a class token before its patches. */
export const imageTokens = ({ frames, rows, columns }: Grid): number => frames * (1 + rows * columns);

/** Splits shares of I image columns, and of text columns behind them, into patches, class tokens and text. */
export function splitRow(row: Float32Array, grid: Grid): Look {
  const text = row.subarray(imageTokens(grid)).reduce((sum, share) => sum + share, 0);
  return { ...splitImage(row, grid), text };
}

function splitImage(columns: ArrayLike<number>, { frames, rows, columns: across }: Grid): Omit<Look, 'text'> {
  const perFrame = rows * across;
  const patches = new Float32Array(frames * perFrame);
  let classToken = 0;
  for (let frame = 0, from = 0; frame < frames; frame++) {
    classToken += columns[from++]!;
    for (let patch = 0; patch < perFrame; patch++) patches[frame * perFrame + patch] = columns[from++]!;
  }
  return { patches, classToken };
}

/** Row `n` of T' rows of every layer's [H, T', I + T] as [layers, heads, I] and the sums of the text columns [layers, heads]. */
export function headColumns(
  layerRows: readonly Float32Array[],
  { grid, textTokens, layers, heads }: Lookout,
  n: number,
  count: number,
): Pick<TokenLook, 'decoder' | 'toText'> {
  const image = imageTokens(grid);
  const width = image + textTokens;
  const decoder = new Float32Array(layers * heads * image);
  const toText = new Float32Array(layers * heads);
  layerRows.forEach((rows, layer) => {
    for (let head = 0; head < heads; head++) {
      const at = (head * count + n) * width;
      const to = layer * heads + head;
      decoder.set(rows.subarray(at, at + image), to * image);
      toText[to] = rows.subarray(at + image, at + width).reduce((sum, share) => sum + share, 0);
    }
  });
  return { decoder, toText };
}

/** The mean over all layers and heads. */
export const meanLook = (
  decoder: Float32Array,
  toText: Float32Array,
  { grid, layers, heads }: Pick<Lookout, 'grid' | 'layers' | 'heads'>,
): Look => meanOfHeads({ decoder, toText }, grid, 0, layers * heads);

function meanOfHeads(look: Pick<TokenLook, 'decoder' | 'toText'>, grid: Grid, first: number, count: number): Look {
  const image = imageTokens(grid);
  const columns = new Float64Array(image);
  let text = 0;
  for (let head = first; head < first + count; head++) {
    for (let i = 0; i < image; i++) columns[i]! += look.decoder[head * image + i]! / count;
    text += look.toText[head]! / count;
  }
  return { ...splitImage(columns, grid), text };
}

/** A token or word as one view shows it. */
export function lookOf(
  word: Pick<ExplainedWord, 'decoder' | 'toText' | 'mean' | 'rollout'>,
  view: View,
  { grid, heads }: Pick<Lookout, 'grid' | 'heads'>,
): Look {
  if (view === 'mean') return word.mean;
  if (view === 'rollout') return word.rollout;
  const { layer, head } = view;
  if (head === undefined) return meanOfHeads(word, grid, layer * heads, heads);
  return meanOfHeads(word, grid, layer * heads + head, 1);
}

/** The mean of arrays of one length. */
export function meanOf(arrays: readonly Float32Array[]): Float32Array {
  if (arrays.length === 1) return arrays[0]!;
  const sums = new Float64Array(arrays[0]!.length);
  for (const array of arrays) for (let i = 0; i < sums.length; i++) sums[i]! += array[i]! / arrays.length;
  return Float32Array.from(sums);
}

/** The mean of looks, which is a look again: its shares add up to 1. */
export function lookMean(looks: readonly Look[]): Look {
  const average = (value: (look: Look) => number) => looks.reduce((sum, look) => sum + value(look) / looks.length, 0);
  return {
    patches: meanOf(looks.map(({ patches }) => patches)),
    classToken: average(({ classToken }) => classToken),
    text: average(({ text }) => text),
  };
}
