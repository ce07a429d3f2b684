/**
 * Entry point of parity (Node): compares this implementation with reference numbers on the current backend. docs/parity.md describes the case layouts.
 *
 * @module
 */

import { join } from 'node:path';
import { Image2TextError, OptionError } from '../errors.js';
import {
  type CaseKind,
  type Folder,
  type Found,
  failed,
  notRun,
  openModelCache,
  type ParityCase,
  type ParityRow,
  type ParityScope,
  unknownFiles,
  walkFolders,
} from './cases.js';
import { fullSizeCases } from './full-size-cases.js';
import { generationCases, originalBeamCases } from './generation-cases.js';
import { imageCases } from './image-cases.js';
import { manifestCases } from './manifest-cases.js';
import { checkpointCases, modelCases } from './model-cases.js';
import { normalizeCases, preprocessingCases, resizeCases } from './preprocessing-cases.js';
import { samplingCases } from './sampling-cases.js';
import { metricsCases, tokenizerCases } from './text-cases.js';
import { finetuneCases } from './training-cases.js';

export type { ParityRow, Verdict } from './cases.js';

/** Every kind of case, in the order in which they look at a folder. */
const CASE_KINDS: readonly CaseKind[] = [
  manifestCases,
  checkpointCases,
  fullSizeCases,
  generationCases,
  originalBeamCases,
  samplingCases,
  imageCases,
  resizeCases,
  normalizeCases,
  preprocessingCases,
  tokenizerCases,
  metricsCases,
  finetuneCases,
  modelCases,
  unknownFiles,
];

export interface ParityOptions {
  /** Runs only the cases whose name contains this, or matches it as a whole where it has a `*`. */
  readonly only?: string;
  readonly signal?: AbortSignal;
}

/**
 * Finds the parity cases under a folder (docs/parity.md) and runs them on the current tfjs backend, one row for each comparison as it
 * is made. A broken case is a row `fail`, one that cannot be run a row `not run`; neither stops the others. Leaves no tensor behind.
 *
 * @throws OptionError when the path is not a folder or no case is found in it; the signal's reason.
 */
export async function* runParity(directory: string, options: ParityOptions = {}): AsyncGenerator<ParityRow> {
  const { only, signal } = options;
  const models = openModelCache(signal);
  const scope: ParityScope = { models, signal, asked: only !== undefined && /[^*]/.test(only) };
  const wanted = matcher(only);
  const claimedBelow = new Set<string>(); // paths of files of later folders
  let cases = 0;
  try {
    for await (const folder of walkFolders(directory)) {
      for (const parityCase of (await findCases(folder, claimedBelow)).filter(({ name }) => wanted(name))) {
        signal?.throwIfAborted();
        cases++;
        yield* runCase(parityCase, scope);
      }
    }
  } finally {
    models.dispose();
  }
  if (cases > 0) return;
  const detail = only === undefined ? 'no parity case in this folder or below it' : `no case matches ${only}`;
  throw new OptionError({ file: directory, code: 'no-cases', detail });
}

/** Each kind in turn takes its files; what is left and looks like a case is named, never passed over in silence. */
async function findCases(folder: Folder, claimedBelow: Set<string>): Promise<ParityCase[]> {
  const cases: ParityCase[] = [];
  let unclaimed = folder.files.filter((file) => !claimedBelow.has(join(folder.path, file)));
  for (const kind of CASE_KINDS) {
    const found = await findKind(kind, folder, unclaimed);
    cases.push(...found.cases);
    unclaimed = unclaimed.filter((file) => !found.claims.includes(file));
    for (const file of found.claims) if (file.includes('/')) claimedBelow.add(join(folder.path, file));
  }
  return cases;
}

/** What a kind finds; a file that it cannot read becomes a case that fails, and the search goes on without it. */
async function findKind(kind: CaseKind, folder: Folder, unclaimed: readonly string[]): Promise<Found> {
  try {
    return (await kind.find(folder, unclaimed)) ?? { cases: [], claims: [] };
  } catch (error) {
    const file = error instanceof Image2TextError ? error.file : undefined;
    const message = error instanceof Error ? error.message : String(error);
    if (file === undefined || !unclaimed.includes(file)) {
      return { cases: [brokenCase(folder.label, message)], claims: [] };
    }
    const name = `${folder.label}/${file}`;
    const rest = await findKind(
      kind,
      folder,
      unclaimed.filter((other) => other !== file),
    );
    return { cases: [brokenCase(name, message), ...rest.cases], claims: [file, ...rest.claims] };
  }
}

function brokenCase(name: string, message: string): ParityCase {
  return {
    name,
    async *run() {
      yield failed(name, '-', message);
    },
  };
}

async function* runCase(parityCase: ParityCase, scope: ParityScope): AsyncGenerator<ParityRow> {
  try {
    yield* parityCase.run(scope);
  } catch (error) {
    scope.signal?.throwIfAborted();
    const unsupported = error instanceof Image2TextError && error.unsupported;

    const message = error instanceof Error ? error.message : String(error);
    yield unsupported ? notRun(parityCase.name, '-', message) : failed(parityCase.name, '-', message);
  }
}

/** `*` stands for anything; without one, a part of the name is enough. */
function matcher(only: string | undefined): (name: string) => boolean {
  if (only === undefined) return () => true;
  if (!only.includes('*')) return (name) => name.includes(only);
  const parts = only.split(/\*+/).map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'));
  const pattern = new RegExp(`^${parts.join('.*')}$`, 's');
  return (name) => pattern.test(name);
}

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
