/**
 * Compares what the kernels reach with bench/ratios.json: shares of this machine's own limits, and of the stock wasm backend's time, so
 * that the numbers of one machine can be asked of another. Exits with 1 where one fell below `SLACK` of what is stored, three times in a row.
 *
 *     node --import tsx bench/check.ts [--write]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Case, productCases } from '../packages/tfjs-backend-simd/bench/cases.js';
import { decodeCases } from '../packages/tfjs-backend-simd/bench/decode-cases.js';
import { type Limits, measureCase, startLimits } from '../packages/tfjs-backend-simd/bench/limits.js';
import { load, machine, table } from './support.js';

/** A busy machine takes its toll of ratios too: what falls by a third is not noise. */
const SLACK = 0.67;
const TRIES = 3;

const CHECKED = [
  ...['linear 197x768x3072', 'linear 197x3072x768', 'linear 901x768x3072', 'attention 12 heads, 197 tokens'],
  ...['linear 197x768x3072, int8', 'linear 197x3072x768, int8'],
  ...['linear 197x768x3072, int8-fast', 'linear 197x3072x768, int8-fast'],
  ...['decode step, f32, 1 row', 'decode step, bf16, 1 row', 'decode step, int8, 1 row'],
  ...['decode step, f32, 4 rows', 'decode step, bf16, 4 rows', 'decode step, int8, 4 rows'],
  ...['decode step, int8-fast, 1 row', 'decode step, int8-fast, 4 rows'],
];
const FILE = new URL('ratios.json', import.meta.url);

/** Share of the machine's limit, and time on wasm for each on simd; 0 where wasm has no such kernel. */
interface Ratios {
  readonly limit: number;
  readonly wasm: number;
}

async function ratiosOf(one: Case, limits: Limits): Promise<Ratios> {
  const { ratio, took, stock } = await measureCase(one, limits);
  const rounded = (value: number) => Math.round(value * 100) / 100;
  return { limit: rounded(ratio), wasm: stock === undefined ? 0 : rounded(stock / took.median) };
}

const keeps = (got: Ratios, stored: Ratios) => got.limit >= SLACK * stored.limit && got.wasm >= SLACK * stored.wasm;

async function main(): Promise<void> {
  const write = process.argv.includes('--write');
  const stored = write ? {} : (JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, Ratios>);
  const limits = await startLimits();
  const found: Record<string, Ratios> = {};
  const rows = [['', 'of the limit', 'stored', 'against wasm', 'stored', '']];
  console.log(`${machine()}, ${load()}\n`);
  for (const name of CHECKED) {
    const one = [...productCases, ...decodeCases].find((each) => each.name === name)!;
    const old = stored[name];
    let got = await ratiosOf(one, limits);
    for (let turn = 1; turn < TRIES && old !== undefined && !keeps(got, old); turn++) got = await ratiosOf(one, limits);
    found[name] = got;
    const verdict = old === undefined ? 'new' : keeps(got, old) ? 'ok' : 'SLOWER';
    if (verdict === 'SLOWER') process.exitCode = 1;
    rows.push([name, ...[got.limit, old?.limit ?? '-', got.wasm, old?.wasm ?? '-'].map(String), verdict]);
  }
  console.log(table(rows));
  if (write) writeFileSync(FILE, `${JSON.stringify(found, null, 2)}\n`);
}

await main();
