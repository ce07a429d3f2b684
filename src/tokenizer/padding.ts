import { OptionError } from '../errors.js';
import type { EncodeBatchOptions, EncodedBatch } from './tokenizer.js';

/** Widest row that is filled up: a width is memory, whatever the texts. */
const WIDTH_LIMIT = 1_000_000;

/**
 * How many ids of the text there is room for beside `added` ids; Infinity without a limit.
 *
 * @throws OptionError where `maxLength` is no whole number, or smaller than `added`
 */
export function roomFor(maxLength: number | undefined, added: number): number {
  if (maxLength === undefined) return Number.POSITIVE_INFINITY;
  if (Number.isSafeInteger(maxLength) && maxLength >= added) return maxLength - added;
  const detail = `must be a whole number of at least ${added}, not ${maxLength}`;
  throw new OptionError({ path: 'maxLength', code: 'out-of-range', detail });
}

/**
 * Fills rows of ids with `padId` on the right.
 *
 * @throws OptionError for a padding that does not exist, and for 'max-length' without `maxLength`
 */
export function padRows(
  rows: readonly (readonly number[])[],
  { padding = 'longest', maxLength }: EncodeBatchOptions,
  padId: number,
): EncodedBatch {
  const width = widthOf(rows, padding, maxLength);
  const fill = (row: readonly number[], value: number) =>
    new Array<number>(Math.max(0, width - row.length)).fill(value);
  return {
    inputIds: rows.map((row) => [...row, ...fill(row, padId)]), // [B, T]
    attentionMask: rows.map((row) => [...row.map(() => 1), ...fill(row, 0)]), // [B, T]
  };
}

function widthOf(rows: readonly (readonly number[])[], padding: string, maxLength: number | undefined): number {
  if (padding === 'none') return 0;
  if (padding === 'longest') return rows.reduce((width, row) => Math.max(width, row.length), 0);
  if (padding === 'max-length' && maxLength !== undefined && maxLength <= WIDTH_LIMIT) return maxLength;
  const detail =
    padding === 'max-length' ? `needs maxLength, at most ${WIDTH_LIMIT}` : "must be 'longest', 'max-length' or 'none'";
  throw new OptionError({ path: 'padding', code: 'illegal-option', detail });
}
