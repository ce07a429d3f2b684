/**
 * Draws docs/performance.svg: what the kernels reach under the roof that this machine's multiply-adds and memory set in WebAssembly, on
 * one thread, beside tfjs's wasm backend.
 *
 *     node --import tsx bench/roofline.ts [file]
 *
 * Every point is measured in turns with its limit and drawn at its share of it; the roof is the median of the limits measured.
 */
import { writeFileSync } from 'node:fs';
import { type Case, productCases } from '../packages/tfjs-backend-simd/bench/cases.js';
import { decodeCases } from '../packages/tfjs-backend-simd/bench/decode-cases.js';
import { measureCase, startLimits } from '../packages/tfjs-backend-simd/bench/limits.js';
import { drawRoofline, type Mark } from './roofline-svg.js';
import { load, machine, median } from './support.js';

/** What is drawn, by the name of its case: its label and where that stands, in pixels from the point. */
const DRAWN: Readonly<Record<string, Pick<Mark, 'label' | 'dx' | 'dy' | 'kind'>>> = {
  'decode step, f32, 1 row': { label: 'step, f32', dx: 14, dy: 16, kind: 'f32' },
  'decode step, bf16, 1 row': { label: 'step, bf16', dx: 14, dy: 14, kind: 'bf16' },
  'decode step, int8, 1 row': { label: 'step, int8', dx: 14, dy: -2, kind: 'int8' },
  'decode step, f32, 4 rows': { label: '4 beams, f32', dx: 14, dy: 16, kind: 'f32' },
  'decode step, bf16, 4 rows': { label: '4 beams, bf16', dx: 14, dy: -6, kind: 'bf16' },
  'decode step, int8, 4 rows': { label: '4 beams, int8', dx: 14, dy: 2, kind: 'int8' },
  'linear 197x768x3072': { label: 'linear 197 × 768 × 3072', dx: -8, dy: -42, kind: 'f32' },
  'linear 901x768x3072': { label: 'linear 901 × 768 × 3072', dx: -8, dy: -64, kind: 'f32' },
  'attention 12 heads, 197 tokens': { label: 'attention, 197 tokens', dx: -14, dy: 125, kind: 'f32' },
  'attention 12 heads, 901 tokens': { label: 'attention, 901 tokens', dx: -14, dy: 62, kind: 'f32' },
};

const limits = await startLimits();
const [tops, measured]: [Record<Case['bound'], number[]>, { one: Case; ratio: number; speedup: number | undefined }[]] =
  [{ peak: [], dots: [], read: [] }, []];
for (const one of [...decodeCases, ...productCases].filter(({ name }) => name in DRAWN)) {
  process.stderr.write(`measuring ${one.name} …\n`);
  const { ratio, top, took, stock } = await measureCase(one, limits);
  tops[one.bound].push(top);
  measured.push({ one, ratio, speedup: stock === undefined ? undefined : stock / took.median });
}
const roof = { peak: median(tops.peak), read: median(tops.read) };
const marks = measured.map(({ one, ratio, speedup }): Mark => {
  const intensity = one.flops / one.bytes;
  const rate = ratio * (one.bound === 'peak' ? roof.peak : roof.read * intensity);
  return { ...DRAWN[one.name]!, intensity, rate, ratio, speedup };
});
const facts = `${machine()}; ${load()}; one thread, relaxed SIMD`;
writeFileSync(process.argv[2] ?? new URL('../docs/performance.svg', import.meta.url), drawRoofline(marks, roof, facts));
console.log(`${facts}\npeak ${roof.peak.toFixed(1)} GFLOP/s, reading ${roof.read.toFixed(1)} GB/s`);
for (const { label, rate, ratio } of marks) {
  console.log(`${label.padEnd(28)}${rate.toFixed(1).padStart(6)} GFLOP/s  ${(100 * ratio).toFixed(0)} %`);
}
