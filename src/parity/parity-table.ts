import type { ParityRow } from './parity-row.js';

/** How a run ended. */
export interface ParitySummary {
  readonly passed: number;
  readonly failed: number;
  readonly notRun: number;
  /** The largest error / reference error of all rows that have one; undefined where none has. */
  readonly worstRatio?: number;
}

export function summarizeParity(rows: readonly ParityRow[]): ParitySummary {
  const count = (verdict: ParityRow['verdict']) => rows.filter((row) => row.verdict === verdict).length;
  const ratios = rows.flatMap((row) => (row.ratio === undefined ? [] : [row.ratio]));
  return {
    passed: count('pass'),
    failed: count('fail'),
    notRun: count('not run'),
    ...(ratios.length === 0 ? {} : { worstRatio: Math.max(...ratios) }),
  };
}

const HEADINGS = ['case', 'tensor', 'error', 'reference', 'ratio', 'tolerance', 'verdict', 'note'] as const;
/** Columns of numbers stand to the right. */
const RIGHT = new Set([2, 3, 4, 5]);

/** The rows as a table for people, a line each, and the summary as last line. */
export function formatParityTable(rows: readonly ParityRow[]): string {
  const cells = rows.map((row) => [
    row.case,
    row.tensor,
    number(row.error),
    number(row.referenceError),
    row.ratio === undefined ? '' : row.ratio.toFixed(2),
    number(row.tolerance),
    row.verdict,
    row.note ?? '',
  ]);
  const table = [[...HEADINGS], ...cells];
  const widths = HEADINGS.map((_, column) => table.reduce((most, line) => Math.max(most, line[column]!.length), 0));
  const lines = table.map((line) =>
    line
      .map((cell, column) => (RIGHT.has(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
  return [...lines, '', summaryLine(rows)].join('\n');
}

function summaryLine(rows: readonly ParityRow[]): string {
  const { passed, failed, notRun, worstRatio } = summarizeParity(rows);
  const worst = rows.find((row) => row.ratio === worstRatio && worstRatio !== undefined);
  const ratio = worst === undefined ? '' : `; worst ratio ${worstRatio!.toFixed(2)} (${worst.case}, ${worst.tensor})`;
  return `${passed} passed, ${failed} failed, ${notRun} not run${ratio}`;
}

/** Exact counts as they are, measured errors with three digits. */
function number(value: number | undefined): string {
  if (value === undefined) return '';
  return Number.isInteger(value) ? `${value}` : value.toExponential(2);
}
