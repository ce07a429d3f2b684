import { fault } from '../fault.js';

/**
 * Undoes the filter of one row in place (PNG specification, section 9).
 * @param row the filtered bytes, without the filter byte. @param above the row above, already undone; zeros for the first of a pass.
 * @param step bytes of a whole pixel, at least 1.
 */
export function unfilter(filter: number, row: Uint8Array, above: Uint8Array, step: number): void {
  if (filter === 1) sub(row, step);
  else if (filter === 2) up(row, above);
  else if (filter === 3) average(row, above, step);
  else if (filter === 4) paeth(row, above, step);
  else if (filter !== 0) throw fault('png-filter', `filter type ${filter} does not exist`);
}

function sub(row: Uint8Array, step: number): void {
  for (let i = step; i < row.length; i++) row[i] = row[i]! + row[i - step]!;
}

function up(row: Uint8Array, above: Uint8Array): void {
  for (let i = 0; i < row.length; i++) row[i] = row[i]! + above[i]!;
}

function average(row: Uint8Array, above: Uint8Array, step: number): void {
  const first = Math.min(step, row.length);
  for (let i = 0; i < first; i++) row[i] = row[i]! + (above[i]! >> 1);
  for (let i = step; i < row.length; i++) row[i] = row[i]! + ((row[i - step]! + above[i]!) >> 1);
}

function paeth(row: Uint8Array, above: Uint8Array, step: number): void {
  const first = Math.min(step, row.length);
  for (let i = 0; i < first; i++) row[i] = row[i]! + above[i]!; // left and corner are 0, so the predictor is the byte above
  for (let i = step; i < row.length; i++) {
    const left = row[i - step]!;
    const up = above[i]!;
    const corner = above[i - step]!;
    const byLeft = Math.abs(up - corner);
    const byUp = Math.abs(left - corner);
    const byCorner = Math.abs(left + up - corner - corner);
    row[i] = row[i]! + (byLeft <= byUp && byLeft <= byCorner ? left : byUp <= byCorner ? up : corner);
  }
}
