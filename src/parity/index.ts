/**
 * The parity door (Node): compares this implementation with reference numbers on the current backend. docs/parity.md describes the case layouts.
 *
 * @module
 */
export type { ParityRow, Verdict } from './parity-row.js';
export type { ParitySummary } from './parity-table.js';
export { formatParityTable, summarizeParity } from './parity-table.js';
export type { ParityOptions } from './run-parity.js';
export { runParity } from './run-parity.js';
