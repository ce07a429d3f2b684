import { cpus, loadavg } from 'node:os';
import { GIT_BASE_RECIPE } from '../src/checkpoint/generated-weights.js';
import type { GeneratedSequence } from '../src/index.js';

/**
 * Weights whose captions go on until they are cut off, so that a length needs no rule on tokens: with one (`minNewTokens`) a search reads whole rows
 * of logits.
 */
export const ENDLESS_RECIPE = { ...GIT_BASE_RECIPE, add: [] };

/** The ids of a text that must have exactly so many. */
export function wordsOf(found: readonly (readonly GeneratedSequence[])[], tokens: number): readonly number[] {
  const { newIds } = found[0]![0]!;
  if (newIds.length !== tokens) throw new Error(`a caption of ${newIds.length} tokens, not ${tokens}`);
  return newIds;
}

/** Median. */
export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Milliseconds of one call: of CPU time (all threads of the process), or by the clock. */
async function once(body: () => unknown, clock: boolean): Promise<number> {
  const [start, began] = [process.cpuUsage(), performance.now()];
  await body();
  const { user, system } = process.cpuUsage(start);
  return clock ? performance.now() - began : (user + system) / 1000;
}

/**
 * Milliseconds of `runs` calls of each body, in turns, after one that is not counted. Backends with one thread keep one core busy, so
 * CPU time is their time on a quiet machine, also where others use the machine meanwhile.
 */
export async function timeTogether(
  runs: number,
  bodies: readonly (() => unknown)[],
  clock = false,
): Promise<number[][]> {
  const times: number[][] = bodies.map(() => []);
  for (let run = -1; run < runs; run++) {
    for (const [i, body] of bodies.entries()) {
      const took = await once(body, clock);
      if (run >= 0) times[i]!.push(took);
    }
  }
  return times;
}

export const ms = (value: number): string => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;

export const machine = (): string =>
  `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores; Node ${process.versions.node}, V8 ${process.versions.v8}`;

/** How busy the machine is: processes that want a core, this one included. */
export const load = (): string => `load ${loadavg()[0]!.toFixed(1)}`;

/** Columns as wide as their widest cell, the first left, the others right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  ');
  return rows.map(line).join('\n');
}
