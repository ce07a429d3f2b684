/**
 * Entry point of parity (Node): compares this implementation with reference numbers on the current backend. docs/parity.md describes the case layouts.
 *
 * @module
 */
export type { ParityRow, Verdict } from './cases.js';
export type { ParityOptions, ParitySummary } from './run-parity.js';
export { formatParityTable, runParity, summarizeParity } from './run-parity.js';
