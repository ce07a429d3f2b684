import type { ParityRow } from './parity-row.js';
import { exactRow } from './parity-row.js';

type Rows = readonly (readonly number[])[];

/** Rows of ids that must be the same; the error is how many rows are not. */
export function compareIdRows(caseName: string, tensor: string, ours: Rows, expected: Rows): ParityRow {
  const count = Math.max(ours.length, expected.length);
  const wrong: string[] = [];
  for (let row = 0; row < count; row++) {
    const difference = firstDifference(ours[row], expected[row]);
    if (difference !== undefined) wrong.push(`row ${row}${difference}`);
  }
  return exactRow(caseName, tensor, wrong.length, wrong[0]);
}

/** Where two rows of ids part, in words; undefined where they are the same. */
export function firstDifference(
  ours: readonly number[] | undefined,
  expected: readonly number[] | undefined,
): string | undefined {
  if (ours === undefined) return ' is missing in ours';
  if (expected === undefined) return ' is not in the reference';
  const at = Array.from({ length: Math.max(ours.length, expected.length) }).findIndex(
    (_, i) => ours[i] !== expected[i],
  );
  return at < 0 ? undefined : `, token ${at}: ours ${ours[at] ?? 'ended'}, expected ${expected[at] ?? 'no more'}`;
}
